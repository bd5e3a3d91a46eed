package supervise

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// slow is a machine on which everything takes a while.
var slow = fake.Config{PullLatency: time.Second, StartLatency: 500 * time.Millisecond, StopLatency: 300 * time.Millisecond}

// The new one starts beside the old one, which goes when the new one has been
// ready for min_ready; the ids alternate.
//
// conformance: D3
// conformance: D6
func TestSurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, slow)
		defer r.end()
		files := func(d *spec.Daemon) {
			d.Files = []spec.File{{Target: "/etc/x", Content: d.Env["REV"]}}
			d.Image = "web:v" + d.Env["REV"]
		}
		v1, v2, v3 := want("web", 1, surge(5*time.Second), files), want("web", 2, surge(5*time.Second), files), want("web", 3, surge(5*time.Second), files)
		r.set(v1)
		r.after(10 * time.Second)
		first := r.is("web", Running)
		if r.rt.Count("web") != 1 || first.Container != "web" {
			t.Fatalf("the first start is no surge: %+v", first)
		}

		r.set(v2)
		if rep := r.is("web", Pulling); !rep.Ready || rep.PID != first.PID {
			t.Fatalf("report during the pull: %+v", rep)
		}
		r.after(2 * time.Second) // both run
		r.runs("web", "web.next")
		rep := r.is("web", Starting)
		if rep.PID != first.PID || rep.Digest != v1.Digest || !rep.Ready || !rep.ReadySince.Equal(first.ReadySince) {
			t.Fatalf("the report is not about the one that serves: %+v", rep)
		}
		if b := rep.Beside; b == nil || b.Container != "web.next" || b.PID == 0 || b.Revision != 2 || b.Digest != v2.Digest || b.ReadySince.IsZero() {
			t.Fatalf("the report does not tell of the new one: %+v", b)
		}
		for _, d := range []Desired{v1, v2} {
			if _, err := os.Stat(filesDir(r.dir, "web", d.Digest)); err != nil {
				t.Errorf("files of a container that runs: %v", err)
			}
		}
		if got := readCurrent(r.dir, "web"); got == nil || got.Digest != v1.Digest {
			t.Fatalf("handed over too early: %+v", got)
		}
		r.after(4 * time.Second)
		r.runs("web", "web.next")
		r.after(2 * time.Second)
		r.runs("web.next")
		rep = r.is("web", Running)
		if rep.Beside != nil || rep.Container != "web.next" || rep.Digest != v2.Digest || !rep.Ready || rep.Restarts != 0 || time.Since(rep.ReadySince) < 5*time.Second {
			t.Fatalf("report after the surge: %+v", rep)
		}
		if _, err := os.Stat(filesDir(r.dir, "web", v1.Digest)); !os.IsNotExist(err) {
			t.Errorf("files of a container that is gone: %v", err)
		}
		if _, there := r.rt.Instance("web"); there {
			t.Error("the old container is left behind")
		}

		// What runs under the other id crashes, is restarted by hand, and lives
		// through an agent's restart, like any other.
		r.rt.Crash("web.next", 1)
		r.after(time.Second)
		if rep := r.is("web", Running); rep.Container != "web.next" || rep.Restarts != 1 {
			t.Fatalf("report after a crash: %+v", rep)
		}
		if err := r.s.Restart(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		before := r.report("web")
		r.restart(v2)
		r.after(time.Second)
		if rep := r.is("web", Running); rep.Container != "web.next" || rep.PID != before.PID {
			t.Fatalf("report after an agent restart: %+v", rep)
		}

		r.set(v3)
		r.after(10 * time.Second)
		r.runs("web")
		if rep := r.is("web", Running); rep.Container != "web" || rep.Revision != 3 || r.rt.Count("web") != 2 {
			t.Fatalf("report %+v, %d at once", rep, r.rt.Count("web"))
		}
		r.set(gone("web", 4))
		r.after(5 * time.Second)
		r.runs()
	})
}

// A new one that fails leaves the old one serving, and is tried again.
//
// conformance: D3
func TestSurgeOfABadRevision(t *testing.T) {
	for _, way := range []string{"crash", "never ready", "no image", "no start"} {
		t.Run(way, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				machine := slow
				machine.Images = map[string]string{"web:v1": "sha256:1", "web:bad": "sha256:2", "web:good": "sha256:3"}
				machine.Program = func(s runtime.Spec) fake.Program {
					bad := s.Image == "web:bad"
					p := fake.Program{Exec: func(context.Context, []string) (int, error) {
						if bad && way == "never ready" {
							return 1, nil
						}
						return 0, nil
					}}
					p.Exits, p.After, p.Code = bad && way == "crash", time.Second, 7
					if bad && way == "no start" {
						p.FailStart = fmt.Errorf("exec: no such file")
					}
					return p
				}
				r := newRig(t, machine)
				defer r.end()
				v1 := want("web", 1, surge(3*time.Second), health(probe.Readiness))
				bad := want("web", 2, surge(3*time.Second), health(probe.Readiness), func(d *spec.Daemon) { d.Image = "web:bad" })
				good := want("web", 3, surge(3*time.Second), health(probe.Readiness), func(d *spec.Daemon) { d.Image = "web:good" })
				if way == "no image" {
					r.rt.SetImage("web:bad", "")
				}
				r.set(v1)
				r.after(10 * time.Second)
				first := r.is("web", Running)
				r.set(bad)
				for range 20 {
					r.after(10 * time.Second)
					rep := r.report("web")
					if rep.PID != first.PID || !rep.Ready || rep.Digest != v1.Digest || !slices.Contains(r.rt.Running(), "web") {
						t.Fatalf("the old one does not serve: %+v", rep)
					}
					if rep.TryingSince.IsZero() || !strings.Contains(strings.Join(rep.Reasons, "\n"), "revision 1 keeps running") {
						t.Fatalf("report %+v", rep)
					}
				}
				if way == "crash" {
					if n := r.rt.Starts("web.next"); n < 6 || n > 15 { // 500 ms doubling to 30 s
						t.Errorf("%d starts in 200 s", n)
					}
					// The old one is looked after meanwhile.
					r.rt.Crash("web", 1)
					r.after(time.Second)
					if rep := r.report("web"); rep.PID == 0 || rep.PID == first.PID || rep.Restarts != 1 || !rep.Ready {
						t.Fatalf("the old one was not restarted: %+v", rep)
					}
				}
				// A newer one takes the place of the bad one; the old one stays until it is ready.
				r.set(good)
				r.after(4 * time.Second)
				if !slices.Contains(r.rt.Running(), "web") {
					t.Fatalf("the old one went too early: %v", r.rt.Running())
				}
				r.after(10 * time.Second)
				r.runs("web.next")
				if rep := r.is("web", Running); rep.Revision != 3 || r.rt.Count("web") > 2 {
					t.Fatalf("report %+v, %d at once", rep, r.rt.Count("web"))
				}
			})
		})
	}
}

// Back to the old digest in the middle: the new one goes, nothing restarts.
//
// conformance: D2
// conformance: D3
func TestSurgeIsCalledOff(t *testing.T) {
	for wait := 100 * time.Millisecond; wait < 5*time.Second; wait += 250 * time.Millisecond {
		bubble(t, func(t *testing.T) {
			r := newRig(t, slow)
			defer r.end()
			v1, v2 := want("web", 1, surge(5*time.Second)), want("web", 2, surge(5*time.Second))
			r.set(v1)
			r.after(10 * time.Second)
			first := r.is("web", Running)
			r.set(v2)
			r.after(wait)
			r.set(v1)
			r.after(150 * time.Millisecond)
			r.set(v2) // and forth, and back
			r.after(150 * time.Millisecond)
			r.set(v1)
			r.after(10 * time.Second)
			r.runs("web")
			rep := r.is("web", Running)
			if rep.PID != first.PID || rep.Restarts != 0 || !rep.ReadySince.Equal(first.ReadySince) || r.rt.Starts("web") != 1 {
				t.Fatalf("after %v: %+v", wait, rep)
			}
			// What was taken away half-way comes back as if it had never been there.
			r.set(v2)
			r.after(wait)
			r.set(v1)
			r.after(150 * time.Millisecond)
			r.set(v2)
			r.after(20 * time.Second)
			if rep := r.is("web", Running); rep.Digest != v2.Digest || rep.Restarts != 0 || rep.ExitCode != nil {
				t.Fatalf("after %v: %+v", wait, rep)
			}
		})
	}
}

// An old container that takes its whole grace period to go holds up nothing
// that the new one needs, and no third one comes before it is gone.
//
// conformance: D3
func TestSurgeWithALongFarewell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var b bystander
		r := newRig(t, fake.Config{StopLatency: 20 * time.Second, Watch: b.watch})
		defer r.end()
		rev := func(n int) Desired { return want("web", n, surge(time.Second)) }
		r.set(rev(1))
		r.set(rev(2))
		r.after(2 * time.Second) // the old one is told to go
		r.runs("web", "web.next")
		first := r.is("web", Running)
		if first.Container != "web.next" || first.Beside != nil {
			t.Fatalf("report %+v", first)
		}
		r.rt.Crash("web.next", 1)
		r.after(0)
		r.runs("web", "web.next")
		if rep := r.is("web", Running); rep.PID == first.PID || rep.Restarts != 1 {
			t.Fatalf("the new one waits for the old one: %+v", rep)
		}
		again := r.report("web")
		r.set(rev(3))
		r.after(5 * time.Second)
		r.runs("web", "web.next")
		if rep := r.report("web"); rep.PID != again.PID || !rep.Ready {
			t.Fatalf("report %+v, was %+v", rep, again)
		}
		r.after(60 * time.Second)
		r.runs("web")
		if rep := r.is("web", Running); rep.Revision != 3 || b.most > 2 {
			t.Fatalf("report %+v, %d at once", rep, b.most)
		}
		r.set(rev(4))
		r.after(2 * time.Second)
		r.set(gone("web", 5))
		r.after(time.Minute)
		r.runs()
		if all, err := r.rt.List(t.Context()); err != nil || len(all) > 0 {
			t.Fatalf("left are %+v, %v", all, err)
		}
	})
}
