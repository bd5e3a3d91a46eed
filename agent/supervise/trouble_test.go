package supervise

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// conformance: F2
func TestRuntimeOutageFreezesDecisions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1), want("db", 1))
		before := r.is("web", Running)
		for range 3 {
			r.rt.SetUnavailable(true)
			r.after(10 * time.Second)
			rep := r.is("web", Running)
			if !strings.Contains(rep.Reason, "does not answer since") || !strings.Contains(rep.Reason, "last known: runs revision 1") {
				t.Fatalf("reason %q", rep.Reason)
			}
			calls := len(r.rt.Calls(fake.OpEnsure))
			r.s.Set([]Desired{want("web", 1), gone("db", 2), want("new", 1)})
			r.after(time.Minute)
			if n := len(r.rt.Calls(fake.OpEnsure)); n != calls {
				t.Fatal("it acted in the dark")
			}
			r.is("new", Waiting)
			r.s.Set([]Desired{want("web", 1), want("db", 1)})
			r.rt.SetUnavailable(false)
			r.after(2 * time.Second)
		}
		after := r.is("web", Running)
		if after.PID != before.PID || after.Restarts != 0 || strings.Contains(after.Reason, "answer") {
			t.Fatalf("after the outage: %+v", after)
		}
		r.runs("db", "web")
		if r.rt.Starts("web") != 1 || r.rt.Starts("db") != 1 {
			t.Fatal("something was restarted")
		}
		// What ended during an outage is accounted for after it.
		r.rt.SetUnavailable(true)
		r.after(2 * time.Second)
		r.rt.Kill("web")
		r.after(10 * time.Second)
		r.rt.SetUnavailable(false)
		r.after(2 * time.Second)
		if rep := r.is("web", Running); rep.Restarts != 1 || rep.PID == before.PID {
			t.Fatalf("after an exit in the dark: %+v", rep)
		}
	})
}

// A step that gets no answer is no failure of the daemon.
func TestUnavailableStepIsNotCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		for range 3 {
			r.rt.FailNext(fake.OpEnsure, fmt.Errorf("create: %w", runtime.ErrUnavailable))
		}
		r.set(want("web", 1))
		if n := len(r.rt.Calls(fake.OpEnsure)); n != 1 {
			t.Fatalf("%d attempts at once", n)
		}
		r.after(4 * time.Second) // a second apart, not in a circle
		rep := r.is("web", Running)
		if rep.Restarts != 0 || len(r.rt.Calls(fake.OpEnsure)) != 4 {
			t.Fatalf("report %+v, %d calls", rep, len(r.rt.Calls(fake.OpEnsure)))
		}
	})
}

func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		before := r.is("web", Running)
		d2 := want("web", 2)
		d2.Hold = "two operators wrote it at once"
		none := want("none", 1)
		none.Hold = d2.Hold
		r.set(d2, none)
		r.after(time.Minute)
		rep := r.is("web", Blocked)
		if rep.PID != before.PID || !rep.Ready || !strings.Contains(rep.Reason, d2.Hold) || !strings.Contains(rep.Reason, "revision 1 keeps running") {
			t.Fatalf("report %+v", rep)
		}
		if rep := r.is("none", Blocked); rep.Ready || !rep.Placed {
			t.Fatalf("report %+v", rep)
		}
		d2.Hold, none.Hold = "", ""
		r.set(d2, none)
		r.after(time.Second)
		r.is("none", Running)
		if rep := r.is("web", Running); rep.Revision != 2 {
			t.Fatalf("report %+v", rep)
		}
	})
}

func TestPolicyBlocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		strict := func(c *Config) { c.Policy = policyOf(t, func(p *config.Policy) {}) }
		r := newRig(t, fake.Config{}, strict)
		defer r.end()
		privileged := func(d *spec.Daemon) { d.Privileged = true }
		r.set(want("root", 1, privileged), want("web", 1))
		rep := r.is("root", Blocked)
		if rep.Ready || !rep.Placed || !strings.Contains(rep.Reason, "policy.privileged") {
			t.Fatalf("report %+v", rep)
		}
		before := r.is("web", Running)
		// A new revision that is denied leaves the old one running.
		r.set(want("root", 1, privileged), want("web", 2, privileged))
		r.after(time.Minute)
		rep = r.is("web", Blocked)
		if rep.PID != before.PID || !rep.Ready || !strings.Contains(rep.Reason, "revision 1 keeps running") {
			t.Fatalf("report %+v", rep)
		}
		if len(r.rt.Calls(fake.OpPull)) != 1 {
			t.Fatal("a denied image was pulled")
		}
		// A policy that got stricter leaves what runs, and never starts it again.
		r.set(want("web", 1))
		r.after(time.Second)
		r.end()
		r.cfg.Policy = policyOf(t, func(p *config.Policy) { p.Images = []string{"quay.io/**"} })
		r.start()
		r.set(want("web", 1))
		r.after(time.Minute)
		rep = r.is("web", Blocked)
		if rep.PID != before.PID || !strings.Contains(rep.Reason, "policy.images") {
			t.Fatalf("report %+v", rep)
		}
		r.rt.Crash("web", 1)
		r.after(time.Minute)
		if rep = r.is("web", Blocked); rep.Ready || !strings.Contains(rep.Reason, "not started again") {
			t.Fatalf("report %+v", rep)
		}
		r.runs()
	})
}

// rough is a runtime with calls of its own.
type rough struct {
	runtime.Runtime
	ensure func(context.Context, runtime.Spec) (runtime.Instance, error)
}

func (r *rough) Ensure(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
	return r.ensure(ctx, s)
}

func TestOneDaemonsHangStarvesNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var rg *rough
		r := newRig(t, fake.Config{}, func(c *Config) {
			rg = &rough{Runtime: c.Runtime}
			rg.ensure = func(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
				if s.ID == "stuck" {
					<-ctx.Done()
					return runtime.Instance{}, ctx.Err()
				}
				return rg.Runtime.Ensure(ctx, s)
			}
			c.Runtime = rg
		})
		defer r.end()
		r.set(want("stuck", 1), want("web", 1))
		r.is("web", Running)
		r.is("stuck", Starting)
		r.rt.Kill("web")
		synctest.Wait()
		r.is("web", Running)
		r.after(4 * time.Minute) // past the limit of a step
		r.is("web", Running)
		if len(r.rt.Calls(fake.OpEnsure)) != 2 {
			t.Fatal("unexpected calls")
		}
	})
}

// Pulls that hang let others through.
func TestHangingPullsLetOthersThrough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{PullLatency: 10 * time.Minute})
		defer r.end()
		var all []Desired
		for i := range pullSlots + 1 {
			all = append(all, want(fmt.Sprintf("d%d", i), 1))
		}
		r.set(all...)
		r.after(pullPatience + 10*time.Minute + time.Second)
		r.is("d0", Running)
		r.is(fmt.Sprintf("d%d", pullSlots), Running)
	})
}

// Starts come a few at a time, and one that hangs lets others through.
func TestStartsComeAFewAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const slow = time.Minute
		r := newRig(t, fake.Config{StartLatency: slow})
		defer r.end()
		var all []Desired
		for i := range startSlots + 1 {
			all = append(all, want(fmt.Sprintf("d%d", i), 1))
		}
		r.set(all...)
		r.after(slow + startPatience/2)
		if n := len(r.rt.Running()); n != startSlots {
			t.Errorf("%d were started at once, want %d", n, startSlots)
		}
		r.after(startPatience) // the last one did not wait for the others to end
		for _, d := range all {
			r.is(d.Daemon.Name, Running)
		}
	})
}

func TestPanicsAreIsolatedAndQuarantined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var rg *rough
		var panics atomic.Int32
		r := newRig(t, fake.Config{}, func(c *Config) {
			rg = &rough{Runtime: c.Runtime}
			rg.ensure = func(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
				if s.Env[0] == "REV=1" && s.ID == "bad" {
					panics.Add(1)
					panic("nil map")
				}
				return rg.Runtime.Ensure(ctx, s)
			}
			c.Runtime = rg
		})
		defer r.end()
		r.set(want("bad", 1), want("web", 1))
		r.after(time.Millisecond)
		if rep := r.is("bad", BackOff); !strings.Contains(rep.Reason, "agentd itself failed") {
			t.Fatalf("reason %q", rep.Reason)
		}
		r.is("web", Running)
		r.restart(want("bad", 1), want("web", 1)) // does not forgive
		r.after(time.Hour)
		rep := r.is("bad", Blocked)
		if panics.Load() != quarantineAfter || !strings.Contains(rep.Reason, "quarantined") || !strings.Contains(rep.Reason, "nil map") {
			t.Fatalf("%d panics, report %+v", panics.Load(), rep)
		}
		r.is("web", Running)
		r.restart(want("bad", 1))
		r.after(time.Minute)
		r.is("bad", Blocked)
		r.set(want("bad", 2)) // another digest has its own chance
		r.after(time.Second)
		r.is("bad", Running)
		if panics.Load() != quarantineAfter {
			t.Fatalf("%d panics", panics.Load())
		}
	})
}
