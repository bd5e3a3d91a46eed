package spec_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
)

func TestCycle(t *testing.T) {
	tests := []struct {
		name string
		deps map[string][]string
		want string
	}{
		{"nothing", nil, ""},
		{"a chain", map[string][]string{"a": {"b"}, "b": {"c"}}, ""},
		{"a diamond is no circle", map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"d"}}, ""},
		{"itself", map[string][]string{"a": {"a"}}, "a a"},
		{"two", map[string][]string{"a": {"b"}, "b": {"a"}}, "a b a"},
		{"a circle at the end of a chain", map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}, "b c d b"},
		{"one that is not there", map[string][]string{"a": {"gone"}}, ""},
		{"behind a dead end", map[string][]string{"a": {"dead", "z"}, "dead": nil, "z": {"a"}}, "a z a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(spec.Cycle(tt.deps), " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A circle is found exactly when there is no order to start everything in.
func TestCycleMeansNoOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		deps := rapid.MapOfN(names, rapid.SliceOfN(names, 0, 2), 0, 6).Draw(t, "deps")
		circle := spec.Cycle(deps)
		for i := 1; i < len(circle); i++ {
			if !slices.Contains(deps[circle[i-1]], circle[i]) {
				t.Fatalf("%v is no way through %v", circle, deps)
			}
		}
		if n := len(circle); n > 0 && circle[0] != circle[n-1] {
			t.Fatalf("%v does not come back", circle)
		}
		// Start whatever waits for nothing, until nothing is left or moves.
		started := map[string]bool{}
		for moved := true; moved; {
			moved = false
			for name, on := range deps {
				waits := slices.ContainsFunc(on, func(s string) bool { _, here := deps[s]; return here && !started[s] })
				if !started[name] && !waits {
					started[name], moved = true, true
				}
			}
		}
		if stuck := len(started) < len(deps); stuck != (circle != nil) {
			t.Fatalf("%v: circle %v, and %d of %d started", deps, circle, len(started), len(deps))
		}
	})
}
