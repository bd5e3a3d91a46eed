package supervise

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// event is one thing that happens to a node, drawn before the bubble begins.
type event struct {
	what string
	n    int
}

func (e event) String() string { return fmt.Sprintf("%s/%d", e.what, e.n) }

// drawEvent draws an event; n chooses its flavour.
func drawEvent(rt *rapid.T) event {
	return event{
		what: rapid.SampledFrom([]string{
			"revision", "revision", "delete", "unselect", "absent", "hold", // by operators
			"crash", "lose", "half-state", "unavailable", "available", "fail", // by the machine
			"restart", "kill-agent", "reboot", // by whoever upgrades
			"surge", // turned on or off, where a run has it
			"sleep", "sleep", "sleep",
		}).Draw(rt, "what"),
		n: rapid.IntRange(0, 4).Draw(rt, "n"),
	}
}

// From any half-state and any interleaving of events, the node ends with
// exactly one container of the wanted digest, or none, and never had two; with
// surges never three.
//
// conformance: A1
// conformance: D3
// conformance: D7
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		surges := rapid.Bool().Draw(rt, "surges")
		events := rapid.SliceOfN(rapid.Custom(drawEvent), 1, 25).Draw(rt, "events")
		last := rapid.SampledFrom([]string{"revision", "revision", "delete", "unselect"}).Draw(rt, "last")
		wrong := ""
		synctest.Test(t, func(t *testing.T) { wrong = converge(t, surges, events, last) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// converge plays the events and says what is wrong at the end.
func converge(t *testing.T, surges bool, events []event, last string) string {
	r := newRig(t, fake.Config{PullLatency: time.Second, StartLatency: 500 * time.Millisecond, StopLatency: 300 * time.Millisecond},
		func(c *Config) { c.ShutdownWait = time.Nanosecond }) // an agent that is killed, to its runtime
	defer r.end()
	elsewhere := func(d *spec.Daemon) { d.Nodes = []string{"n2"} }
	on, rev := surges, 1
	update := func(d *spec.Daemon) {
		d.Update.Surge, d.Update.MinReady = on, spec.Duration(700*time.Millisecond)
	}
	now := want("web", rev, update)
	wants := []Desired{now}
	r.s.Set(wants)
	for _, e := range events {
		id := "web"
		if surges && e.n%2 == 1 {
			id = "web.next"
		}
		switch e.what {
		case "surge":
			on = surges && !on
			now = want("web", rev, update)
			wants = []Desired{now}
			r.s.Set(wants)
		case "revision":
			rev = 1 + e.n
			now = want("web", rev, update)
			wants = []Desired{now}
			r.s.Set(wants)
		case "delete":
			wants = []Desired{gone("web", uint64(e.n))}
			r.s.Set(wants)
		case "unselect":
			wants = []Desired{want("web", 1+e.n, elsewhere, update)}
			r.s.Set(wants)
		case "absent":
			wants = nil
			r.s.Set(wants)
		case "hold":
			held := now
			held.Hold = "two operators wrote it at once"
			wants = []Desired{held}
			r.s.Set(wants)
		case "crash":
			r.rt.Crash(id, uint32(e.n))
		case "lose":
			r.rt.Lose(id)
		case "half-state":
			state := []runtime.State{runtime.StateCreated, runtime.StateRunning, runtime.StatePaused, runtime.StateStopped, runtime.StateBroken}[e.n]
			r.rt.Put(runtime.Spec{ID: id, StopGrace: time.Second, Labels: stableLabels(want("web", 1+e.n%3), "n1")}, state)
		case "unavailable":
			r.rt.SetUnavailable(true)
		case "available":
			r.rt.SetUnavailable(false)
		case "fail":
			op := []fake.Op{fake.OpEnsure, fake.OpPull, fake.OpStop, fake.OpRemove, fake.OpSetLabels}[e.n]
			r.rt.FailNext(op, fmt.Errorf("injected into %s", op))
		case "restart", "kill-agent", "reboot":
			r.end()
			if e.what == "reboot" {
				r.rt.PowerCut()
			}
			if e.what == "restart" {
				r.after(time.Duration(e.n) * time.Second)
			}
			r.start()
			r.s.Set(wants)
		case "sleep":
			r.after([]time.Duration{0, 50 * time.Millisecond, 700 * time.Millisecond, 5 * time.Second, time.Minute}[e.n])
		}
	}
	r.rt.SetUnavailable(false)
	switch last {
	case "revision":
		r.s.Set([]Desired{now})
	case "delete":
		r.s.Set([]Desired{gone("web", 99)})
	case "unselect":
		r.s.Set([]Desired{want("web", 9, elsewhere)})
	}
	r.after(30 * time.Minute) // past every back-off
	limit := 1
	if surges {
		limit = 2
	}
	if n := r.rt.Count("web"); n > limit {
		return fmt.Sprintf("%d ran at once", n)
	}
	rep := r.report("web")
	all, err := r.rt.List(t.Context())
	if err != nil || len(all) > 1 {
		return fmt.Sprintf("%v; left are %+v; report %+v", err, all, rep)
	}
	inst, there := r.rt.Instance("web")
	if !there {
		inst, there = r.rt.Instance("web.next")
	}
	if last != "revision" {
		if there {
			return fmt.Sprintf("after %s there is still %+v; report %+v", last, inst, rep)
		}
		return ""
	}
	if !there || inst.State != runtime.StateRunning || inst.Labels[runtime.LabelDigest] != now.Digest {
		return fmt.Sprintf("the container is %v %+v, want one of digest %s; report %+v", there, inst, now.Digest, rep)
	}
	if rep.State != string(Running) || !rep.Ready || rep.PID != inst.PID || rep.Digest != now.Digest {
		return fmt.Sprintf("the report does not tell of %+v: %+v", inst, rep)
	}
	return ""
}
