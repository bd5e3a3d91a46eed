package fake_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
)

func TestWatch(t *testing.T) {
	var got []string
	r := fake.New(fake.Config{Watch: func(c fake.Change) {
		got = append(got, fmt.Sprintf("%s %s %s asked=%t", c.Instance.ID, c.What, c.Instance.State, c.Asked))
	}})
	r.Import("img", "sha256:1")
	ensure := func(digest string) {
		t.Helper()
		s := testSpec("a")
		s.Labels[runtime.LabelDigest] = digest
		if _, err := r.Ensure(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	ensure("d1")
	ensure("d1") // adopted: nothing happened
	ensure("d2")
	r.Crash("a", 1)
	ensure("d2")
	r.PowerCut()
	if i, ok := r.Instance("a"); !ok || i.State != runtime.StateCreated || i.PID != 0 || i.Exit != nil {
		t.Errorf("after the power cut: %+v", i)
	}
	ensure("d2")
	if err := r.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a started running asked=false",
		"a ended stopped asked=true", "a removed stopped asked=true", "a started running asked=false",
		"a ended stopped asked=false", "a removed stopped asked=true", "a started running asked=false",
		"a ended stopped asked=false", "a removed created asked=true", "a started running asked=false",
		"a ended stopped asked=true", "a removed stopped asked=true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("saw\n%q, want\n%q", got, want)
	}
}
