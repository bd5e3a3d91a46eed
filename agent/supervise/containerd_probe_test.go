package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// Probes and hooks inside a real container: a command that hangs is killed and
// the container is not, a failed liveness restarts it with the reason, and the
// hooks run once each.
//
// conformance: C1
func TestRealProbesAndHooks(t *testing.T) {
	r := newReal(t)
	ctx, dir, rt := r.ctx, r.dir, r.runtime
	s, end := r.begin(dir, nil)
	defer end()

	volume := filepath.Join(dir, "volumes", "v")
	lines := func(name string) int {
		b, err := os.ReadFile(filepath.Join(volume, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Count(string(b), "\n")
	}
	command := func(args ...string) *spec.Probe {
		return &spec.Probe{Exec: append([]string{"/testd"}, args...), Interval: spec.Duration(300 * time.Millisecond),
			Timeout: spec.Duration(2 * time.Second), Successes: 1, Failures: 2}
	}
	hung := command() // runs for ever
	hung.Timeout = spec.Duration(200 * time.Millisecond)
	d := want("web", 1, func(d *spec.Daemon) {
		d.Image, d.Mounts = lab.TestImageRef, []spec.Mount{{Volume: "v", Target: "/v"}}
		d.Health = spec.Health{Liveness: command("--have", "/v/alive"), Readiness: hung}
		d.Hooks = spec.Hooks{
			PostStart: []string{"/testd", "--marker", "/v/alive", "--exit-code", "0"},
			PreStop:   []string{"/testd", "--marker", "/v/pre", "--exit-code", "0"},
		}
		d.Stop.Grace = spec.Duration(10 * time.Second)
	})
	s.Set([]Desired{d})
	first := until(t, s, "web", "unhealthy", func(r Report) bool { return r.State == string(Unhealthy) })
	if first.Ready || !strings.Contains(first.Reason, "readiness command /testd timed out after 200ms 2 times") {
		t.Errorf("report with a probe that hangs: %+v", first)
	}
	_ = lab.Pause(ctx, 3*time.Second)
	stats, err := rt.Stats(ctx, "web")
	if err != nil || stats.Pids > 40 { // two programs of Go and what runc needs to enter
		t.Errorf("processes pile up: %+v, %v", stats, err)
	}
	if r := until(t, s, "web", "unhealthy", func(r Report) bool { return r.State == string(Unhealthy) }); r.PID != first.PID || r.Restarts != 0 {
		t.Errorf("the hung probe hurt its container: %+v", r)
	}

	// Liveness.
	if n := lines("alive"); n != 1 {
		t.Errorf("post_start ran %d times", n)
	}
	if err := os.Remove(filepath.Join(volume, "alive")); err != nil {
		t.Fatal(err)
	}
	second := until(t, s, "web", "restarted", func(r Report) bool { return r.PID != 0 && r.PID != first.PID })
	if second.Restarts != 1 {
		t.Errorf("report after the restart: %+v", second)
	}
	err = lab.Within(ctx, 10*time.Second, func(context.Context) error {
		if lines("alive") != 1 || lines("pre") != 1 {
			return fmt.Errorf("post_start ran %d times and pre_stop %d", lines("alive"), lines("pre"))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := s.Restart(ctx, "web"); err != nil {
		t.Error(err)
	}
	s.Set([]Desired{gone("web", 2)})
	until(t, s, "web", "gone", func(r Report) bool { return r.State == string(Stopped) && r.Container == "" })
	if n := lines("pre"); n != 3 {
		t.Errorf("pre_stop ran %d times, want 3: unhealthy, restarted, deleted", n)
	}
	if _, err := rt.Stats(ctx, "web"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("after the delete: %v", err)
	}
}
