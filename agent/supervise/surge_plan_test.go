package supervise

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// surge makes a daemon that is updated by a surge.
func surge(minReady time.Duration) func(*spec.Daemon) {
	return func(d *spec.Daemon) { d.Update.Surge, d.Update.MinReady = true, spec.Duration(minReady) }
}

// at is a container under an id, of a daemon's revision.
func at(id string, of Desired, state runtime.State) runtime.Instance {
	i := runtime.Instance{ID: id, State: state, Labels: stableLabels(of, "n1")}
	if state == runtime.StateRunning {
		i.PID = 100 + len(id)
	}
	return i
}

// Which container stands for the daemon, and which is about to take over.
//
// conformance: D3
func TestPair(t *testing.T) {
	const running, stopped = runtime.StateRunning, runtime.StateStopped
	plain, v1, v2, v3 := want("web", 2), want("web", 1, surge(0)), want("web", 2, surge(0)), want("web", 3, surge(0))
	tests := []struct {
		name        string
		d, started  *Desired
		doomed      string
		actual      []runtime.Instance
		own, beside string
	}{
		{"none", &v2, &v1, "", nil, "", ""},
		{"the old one alone", &v2, &v1, "", []runtime.Instance{at("web", v1, running)}, "web", ""},
		{"the new one beside it", &v2, &v1, "", []runtime.Instance{at("web", v1, running), at("web.next", v2, running)}, "web", "web.next"},
		{"the ids the other way round", &v2, &v1, "", []runtime.Instance{at("web", v2, running), at("web.next", v1, running)}, "web.next", "web"},
		{"the new one does not run", &v2, &v1, "", []runtime.Instance{at("web", v1, running), at("web.next", v2, stopped)}, "web", "web.next"},
		{"the old one does not run and can be started again", &v2, &v1, "", []runtime.Instance{at("web", v1, stopped), at("web.next", v2, running)}, "web", "web.next"},
		{"the old one does not run, and nobody knows what it was", &v2, nil, "", []runtime.Instance{at("web", v1, stopped), at("web.next", v2, running)}, "web.next", ""},
		{"what was handed over is lost: the old one is kept while it runs", &v2, nil, "", []runtime.Instance{at("web", v1, running), at("web.next", v2, running)}, "web", "web.next"},
		{"handed over", &v2, &v2, "", []runtime.Instance{at("web", v1, running), at("web.next", v2, running)}, "web.next", ""},
		{"handed over, and just crashed", &v2, &v2, "", []runtime.Instance{at("web", v1, running), at("web.next", v2, stopped)}, "web.next", ""},
		{"the old digest is wanted again", &v1, &v1, "", []runtime.Instance{at("web", v1, running), at("web.next", v2, running)}, "web", ""},
		{"a newer digest is wanted", &v3, &v1, "", []runtime.Instance{at("web", v1, running), at("web.next", v2, running)}, "web", ""},
		{"the new one is being taken away", &v2, &v1, "web.next", []runtime.Instance{at("web", v1, running), at("web.next", v2, running)}, "web", ""},
		{"a third one", &v2, &v1, "", []runtime.Instance{at("other", v3, running), at("web", v1, running), at("web.next", v2, running)}, "web", "web.next"},
		{"two of the wanted digest", &v2, &v1, "", []runtime.Instance{at("web", v2, running), at("web.next", v2, running)}, "web", ""},
		{"without surge: as always", &plain, &v1, "", []runtime.Instance{at("web", v1, running), at("web.next", plain, running)}, "web.next", ""},
		{"no record", nil, &v1, "", []runtime.Instance{at("web", v1, running), at("web.next", v2, running)}, "web", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := func(i *runtime.Instance) string {
				if i == nil {
					return ""
				}
				return i.ID
			}
			for range 2 {
				own, beside := Pair("web", tt.d, tt.started, tt.doomed, tt.actual)
				if id(own) != tt.own || id(beside) != tt.beside {
					t.Fatalf("own %q and beside %q, want %q and %q", id(own), id(beside), tt.own, tt.beside)
				}
				slices.Reverse(tt.actual) // the order does not matter
			}
		})
	}
}

// What a surge does at each of its points.
//
// conformance: D3
// conformance: D6
func TestPlanOfASurge(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const running, stopped = runtime.StateRunning, runtime.StateStopped
	v1, v2 := want("web", 1, surge(10*time.Second)), want("web", 2, surge(10*time.Second))
	old, fresh := at("web", v1, running), at("web.next", v2, running)
	prepared := func(h *History) { h.Prepared = Prepared{Digest: v2.Digest, Image: "sha256:2"} }
	crashed := at("web.next", v2, stopped)
	crashed.Exit, crashed.StartedAt = &runtime.Exit{Code: 3, Known: true, At: now}, now.Add(-time.Second)
	crashed.Labels[labelStreak] = "3"
	readyFor := func(d time.Duration) func(*History) {
		return func(h *History) { h.Beside.ReadySince = now.Add(-d) }
	}
	tests := []struct {
		name    string
		actual  []runtime.Instance
		history func(*History)
		input   func(*Input)
		steps   string
		state   State
		ready   bool
		words   string
		wake    time.Duration
	}{
		{name: "it begins with the image", actual: []runtime.Instance{old}, steps: "prepare web.next, start web.next", state: Pulling, ready: true,
			words: "revision 1 keeps running"},
		{name: "the image is here", actual: []runtime.Instance{old}, history: prepared, steps: "start web.next", state: Starting, ready: true},
		{name: "the old one does not run: it is replaced", actual: []runtime.Instance{at("web", v1, stopped)}, history: prepared, steps: "start web", state: Starting},
		{name: "the old one is not well: it is replaced", actual: []runtime.Instance{old}, history: prepared,
			input: func(in *Input) { in.Health = probe.Verdict{Dead: true, Unready: true, Reason: "liveness failed"} },
			steps: "stop web, start web", state: Stopping},
		{name: "the new one is not ready", actual: []runtime.Instance{old, fresh},
			input: func(in *Input) {
				in.BesideHealth = probe.Verdict{Starting: true, Unready: true, Reason: "startup pending"}
			},
			state: Starting, ready: true, words: "startup pending; revision 1 keeps running"},
		{name: "the new one is ready", actual: []runtime.Instance{old, fresh}, state: Starting, ready: true, wake: 10 * time.Second,
			words: "revision 2 is ready; revision 1 is kept until it has been for 10s"},
		{name: "it has been for a while", actual: []runtime.Instance{old, fresh}, history: readyFor(9 * time.Second), state: Starting, ready: true, wake: time.Second},
		{name: "it is available", actual: []runtime.Instance{old, fresh}, history: readyFor(10 * time.Second),
			steps: "handover web.next, stop web, remove web", state: Running, ready: true, words: "takes over from revision 1"},
		{name: "it is ready, and the old one is gone: nothing to wait for", actual: []runtime.Instance{at("web", v1, stopped), fresh},
			steps: "handover web.next, remove web", state: Running, ready: true},
		{name: "the new one crashes", actual: []runtime.Instance{old, crashed}, history: prepared, state: BackOff, ready: true, wake: 2 * time.Second,
			words: "exited with code 3"},
		{name: "the new one is unhealthy", actual: []runtime.Instance{old, fresh},
			input: func(in *Input) { in.BesideHealth = probe.Verdict{Dead: true, Unready: true, Reason: "liveness failed"} },
			steps: "stop web.next", state: Unhealthy, ready: true, words: "liveness failed"},
		{name: "the old one is unhealthy meanwhile: it is restarted in place", actual: []runtime.Instance{old, fresh},
			input: func(in *Input) {
				in.Health = probe.Verdict{Dead: true, Unready: true, Reason: "liveness failed"}
				in.BesideHealth = probe.Verdict{Starting: true, Unready: true, Reason: "startup pending"}
			}, steps: "stop web", state: Starting},
		{name: "the new image can't be had", actual: []runtime.Instance{old}, history: func(h *History) {
			h.Failure = &Failure{Op: Prepare, Digest: v2.Digest, Count: 1, At: now, Err: "no route to host"}
		}, state: Running, ready: true, wake: time.Second, words: "revision 2 waits: cannot be made ready: no route to host"},
		{name: "the new one can't be started", actual: []runtime.Instance{old}, history: func(h *History) {
			h.Failure = &Failure{Op: Start, Digest: v2.Digest, Count: 2, At: now, Err: "no such file"}
		}, state: BackOff, ready: true, wake: time.Second, words: "no such file"},
		{name: "deleted in the middle: both go", actual: []runtime.Instance{old, fresh}, input: func(in *Input) {
			d := gone("web", 3)
			d.Daemon.Update.Surge = true
			in.Desired = &d
		}, steps: "stop web.next, remove web.next, stop web, remove web", state: Stopping, ready: true},
		{name: "not selected in the middle: both go", actual: []runtime.Instance{old, fresh}, input: func(in *Input) {
			d := want("web", 2, surge(0), func(d *spec.Daemon) { d.Nodes = []string{"n2"} })
			in.Desired = &d
		}, steps: "stop web.next, remove web.next, stop web, remove web", state: Stopping, ready: true},
		{name: "left in the middle: both go", actual: []runtime.Instance{old, fresh}, input: func(in *Input) { in.Left = true },
			steps: "stop web.next, remove web.next, stop web, remove web", state: Stopping, ready: true},
		{name: "drained in the middle: both go", actual: []runtime.Instance{old, fresh}, input: func(in *Input) { in.Site.Draining = true },
			steps: "stop web.next, remove web.next, stop web, remove web", state: Stopping, ready: true},
		{name: "cordoned in the middle: what is here goes on", actual: []runtime.Instance{old, fresh}, history: readyFor(10 * time.Second),
			input: func(in *Input) { in.Site.Cordoned = true }, steps: "handover web.next, stop web, remove web", state: Running, ready: true},
		{name: "cordoned before: nothing is added", actual: []runtime.Instance{old}, history: prepared,
			input: func(in *Input) { in.Site.Cordoned = true }, state: Running, ready: true, words: "revision 2 waits"},
		{name: "held in the middle: nothing changes", actual: []runtime.Instance{old, fresh}, history: readyFor(time.Hour), input: func(in *Input) {
			d := v2
			d.Hold = "conflict"
			in.Desired = &d
		}, state: Blocked, ready: true},
		{name: "surge turned off in the middle: one remains", actual: []runtime.Instance{old, fresh}, input: func(in *Input) {
			d := want("web", 2)
			in.Desired = &d
		}, steps: "stop web, remove web, handover web.next", state: Running, ready: true},
		{name: "back to the old digest: the new one goes", actual: []runtime.Instance{old, fresh}, input: func(in *Input) { in.Desired, in.Fallback = &v1, nil },
			steps: "stop web.next, remove web.next", state: Running, ready: true, words: "runs revision 1"},
		{name: "a third one goes, the pair stays", actual: []runtime.Instance{at("other", v1, running), old, fresh},
			steps: "stop other, remove other", state: Starting, ready: true, wake: 10 * time.Second},
		{name: "one of a revision that was never handed over makes room", actual: []runtime.Instance{old, at("web.next", want("web", 3), running)}, history: prepared,
			steps: "stop web.next, remove web.next, start web.next", state: Starting, ready: true},
		{name: "a job is never doubled", actual: []runtime.Instance{old}, history: prepared, input: func(in *Input) {
			d := want("web", 2, surge(0), func(d *spec.Daemon) { d.Type = spec.TypeJob })
			in.Desired = &d
		}, steps: "prepare web, stop web, start web", state: Pulling},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := Input{Name: "web", Desired: &v2, Started: &v1, Fallback: &v1, Actual: tt.actual, Site: Site{Node: spec.Node{Name: "n1"}}, Seed: "n1", Now: now}
			in.Labels = stableLabels(v2, "n1")
			if tt.input != nil {
				tt.input(&in)
				if in.Desired.Digest != "" {
					in.Labels = stableLabels(*in.Desired, "n1")
				}
			}
			own, beside := Pair("web", in.Desired, in.Started, "", in.Actual)
			h := History{}.Observe(own, now)
			h.Beside = h.Beside.Observe(beside, now)
			if tt.history != nil {
				tt.history(&h)
			}
			in.History = h
			got := Plan(in)
			var steps []string
			for _, s := range got.Steps {
				steps = append(steps, fmt.Sprintf("%s %s", s.Op, s.ID))
				if s.Reason == "" {
					t.Errorf("step %s has no reason", s.Op)
				}
			}
			if strings.Join(steps, ", ") != tt.steps || got.State != tt.state || got.Ready != tt.ready {
				t.Fatalf("got steps %q, state %s, ready %v (%s); want %q, %s, %v", steps, got.State, got.Ready, got.Reason, tt.steps, tt.state, tt.ready)
			}
			if all := strings.Join(append([]string{got.Reason}, got.More...), "\n"); got.Reason == "" || !strings.Contains(all, tt.words) {
				t.Fatalf("reasons %q lack %q", all, tt.words)
			}
			wait := got.Wake.Sub(now)
			if got.Wake.IsZero() {
				wait = 0
			}
			if low := time.Duration(float64(tt.wake) * (1 - jitter)); wait < low || wait > tt.wake {
				t.Fatalf("wakes after %v, want about %v", wait, tt.wake)
			}
		})
	}
}

// What may be begun while a container is taken away.
func TestConcurrent(t *testing.T) {
	away := []Step{{Op: Stop, ID: "web", Extra: true}, {Op: Remove, ID: "web", Extra: true}}
	with := func(s ...Step) []Step { return append(slices.Clone(away), s...) }
	tests := []struct {
		name   string
		steps  []Step
		surges bool
		want   string
	}{
		{"nothing to do", nil, true, ""},
		{"nothing to take away", []Step{{Op: Prepare, ID: "web"}, {Op: Start, ID: "web"}}, true, "prepare web"},
		{"nothing else to do", away, true, "stop web"},
		{"without surge, one after the other", with(Step{Op: Start, ID: "web.next"}), false, "stop web"},
		{"a crash of the other one", with(Step{Op: Start, ID: "web.next"}), true, "stop web, start web.next"},
		{"the other one is not well", with(Step{Op: Stop, ID: "web.next", Fault: "liveness"}), true, "stop web, stop web.next"},
		{"labels", with(Step{Op: Label, ID: "web.next"}), true, "stop web, label web.next"},
		{"the next image", with(Step{Op: Prepare, ID: "x"}, Step{Op: Start, ID: "x", Beside: true}), true, "stop web, prepare x"},
		{"a third one waits", with(Step{Op: Start, ID: "x", Beside: true}), true, "stop web"},
		{"its own id waits", with(Step{Op: Start, ID: "web"}), true, "stop web"},
		{"both go: in order", with(Step{Op: Stop, ID: "web.next"}, Step{Op: Remove, ID: "web.next"}), true, "stop web"},
		{"two are too many", with(Step{Op: Stop, ID: "y", Extra: true}, Step{Op: Start, ID: "web.next"}), true, "stop web"},
	}
	for _, tt := range tests {
		var got []string
		for _, s := range concurrent(tt.steps, tt.surges) {
			got = append(got, fmt.Sprintf("%s %s", s.Op, s.ID))
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: begins %q, want %q", tt.name, got, tt.want)
		}
	}
}
