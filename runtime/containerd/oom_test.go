package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The OOM killer's work is known even where the cgroup went before anybody
// could read it; and it is one container's only.
//
// conformance: C6
func TestVanishedOOM(t *testing.T) {
	root := t.TempDir()
	count := func(scope string, n int) {
		t.Helper()
		dir := filepath.Join(root, slice, scope)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.events"), fmt.Appendf(nil, "low 0\noom 9\noom_kill %d\noom_group_kill 0\n", n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := &Runtime{systemd: true, cgroups: hierarchies{all: []string{root}, unified: true}, ooms: map[string]struct{}{}}
	want := func(why, id string, want bool) {
		t.Helper()
		if got := r.vanishedOOM(id); got != want {
			t.Errorf("%s: %v, want %v", why, got, want)
		}
	}
	want("no slice", "a", false)
	count("", 2)
	count("agentd-child_agentd.scope", 2)
	want("only what a scope that is left counts", "a", false)
	count("", 3)
	want("one more than that", "a", true)
	if !r.sawOOM("a") {
		t.Error("it is not known of a afterwards")
	}
	want("counted once", "b", false)
	count("", 4)
	count("agentd-child_agentd.scope", 3)
	want("a kill in a scope that is left", "b", false)
	// The slice went with its last scope, and a new one counts from zero.
	if err := os.RemoveAll(filepath.Join(root, slice)); err != nil {
		t.Fatal(err)
	}
	want("no slice again", "b", false)
	count("", 1)
	want("the first of a new slice", "b", true)

	v1 := &Runtime{systemd: true, cgroups: hierarchies{all: []string{root}}, ooms: map[string]struct{}{}}
	if v1.vanishedOOM("c") {
		t.Error("version 1 has no such count")
	}
}
