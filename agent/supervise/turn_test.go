package supervise

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// A daemon that waits for its turn says so, and is looked after as always.
//
// conformance: U2
func TestTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		r := newRig(t, c.machine())
		defer r.end()
		d := want("web", 1, health(probe.Readiness))
		r.set(d)
		r.after(20 * time.Second)
		before := r.is("web", Running)
		d.Turn = "its turn comes after web-1"
		r.set(d)
		rep := r.is("web", Waiting)
		if rep.Reason != d.Turn || !rep.Ready || rep.PID != before.PID || !rep.ReadySince.Equal(before.ReadySince) ||
			!slices.ContainsFunc(rep.Reasons[1:], func(s string) bool { return strings.HasPrefix(s, "runs revision 1") }) {
			t.Fatalf("report %+v", rep)
		}
		// What depends on it runs on and starts.
		api := want("api", 1, func(d *spec.Daemon) { d.DependsOn = []string{"web"} })
		r.set(d, api)
		r.after(time.Second)
		r.is("api", Running)

		// It crashes, and is back in place; again, and backs off.
		r.rt.Crash("web", 1)
		r.after(time.Second)
		if rep := r.is("web", Waiting); rep.Restarts != 1 || rep.PID == before.PID {
			t.Fatalf("report %+v", rep)
		}
		r.rt.Crash("web", 1)
		r.after(time.Millisecond)
		if rep := r.is("web", BackOff); !slices.Contains(rep.Reasons, d.Turn) || rep.Ready || !rep.ReadySince.IsZero() || rep.Alive {
			t.Fatalf("report %+v", rep)
		}
		r.after(20 * time.Second)
		c.set("readiness", 1)
		r.after(31 * time.Second)
		if rep := r.is("web", Unhealthy); !slices.Contains(rep.Reasons, d.Turn) || !rep.Alive {
			t.Fatalf("report %+v", rep)
		}
		c.set("readiness", 0)
		r.after(20 * time.Second)

		// After a reboot it starts what it had; and where nothing is, too.
		r.end()
		r.rt.PowerCut()
		r.start()
		r.set(d)
		r.after(20 * time.Second)
		if rep := r.is("web", Waiting); rep.Revision != 1 || !rep.Ready {
			t.Fatalf("report %+v", rep)
		}
		// Its turn has come.
		r.set(want("web", 2, health(probe.Readiness)))
		r.after(20 * time.Second)
		if rep := r.is("web", Running); rep.Revision != 2 {
			t.Fatalf("report %+v", rep)
		}
		// A departure does not wait for turns.
		d.Delete = true
		r.set(d)
		r.after(5 * time.Second)
		r.is("web", Stopped)
	})
}

// Since when it is ready, as min_ready counts it: by the instance, without a
// break, and by this process's clock.
func TestReadySince(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		c.set("readiness", 1)
		r := newRig(t, c.machine())
		defer r.end()
		d := want("web", 1, health(probe.Readiness))
		if r.s.Set([]Desired{d}); len(r.s.Reports()) > 0 && r.report("web").Looked {
			t.Fatal("it says that it looked, and did not")
		}
		r.set(d)
		if rep := r.is("web", Starting); !rep.ReadySince.IsZero() || !rep.Alive || !rep.Looked {
			t.Fatalf("report %+v", rep)
		}
		r.after(5 * time.Second)
		c.set("readiness", 0)
		r.after(time.Minute)
		ready := r.is("web", Running)
		if d := time.Since(ready.ReadySince); d < 50*time.Second || d > time.Minute {
			t.Fatalf("ready for %v", d)
		}
		r.after(time.Minute)
		if rep := r.report("web"); !rep.ReadySince.Equal(ready.ReadySince) {
			t.Fatalf("it moved: %+v", rep)
		}
		c.set("readiness", 1)
		r.after(31 * time.Second)
		if rep := r.is("web", Unhealthy); !rep.ReadySince.IsZero() {
			t.Fatalf("report %+v", rep)
		}
		c.set("readiness", 0)
		r.after(20 * time.Second)
		again := r.is("web", Running)
		if d := time.Since(again.ReadySince); d > 20*time.Second {
			t.Fatalf("ready for %v", d)
		}
		// Another instance begins anew, and so does another agent: what it did
		// not see, it does not count.
		r.rt.Crash("web", 1)
		r.after(10 * time.Second)
		crashed := r.is("web", Running)
		if d := time.Since(crashed.ReadySince); d > 10*time.Second || crashed.ReadySince.IsZero() {
			t.Fatalf("ready for %v", d)
		}
		r.restart(d)
		r.after(3 * time.Second)
		taken := r.is("web", Running).ReadySince
		if d := time.Since(taken); d > 3*time.Second {
			t.Fatalf("ready for %v", d)
		}
		// In the dark nobody can tell; and after it, it is the same instance.
		r.rt.SetUnavailable(true)
		r.after(10 * time.Second)
		if rep := r.report("web"); !rep.ReadySince.IsZero() || !rep.Ready {
			t.Fatalf("report %+v", rep)
		}
		r.rt.SetUnavailable(false)
		r.after(10 * time.Second)
		if rep := r.report("web"); !rep.ReadySince.Equal(taken) {
			t.Fatalf("ready since %v, was %v", rep.ReadySince, taken)
		}
	})
}

// A job is ready since its end, and not before.
func TestReadySinceOfAJob(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{Program: func(runtime.Spec) fake.Program { return fake.Program{Exits: true, After: time.Minute} }})
		defer r.end()
		d := want("setup", 1, func(d *spec.Daemon) { d.Type = spec.TypeJob })
		r.set(d)
		r.after(59 * time.Second)
		if rep := r.is("setup", Running); rep.Ready || !rep.ReadySince.IsZero() {
			t.Fatalf("report %+v", rep)
		}
		end := time.Now().Add(time.Second)
		for range 2 {
			r.after(2 * time.Minute)
			if rep := r.is("setup", Completed); !rep.Ready || !rep.ReadySince.Equal(end) {
				t.Fatalf("ready since %v, want %v: %+v", rep.ReadySince, end, rep)
			}
			r.restart(d)
		}
	})
}

// Since when the wanted digest had its chance, as a deadline counts it.
//
// conformance: D6
func TestTryingSince(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{Images: map[string]string{"web:v1": "sha256:1"}, PullLatency: 10 * time.Minute})
		defer r.end()
		r.set(want("web", 1))
		r.after(6 * time.Minute) // a slow pull that makes progress
		rep := r.is("web", Pulling)
		if !rep.TryingSince.IsZero() || rep.Pulled != 1<<20 || rep.PullTotal != 2<<20 || !slices.Contains(rep.Reasons, "image: 1 of 2 MiB") {
			t.Fatalf("report %+v", rep)
		}
		r.after(5 * time.Minute)
		rep = r.is("web", Running)
		if d := time.Since(rep.TryingSince); d != time.Minute || rep.PullTotal != 0 {
			t.Fatalf("tried for %v: %+v", d, rep)
		}
		r.rt.Crash("web", 1)
		r.after(time.Minute)
		if d := time.Since(r.is("web", Running).TryingSince); d != 2*time.Minute {
			t.Fatalf("tried for %v", d)
		}
		v2 := want("web", 2, func(d *spec.Daemon) { d.Image = "web:v2" })
		r.set(v2)
		r.after(5 * time.Minute)
		if rep := r.is("web", Pulling); !rep.TryingSince.IsZero() || !rep.Ready {
			t.Fatalf("report %+v", rep)
		}
		r.after(6 * time.Minute) // the first pull failed
		rep = r.report("web")
		if d := time.Since(rep.TryingSince); d != time.Minute || !rep.Ready || rep.Revision != 1 {
			t.Fatalf("tried for %v: %+v", d, rep)
		}
		r.set(want("web", 3)) // another one
		r.after(time.Second)
		if d := time.Since(r.is("web", Running).TryingSince); d > time.Second {
			t.Fatalf("tried for %v", d)
		}
	})
}

// What crashes during a long pull of the next revision, or while this node does
// not permit it, is restarted in place.
func TestOldRevisionIsLookedAfterMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		strict := func(c *Config) { c.Policy = policyOf(t, func(*config.Policy) {}) }
		r := newRig(t, fake.Config{PullLatency: 20 * time.Minute}, strict)
		defer r.end()
		r.set(want("web", 1))
		r.after(21 * time.Minute)
		r.is("web", Running)
		next := func(n int, edits ...func(*spec.Daemon)) Desired {
			return want("web", n, append(edits, func(d *spec.Daemon) { d.Image = "web:v2" })...)
		}
		r.set(next(2))
		for n := range 3 {
			r.after(2 * time.Minute)
			r.rt.Crash("web", 1)
			r.after(time.Second)
			rep := r.report("web")
			if rep.PID == 0 || !rep.Ready || rep.Revision != 1 || rep.Restarts != n+1 || rep.PullTotal == 0 {
				t.Fatalf("report %+v", rep)
			}
		}
		if n := len(r.rt.Calls(fake.OpPull)); n != 1 { // the second one's has not ended
			t.Fatalf("%d pulls", n)
		}
		r.after(15 * time.Minute)
		if rep := r.is("web", Running); rep.Revision != 2 || rep.Restarts != 0 {
			t.Fatalf("report %+v", rep)
		}

		r.set(next(3, func(d *spec.Daemon) { d.Privileged = true }))
		r.after(time.Second)
		if rep := r.is("web", Blocked); rep.TryingSince.IsZero() || !rep.Ready {
			t.Fatalf("report %+v", rep)
		}
		r.rt.Crash("web", 1)
		r.after(time.Second)
		rep := r.is("web", Blocked)
		if rep.Revision != 2 || !rep.Ready || rep.PID == 0 || rep.Restarts != 1 {
			t.Fatalf("report %+v", rep)
		}
		if n := r.rt.Count("web"); n != 1 {
			t.Fatalf("%d ran at once", n)
		}
	})
}
