package supervise

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// Whatever happens to a daemon with probes and hooks, to the one that it
// depends on and to their node, never do two run, the one is never started
// while the other is not ready, nothing is started on a cordoned node that was
// not here, and in the end both run and are ready.
//
// conformance: A1
// conformance: C2
// conformance: F2
func TestConvergenceWithProbesAndOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) event {
			return event{
				what: rapid.SampledFrom([]string{
					"crash", "crash", "lose", "sick", "unready", "hang", "hook", "well", "well", // of a daemon
					"unavailable", "available", "fail", "kill-agent", // of the machine
					"cordon", "drain", "open", "isolate", "delete", "apply", "ask", // by operators
					"sleep", "sleep", "sleep", "sleep",
				}).Draw(rt, "what"),
				n: rapid.IntRange(0, 5).Draw(rt, "n"),
			}
		}), 1, 30).Draw(rt, "events")
		wrong := ""
		synctest.Test(t, func(t *testing.T) { wrong = (&ordered{}).play(t, events) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// ordered plays events on two daemons, web that depends on db.
type ordered struct {
	clinic clinic
	mu     sync.Mutex
	db     State     // guarded by mu: as last told
	since  time.Time // guarded by mu
	wrong  string    // guarded by mu
}

// ensure watches starts from the runtime's side.
func (o *ordered) ensure(rt *fake.Runtime) func(context.Context, runtime.Spec) (runtime.Instance, error) {
	return func(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
		inst, _ := rt.Instance(s.ID)
		o.mu.Lock()
		if s.ID == "web" && inst.PID == 0 && o.db != Running && o.db != Pulling && o.since.Before(time.Now()) {
			o.wrong = fmt.Sprintf("web is started while db is %s", o.db)
		}
		o.mu.Unlock()
		return rt.Ensure(ctx, s)
	}
}

func (o *ordered) told(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.Daemon == "db" && e.Type == EventState {
		o.db, o.since = State(e.To), e.Time
	}
}

func (o *ordered) play(t *testing.T, events []event) string {
	machine := o.clinic.machine()
	machine.PullLatency, machine.StartLatency = time.Second, 300*time.Millisecond
	r := newRig(t, machine, func(c *Config) {
		c.ShutdownWait, c.Event = time.Nanosecond, o.told
		rg := &rough{Runtime: c.Runtime}
		rg.ensure = o.ensure(c.Runtime.(*fake.Runtime))
		c.Runtime = rg
	})
	defer r.end()
	healthy := health(probe.Liveness, probe.Readiness)
	full := func(d *spec.Daemon) { healthy(d); hooks(d) }
	wants := []Desired{want("web", 1, full, needs("db")), want("db", 1, full)}
	r.s.Set(wants)
	asked, stopAsking := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stopAsking()
	for _, e := range events {
		name := []string{"web", "db"}[e.n%2]
		switch e.what {
		case "crash":
			r.rt.Crash(name, uint32(e.n))
		case "lose":
			r.rt.Lose(name)
		case "sick":
			o.clinic.set("liveness", 1)
		case "unready":
			o.clinic.set("readiness", 1)
		case "hang":
			o.clinic.set([]string{"liveness", "readiness", "pre_stop"}[e.n%3], hangs)
		case "hook":
			o.clinic.set([]string{"post_start", "pre_stop"}[e.n%2], 1)
		case "well":
			for _, c := range []string{"liveness", "readiness", "post_start", "pre_stop"} {
				o.clinic.set(c, 0)
			}
		case "unavailable", "available":
			r.rt.SetUnavailable(e.what == "unavailable")
		case "fail":
			op := []fake.Op{fake.OpEnsure, fake.OpPull, fake.OpStop, fake.OpRemove, fake.OpSetLabels, fake.OpExec}[e.n]
			r.rt.FailNext(op, fmt.Errorf("injected into %s", op))
		case "kill-agent":
			r.end()
			r.start()
			r.s.Set(wants)
		case "cordon", "drain", "open":
			r.s.SetNode(r.cfg.Node, e.what == "cordon", e.what == "drain")
		case "isolate":
			r.s.SetIsolated(time.Now())
		case "delete":
			wants = []Desired{gone("web", uint64(e.n)), gone("db", uint64(e.n))}
			r.s.Set(wants)
		case "apply":
			wants = []Desired{want("web", 1+e.n, full, needs("db")), want("db", 1+e.n%2, full)}
			r.s.Set(wants)
		case "ask":
			s := r.s
			asking.Go(func() { _ = s.Restart(asked, name) }) // refusals are part of it
		case "sleep":
			r.after([]time.Duration{0, 50 * time.Millisecond, 700 * time.Millisecond, 5 * time.Second, 31 * time.Second, time.Minute}[e.n])
		}
	}
	r.rt.SetUnavailable(false)
	for _, c := range []string{"liveness", "readiness", "post_start", "pre_stop"} {
		o.clinic.set(c, 0)
	}
	wants = []Desired{want("web", 9, full, needs("db")), want("db", 9, full)}
	r.s.Set(wants)
	r.s.SetNode(r.cfg.Node, false, false)
	r.after(30 * time.Minute) // past every back-off
	for i, name := range []string{"web", "db"} {
		if n := r.rt.Count(name); n > 1 {
			return fmt.Sprintf("%d of %s ran at once", n, name)
		}
		if rep := r.report(name); rep.State != string(Running) || !rep.Ready || rep.Rendered != wants[i].Digest {
			return fmt.Sprintf("at the end: %+v", rep)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wrong
}
