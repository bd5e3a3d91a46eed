package supervise

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/spec"
)

// A surge on a real containerd, seen from beside it: both run until the new one
// is ready, over an agent's restart too; then the new one alone, and a revision
// that crashes does it no harm.
//
// conformance: D3
// conformance: D6
func TestRealSurge(t *testing.T) {
	r := newReal(t)
	ctx, server, dir, ns, rt := r.ctx, r.server, r.dir, r.ns, r.runtime
	begin := func() (*Supervisor, func()) { return r.begin(dir, nil) }
	// alone returns what ctr shows once exactly the named containers run.
	alone := func(names ...string) map[string]lab.Container {
		t.Helper()
		got := map[string]lab.Container{}
		err := lab.Within(ctx, 20*time.Second, func(ctx context.Context) error {
			all, err := server.Containers(ctx, ns)
			if err != nil {
				return err
			}
			clear(got)
			for _, c := range all {
				if got[c.ID] = c; !c.Running() {
					return fmt.Errorf("%s does not run: %+v", c.ID, c)
				}
			}
			for _, n := range names {
				if _, ok := got[n]; !ok || len(got) != len(names) {
					return fmt.Errorf("there are %+v, want %v", got, names)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	rev := func(n int, edits ...func(*spec.Daemon)) Desired {
		return want("web", n, append(edits, surge(2*time.Second), func(d *spec.Daemon) {
			d.Image, d.Mounts = lab.TestImageRefs()[n-1], []spec.Mount{{Volume: "v", Target: "/v"}}
			d.Files = []spec.File{{Target: "/etc/app.conf", Content: d.Env["REV"]}}
		})...)
	}
	v1 := rev(1)
	v2 := rev(2, func(d *spec.Daemon) {
		d.Health.Readiness = &spec.Probe{Exec: []string{"/testd", "--have", "/v/go"}, Interval: spec.Duration(300 * time.Millisecond),
			Timeout: spec.Duration(2 * time.Second), Successes: 1, Failures: 2}
	})
	v3 := rev(3, func(d *spec.Daemon) { d.Args = []string{"--exit-code", "7"} })

	s, end := begin()
	defer func() { end() }()
	s.Set([]Desired{v1})
	running := func(r Report) bool { return r.State == string(Running) && r.Ready }
	first := until(t, s, "web", "running", running)
	old := alone("web")["web"]

	s.Set([]Desired{v2})
	both := alone("web", "web.next")
	rep := until(t, s, "web", "starting beside", func(r Report) bool {
		return r.State == string(Starting) && strings.Contains(r.Reason, "has not succeeded yet")
	})
	if rep.PID != first.PID || !rep.Ready || rep.Digest != v1.Digest || !both["web"].Same(old) {
		t.Errorf("the old one does not serve: %+v", rep)
	}
	for pid, want := range map[int]string{both["web"].PID: "1", both["web.next"].PID: "2"} {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/app.conf", pid)); err != nil || string(b) != want {
			t.Errorf("process %d reads %q, %v; want %q", pid, b, err, want)
		}
	}
	end()
	s, end = begin()
	s.Set([]Desired{v2})
	until(t, s, "web", "starting beside", func(r Report) bool { return r.State == string(Starting) && r.PID == first.PID })
	if now := alone("web", "web.next"); !now["web"].Same(old) || !now["web.next"].Same(both["web.next"]) {
		t.Errorf("an agent's restart restarted something: %+v, was %+v", now, both)
	}

	if err := os.WriteFile(filepath.Join(dir, "volumes", "v", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	second := until(t, s, "web", "taken over", func(r Report) bool { return running(r) && r.Container == "web.next" })
	if second.PID != both["web.next"].PID || second.Digest != v2.Digest || second.Restarts != 0 {
		t.Errorf("report after the surge: %+v", second)
	}
	if now := alone("web.next"); !now["web.next"].Same(both["web.next"]) {
		t.Errorf("the new one was restarted: %+v", now)
	}
	if code, err := rt.Exec(ctx, second.Container, []string{"/testd", "--have", "/v/go"}); err != nil || code != 0 {
		t.Errorf("exec in %s: %d, %v", second.Container, code, err)
	}

	// A revision that crashes, and back.
	s.Set([]Desired{v3})
	bad := until(t, s, "web", "backing off", func(r Report) bool { return r.State == string(BackOff) && strings.Contains(r.Reason, "code 7") })
	if bad.PID != second.PID || !bad.Ready || bad.Digest != v2.Digest {
		t.Errorf("report of a bad revision: %+v", bad)
	}
	t.Log(bad.Reason)
	s.Set([]Desired{v2})
	if now := alone("web.next"); !now["web.next"].Same(both["web.next"]) {
		t.Errorf("the good one was restarted: %+v", now)
	}
	until(t, s, "web", "running as before", func(r Report) bool { return running(r) && r.PID == second.PID && r.Restarts == 0 })
	s.Set([]Desired{gone("web", 4)})
	until(t, s, "web", "gone", func(r Report) bool { return r.State == string(Stopped) && r.Container == "" })
	alone()
}
