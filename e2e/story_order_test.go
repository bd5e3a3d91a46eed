package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/agentd/agentd/api"
)

// What depends on another starts when that is ready here, and stops before it.
//
// conformance: B6 E1 U2
func TestStoryDependencies(t *testing.T) {
	w := newRing(t, "n1")
	ready := w.file("n1", "ready")
	base := w.write("base.toml", daemon("base", volume+probed("readiness", "ready")))
	app := w.write("app.toml", daemon("app", `depends_on = ["base"]`))
	w.ok("n1", "apply", "-f", app, "-f", base)
	w.one("n1", "base")
	w.state("n1", "app", api.StateWaiting, func(d api.NodeDaemon) bool { return strings.Contains(d.Reason, "base") && d.PID == 0 })
	w.none("n1", "app")
	w.must(writeFile(ready, ""))
	running := w.one("n1", "app")

	// What runs goes on when its dependency fails.
	w.must(os.Remove(ready))
	w.state("n1", "base", api.StateUnhealthy, nil)
	w.state("n1", "app", api.StateRunning, nil)
	if now := w.one("n1", "app"); !now.Same(running) {
		t.Error("app was restarted because base is not ready")
	}
	w.must(writeFile(ready, ""))
	w.ready("n1", "base", 1)

	w.ok("n1", "drain", "n1", "--yes", "--wait=1m")
	w.none("n1", "app")
	w.none("n1", "base")
	ended := func(daemon string) api.Event {
		return w.happened("n1", daemon, "its end", func(e api.Event) bool { return e.Type == api.EventExit })
	}
	if a, b := ended("app"), ended("base"); a.Seq > b.Seq {
		t.Errorf("base ended before app, which depends on it: %+v, %+v", b, a)
	}
	w.ok("n1", "uncordon", "n1")
	w.one("n1", "base")
	w.one("n1", "app")

	w.refused(1, "n1", []string{"apply", "-f", w.write("base.toml", daemon("base", `depends_on = ["app"]`))}, "app", "base")
}

// runs counts how often a job with this marker file started on a node.
func (w *world) runs(node, marker string) int {
	w.t.Helper()
	b, err := os.ReadFile(w.file(node, marker))
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// A job runs once on each node, and not again when it is applied again or the
// agent starts anew; a change runs it, and one that fails ends after its attempts.
//
// conformance: C3 C4
func TestStoryJobs(t *testing.T) {
	w := newRing(t, "n1", "n2")
	job := func(more string) string {
		return "type = \"job\"\nargs = [\"--marker=/state/ran\", \"--exit-code=0\", \"--exit-after=50ms\"]\n" + more + volume
	}
	nodes := []string{"n1", "n2"}
	completed := func() {
		t.Helper()
		for _, n := range nodes {
			w.state(n, "once", api.StateCompleted, func(d api.NodeDaemon) bool { return d.ExitCode != nil && *d.ExitCode == 0 })
		}
	}
	count := func(want int) {
		t.Helper()
		for _, n := range nodes {
			if got := w.runs(n, "ran"); got != want {
				t.Errorf("it ran %d times on %s, want %d", got, n, want)
			}
		}
	}
	w.apply("n1", "once", job(""))
	completed()
	count(1)
	if out := w.ok("n1", "apply", "-f", w.Dir+"/once.toml"); !strings.Contains(out, "unchanged") {
		t.Errorf("the second apply says %q", out)
	}
	w.must(w.Node("n2").KillAgent())
	w.must(w.Node("n2").StartAgent(w.ctx))
	w.must(w.Agree(w.ctx, settle))
	completed()
	count(1)

	w.apply("n1", "once", job("env = { AGAIN = \"1\" }\n"))
	w.eventually("the changed job runs", func(context.Context) error {
		if a, b := w.runs("n1", "ran"), w.runs("n2", "ran"); a < 2 || b < 2 {
			return fmt.Errorf("it ran %d and %d times", a, b)
		}
		return nil
	})
	completed()
	count(2)

	w.apply("n1", "bad", `type = "job"
nodes = ["n1"]
args = ["--marker=/state/bad", "--exit-code=3", "--exit-after=50ms"]
[restart]
attempts = 2
backoff = "200ms"`+volume)
	w.state("n1", "bad", api.StateStopped, func(d api.NodeDaemon) bool {
		return d.ExitCode != nil && *d.ExitCode == 3 && strings.Contains(d.Reason, "2")
	})
	w.must(w.Node("n1").KillAgent())
	w.must(w.Node("n1").StartAgent(w.ctx))
	w.state("n1", "bad", api.StateStopped, nil)
	if got := w.runs("n1", "bad"); got != 2 {
		t.Errorf("a job of two attempts ran %d times", got)
	}
	if all, err := w.events(w.ctx, "n1", "bad"); err != nil || !slices.ContainsFunc(all, func(e api.Event) bool {
		return e.Type == api.EventExit && e.ExitCode != nil && *e.ExitCode == 3
	}) {
		t.Errorf("the events tell of no exit with 3: %+v, %v", all, err)
	}
}
