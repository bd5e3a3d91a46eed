package chaos

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// begin starts a process with a daemon's mark and returns what ends it.
func begin(t *testing.T, mark string) (end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Env = []string{MarkEnv + "=" + mark}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	return end
}

// A watcher that cannot see a double proves nothing.
func TestWatcherSeesDoubles(t *testing.T) {
	ns := lab.TestNamespace()
	w := NewWatcher(ns)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	seen := func(n int) {
		t.Helper()
		err := lab.Within(t.Context(), 10*time.Second, func(context.Context) error {
			if got := len(w.Copies()["web"]); got != n {
				return fmt.Errorf("%d copies are seen, want %d", got, n)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	begin(t, ns+"x/web/1") // another namespace
	begin(t, ns+"/other/1")
	end := begin(t, ns+"/web/1")
	seen(1)
	end()
	seen(0)
	// One after the other is no double.
	end = begin(t, ns+"/web/2")
	seen(1)
	if d := w.Doubles(); len(d) > 0 {
		t.Fatalf("doubles where there are none: %q", d)
	}
	endTwo := begin(t, ns+"/web/3")
	err := lab.Within(t.Context(), 10*time.Second, func(context.Context) error {
		if len(w.Doubles()) == 0 {
			return errors.New("two copies live and are not seen")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	end()
	endTwo()
	if d := w.Doubles()[0]; !strings.Contains(d, "2 copies of web") {
		t.Errorf("the double is told as %q", d)
	}
	if n, gap := w.Looked(); n == 0 || gap <= 0 {
		t.Errorf("looked %d times, at most %v apart", n, gap)
	}
}

// Counts differ in what they count, not in the names that change.
func TestCensusDiffers(t *testing.T) {
	a := Census{"shims": {"a", "b"}, "leases": {"x"}}
	if diff := a.Differs(Census{"shims": {"b", "c"}, "leases": {"y"}}); diff != "" {
		t.Errorf("equal counts differ: %s", diff)
	}
	diff := a.Differs(Census{"shims": {"a"}, "mounts": {"m"}})
	for _, word := range []string{"2 shims, before it were 1", "1 leases, before it were 0", "0 mounts, before it were 1"} {
		if !slices.ContainsFunc(strings.Split(diff, "; "), func(s string) bool { return strings.HasPrefix(s, word) }) {
			t.Errorf("the difference %q does not say %q", diff, word)
		}
	}
}
