package supervise

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// conformance: A5
// conformance: B1
// conformance: E1
func TestPlan(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := want("web", 2)
	old := want("web", 1)
	desired := func(edit func(*Desired)) *Desired {
		c := d
		edit(&c)
		return &c
	}
	inst := func(of Desired, state runtime.State, edit ...func(*runtime.Instance)) *runtime.Instance {
		i := runtime.Instance{ID: "web", State: state, Labels: stableLabels(of, "n1"), StartedAt: now.Add(-time.Hour)}
		if state == runtime.StateRunning {
			i.PID = 7
		}
		for _, e := range edit {
			e(&i)
		}
		return &i
	}
	exit := func(code uint32, ago, ran time.Duration) func(*runtime.Instance) {
		return func(i *runtime.Instance) {
			i.Exit = &runtime.Exit{Code: code, Known: true, At: now.Add(-ago)}
			i.StartedAt = now.Add(-ago - ran)
		}
	}
	label := func(k, v string) func(*runtime.Instance) {
		return func(i *runtime.Instance) { i.Labels[k] = v }
	}
	ready := History{Prepared: Prepared{Digest: d.Digest, Image: "sha256:2"}}
	failed := func(op Op, n int, ago time.Duration) History {
		return History{Failure: &Failure{Op: op, Digest: d.Digest, Count: n, At: now.Add(-ago), Err: "no route to host"}}
	}
	never := func(p spec.RestartPolicy) *Desired {
		c := want("web", 2, restart(p))
		return &c
	}

	tests := []struct {
		name       string
		desired    *Desired
		actual     *runtime.Instance
		history    History
		unselected bool
		left       bool
		denied     bool
		steps      string // ops in order
		state      State
		ready      bool
		words      string // part of the reason
		wake       time.Duration
	}{
		{name: "nothing here, first start", desired: &d, steps: "prepare start", state: Pulling, words: "nothing runs here yet"},
		{name: "prepared", desired: &d, history: ready, steps: "start", state: Starting, words: "revision 2 is wanted"},
		{name: "runs as wanted", desired: &d, actual: inst(d, runtime.StateRunning), state: Running, ready: true, words: "runs revision 2"},
		{name: "runs, only the generation moved", desired: desired(func(d *Desired) { d.Generation = 9 }),
			actual: inst(d, runtime.StateRunning), steps: "label", state: Running, ready: true},
		{name: "runs another digest: ready first, then stop, then start", desired: &d, actual: inst(old, runtime.StateRunning),
			steps: "prepare stop start", state: Pulling, ready: true, words: "digest differs from the spec: revision 2 replaces revision 1"},
		{name: "runs another digest, the new one is ready", desired: &d, actual: inst(old, runtime.StateRunning), history: ready,
			steps: "stop start", state: Stopping, ready: true},
		{name: "another digest has ended", desired: &d, actual: inst(old, runtime.StateStopped, exit(1, time.Second, time.Hour)), history: ready,
			steps: "start", state: Starting},
		{name: "the new image can't be had: the old one goes on", desired: &d, actual: inst(old, runtime.StateRunning),
			history: failed(Prepare, 3, time.Second), state: Running, ready: true, wake: 4 * time.Second,
			words: "revision 2 waits: cannot be made ready: no route to host"},
		{name: "the image can't be had and nothing runs", desired: &d, history: failed(Prepare, 1, 0), state: BackOff, wake: time.Second,
			words: "no route to host; tries again after"},
		{name: "its time has come", desired: &d, history: failed(Prepare, 1, time.Second), steps: "prepare start", state: Pulling},
		{name: "a failed start holds back its preparation too", desired: &d, history: failed(Start, 2, 0), state: BackOff, wake: time.Second},
		{name: "paused by somebody", desired: &d, actual: inst(d, runtime.StatePaused), history: ready, steps: "start", state: Starting, words: "paused"},
		{name: "made, never started", desired: &d, actual: inst(d, runtime.StateCreated), history: ready, steps: "start", state: Starting},
		{name: "wedged", desired: &d, actual: inst(d, runtime.StateBroken), history: ready, steps: "start", state: Starting},
		{name: "crashed for the first time: at once", desired: &d, actual: inst(d, runtime.StateStopped, exit(1, 0, time.Second)), history: ready,
			steps: "start", state: Starting, words: "exited with code 1"},
		{name: "crashed for the third time in a row", desired: &d,
			actual:  inst(d, runtime.StateStopped, exit(1, 0, time.Second), label(labelStreak, "2"), label(runtime.LabelRestarts, "5")),
			history: ready, state: BackOff, wake: time.Second, words: "starts again after"},
		{name: "crashed after a healthy time: at once", desired: &d,
			actual:  inst(d, runtime.StateStopped, exit(1, 0, time.Minute), label(labelStreak, "9")),
			history: ready, steps: "start", state: Starting},
		{name: "an exit from the future waits no longer than its delay", desired: &d,
			actual:  inst(d, runtime.StateStopped, exit(1, -24*time.Hour, time.Second), label(labelStreak, "2")),
			history: ready, state: BackOff, wake: time.Second},
		{name: "never, exited well", desired: never(spec.RestartNever), actual: inst(*never(spec.RestartNever), runtime.StateStopped, exit(0, 0, time.Second)),
			steps: "label", state: Completed, ready: true, words: "restart.policy is never"},
		{name: "never, failed", desired: never(spec.RestartNever), actual: inst(*never(spec.RestartNever), runtime.StateStopped, exit(2, 0, time.Second)),
			steps: "label", state: Stopped, words: "exited with code 2"},
		{name: "never, lost at a reboot after it had started", desired: never(spec.RestartNever),
			actual: inst(*never(spec.RestartNever), runtime.StateCreated, label(runtime.LabelStarted, "2026-01-02T00:00:00Z")),
			steps:  "label", state: Stopped, words: "unknown exit code while agentd was away"},
		{name: "never, and never started", desired: never(spec.RestartNever), actual: inst(*never(spec.RestartNever), runtime.StateCreated),
			steps: "prepare start", state: Pulling},
		{name: "on-failure, failed", desired: never(spec.RestartOnFailure), actual: inst(*never(spec.RestartOnFailure), runtime.StateStopped, exit(2, 0, time.Second)),
			steps: "prepare start", state: Pulling},
		{name: "not selected, nothing here", desired: &d, unselected: true, state: Excluded, words: "label role"},
		{name: "not selected any more", desired: &d, actual: inst(d, runtime.StateRunning), unselected: true, steps: "stop remove", state: Stopping, ready: true},
		{name: "deleted, running", desired: desired(func(d *Desired) { d.Delete = true }), actual: inst(d, runtime.StateRunning),
			steps: "stop remove", state: Stopping, ready: true, words: "deleted"},
		{name: "deleted, ended", desired: desired(func(d *Desired) { d.Delete = true }), actual: inst(d, runtime.StateStopped, exit(0, 0, 0)),
			steps: "remove", state: Stopping},
		{name: "deleted, gone", desired: desired(func(d *Desired) { d.Delete = true }), state: Stopped, words: "deleted"},
		{name: "deleted, but it can't be stopped", desired: desired(func(d *Desired) { d.Delete = true }), actual: inst(d, runtime.StateRunning),
			history: failed(Stop, 1, 0), state: Stopping, ready: true, wake: 500 * time.Millisecond, words: "cannot be stopped: no route to host"},
		{name: "no record, running", actual: inst(d, runtime.StateRunning), state: Running, ready: true, words: "no record of it here"},
		{name: "no record, ended", actual: inst(d, runtime.StateStopped, exit(1, 0, 0)), state: Stopped, words: "not started again"},
		{name: "held, running the old one", desired: desired(func(d *Desired) { d.Hold = "conflict" }), actual: inst(old, runtime.StateRunning),
			state: Blocked, ready: true, words: "held: conflict; revision 1 keeps running"},
		{name: "held, nothing here", desired: desired(func(d *Desired) { d.Hold = "conflict" }), state: Blocked, words: "conflict"},
		{name: "held, deleted", desired: desired(func(d *Desired) { d.Hold, d.Delete = "conflict", true }), actual: inst(d, runtime.StateRunning),
			state: Blocked, ready: true},
		{name: "denied, nothing here", desired: &d, denied: true, state: Blocked, words: "policy.privileged of this node denies it"},
		{name: "denied, running the old one", desired: &d, denied: true, actual: inst(old, runtime.StateRunning), state: Blocked, ready: true, words: "revision 1 keeps running"},
		{name: "denied, running it already", desired: &d, denied: true, actual: inst(d, runtime.StateRunning), state: Blocked, ready: true},
		{name: "denied, crashed", desired: &d, denied: true, actual: inst(d, runtime.StateStopped, exit(1, 0, 0)), state: Blocked, words: "not started again"},
		{name: "quarantined", desired: &d, history: History{Panics: 3, Panic: "nil map"}, state: Blocked, words: "quarantined"},
		{name: "two panics are not enough", desired: &d, history: History{Panics: 2}, steps: "prepare start", state: Pulling},
		{name: "left, running", desired: &d, left: true, actual: inst(d, runtime.StateRunning), steps: "stop remove", state: Stopping, ready: true, words: "left the ring"},
		{name: "left, held", desired: desired(func(d *Desired) { d.Hold = "conflict" }), left: true, actual: inst(d, runtime.StateRunning), steps: "stop remove", state: Stopping, ready: true},
		{name: "left, no record", left: true, actual: inst(d, runtime.StateRunning), steps: "stop remove", state: Stopping, ready: true},
		{name: "left, nothing here", desired: &d, left: true, state: Stopped, words: "agentctl join"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := Input{Name: "web", Desired: tt.desired, Site: Site{Node: spec.Node{Name: "n1", Labels: map[string]string{"role": "edge"}}},
				Left: tt.left, Seed: "n1", Now: now}
			if tt.unselected {
				c := *tt.desired
				c.Daemon.Selector = map[string]string{"role": "db"}
				in.Desired = &c
			}
			if tt.desired != nil {
				in.Labels = stableLabels(*tt.desired, "n1")
			}
			if tt.denied {
				in.Denials = []policy.Denial{{Rule: "privileged", Detail: "no"}}
			}
			if tt.actual != nil {
				in.Actual = []runtime.Instance{*tt.actual}
			}
			in.History = tt.history.Observe(tt.actual, now)
			got := Plan(in)
			var ops []string
			for _, s := range got.Steps {
				ops = append(ops, string(s.Op))
				if s.Reason == "" {
					t.Errorf("step %s has no reason", s.Op)
				}
			}
			if strings.Join(ops, " ") != tt.steps || got.State != tt.state || got.Ready != tt.ready {
				t.Fatalf("got steps %q, state %s, ready %v (%s); want %q, %s, %v",
					ops, got.State, got.Ready, got.Reason, tt.steps, tt.state, tt.ready)
			}
			if got.Reason == "" || !strings.Contains(got.Reason, tt.words) {
				t.Fatalf("reason %q lacks %q", got.Reason, tt.words)
			}
			switch {
			case tt.wake == 0 && !got.Wake.IsZero():
				t.Fatalf("wakes at %v", got.Wake)
			case tt.wake != 0:
				wait := got.Wake.Sub(now)
				if low := time.Duration(float64(tt.wake)*(1-jitter)) - time.Second; wait <= 0 || wait < low || wait > tt.wake {
					t.Fatalf("wakes after %v, want about %v", wait, tt.wake)
				}
			}
		})
	}
}

// Of several containers one is kept, and nothing is started beside it.
func TestPlanReducesToOne(t *testing.T) {
	d := want("web", 2)
	mk := func(id string, rev int, state runtime.State) runtime.Instance {
		return runtime.Instance{ID: id, State: state, Labels: stableLabels(want("web", rev), "n1")}
	}
	tests := []struct {
		name   string
		actual []runtime.Instance
		steps  string
	}{
		{"the wanted digest is kept whatever its name",
			[]runtime.Instance{mk("web", 1, runtime.StateRunning), mk("web.next", 2, runtime.StateRunning)}, "stop web, remove web"},
		{"one that runs is kept before one that doesn't",
			[]runtime.Instance{mk("web", 2, runtime.StateStopped), mk("web.next", 1, runtime.StateRunning)},
			"remove web, prepare web.next, stop web.next, start web.next"},
		{"the name decides last",
			[]runtime.Instance{mk("web", 2, runtime.StateRunning), mk("web.next", 2, runtime.StateRunning)}, "stop web.next, remove web.next"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := Input{Name: "web", Desired: &d, Actual: tt.actual, Labels: stableLabels(d, "n1"), Now: time.Now()}
			in.History = History{}.Observe(Primary("web", d.Digest, tt.actual), in.Now)
			var got []string
			for _, s := range Plan(in).Steps {
				got = append(got, fmt.Sprintf("%s %s", s.Op, s.ID))
			}
			if strings.Join(got, ", ") != tt.steps {
				t.Fatalf("steps %q, want %q", got, tt.steps)
			}
		})
	}
}

// The next instance carries the counts and the exit of the one before.
//
// conformance: C6
func TestStartCarriesCounts(t *testing.T) {
	now := time.Now()
	d := want("web", 1)
	labels := stableLabels(d, "n1")
	for k, v := range (Counts{Restarts: 4, Streak: 1, Window: now.Add(-time.Minute)}).labels() {
		labels[k] = v
	}
	inst := runtime.Instance{ID: "web", State: runtime.StateStopped, Labels: labels, StartedAt: now.Add(-10 * time.Second),
		Exit: &runtime.Exit{Code: 137, OOM: true, Known: true, At: now.Add(-5 * time.Second)}}
	h := History{Prepared: Prepared{Digest: d.Digest}}.Observe(&inst, now)
	r := Plan(Input{Name: "web", Desired: &d, Actual: []runtime.Instance{inst}, History: h, Now: now})
	if len(r.Steps) != 1 {
		t.Fatalf("steps %+v, reason %s", r.Steps, r.Reason)
	}
	got := r.Steps[0].Labels
	c, e := countsOf(got), exitOf(got)
	if c.Restarts != 5 || c.Streak != 2 || !c.Window.Equal(now.Add(-time.Minute)) || e == nil || !e.OOM || e.Code != 137 {
		t.Fatalf("labels %v", got)
	}
	if !strings.Contains(r.Reason, "out of memory") {
		t.Fatalf("reason %q", r.Reason)
	}
}
