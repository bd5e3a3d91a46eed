package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// What Plan makes of probes, hooks, jobs, taints, dependencies and wishes.
//
// conformance: B5
// conformance: B6
// conformance: C6
func TestPlanPlaced(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	started := now.Add(-time.Hour).Format(time.RFC3339Nano)
	node := spec.Node{Name: "n1"}
	plain, old := want("web", 2), want("web", 1)
	probed, hooked, jobs := want("web", 2, health(probe.Readiness)), want("web", 2, hooks), want("web", 2, asJob(2))
	stops := want("web", 2, func(d *spec.Daemon) {
		d.Isolation = spec.Isolation{Policy: spec.IsolationStop, After: spec.Duration(time.Hour)}
	})
	taint := func(effect string) Site {
		return Site{Node: spec.Node{Name: "n1", Taints: []spec.Taint{{Key: "k", Effect: effect}}}}
	}
	inst := func(of Desired, state runtime.State, labels ...string) *runtime.Instance {
		i := runtime.Instance{ID: "web", State: state, Labels: stableLabels(of, "n1"), StartedAt: now.Add(-time.Hour)}
		i.Labels[runtime.LabelStarted] = started
		if state == runtime.StateRunning {
			i.PID = 7
		}
		for n := 0; n+1 < len(labels); n += 2 {
			i.Labels[labels[n]] = labels[n+1]
		}
		return &i
	}
	ended := func(of Desired, code uint32, labels ...string) *runtime.Instance {
		i := inst(of, runtime.StateStopped, labels...)
		i.Exit = &runtime.Exit{Code: code, Known: true, At: now}
		return i
	}
	running := func(of Desired, labels ...string) *runtime.Instance {
		return inst(of, runtime.StateRunning, labels...)
	}
	ready := History{Prepared: Prepared{Digest: plain.Digest}}
	unready := []Need{{Name: "db", Why: "starting"}}

	tests := []struct {
		name    string
		desired Desired
		actual  *runtime.Instance
		edit    func(*Input)
		steps   string
		state   State
		ready   bool
		placed  bool
		words   string
	}{
		{name: "well: it is noted once", desired: probed, actual: running(probed), steps: "label", state: Running, ready: true, placed: true},
		{name: "well, and noted", desired: probed, actual: running(probed, labelWell, started), state: Running, ready: true, placed: true},
		{name: "not asked yet", desired: probed, actual: running(probed), edit: func(in *Input) { in.Health = probe.Verdict{Unready: true, Reason: "not yet"} },
			state: Starting, placed: true, words: "not yet"},
		{name: "not ready any more: it is noted", desired: probed, actual: running(probed, labelWell, started),
			edit:  func(in *Input) { in.Health = probe.Verdict{Unready: true, Failing: true, Reason: "refused"} },
			steps: "label", state: Unhealthy, placed: true, words: "refused"},
		{name: "dead", desired: probed, actual: running(probed), edit: func(in *Input) { in.Health = probe.Verdict{Unready: true, Dead: true, Reason: "refused"} },
			steps: "stop", state: Unhealthy, placed: true, words: "refused; it is stopped for that"},
		{name: "dead and held: left alone", desired: func() Desired { d := probed; d.Hold = "conflict"; return d }(), actual: running(probed),
			edit: func(in *Input) { in.Health = probe.Verdict{Dead: true, Reason: "refused"} }, state: Blocked, placed: true, words: "keeps running: refused"},
		{name: "stopped for a fault by an agent that is gone", desired: plain, actual: ended(plain, 0, labelFault, "liveness refused"),
			edit: func(in *Input) { in.History.Prepared.Digest = plain.Digest }, steps: "start", state: Starting, placed: true, words: "liveness refused; stopped for that"},
		{name: "post_start to come", desired: hooked, actual: running(hooked), steps: "hook", state: Starting, placed: true, words: "post_start"},
		{name: "post_start done", desired: hooked, actual: running(hooked, labelHook, started), state: Running, ready: true, placed: true},
		{name: "post_start failed", desired: hooked, actual: running(hooked), edit: func(in *Input) {
			in.History = in.History.Observe(&in.Actual[0], now).Failed(Step{Op: Hook}, "", errEnded, now)
		}, steps: "stop", state: Unhealthy, placed: true, words: "post_start agentd is ending"},
		{name: "cordoned: keeps", desired: plain, actual: running(plain), edit: func(in *Input) { in.Site.Cordoned = true }, state: Running, ready: true, placed: true},
		{name: "cordoned: adds nothing", desired: plain, edit: func(in *Input) { in.Site.Cordoned = true }, state: Excluded, words: "cordoned"},
		{name: "cordoned: restarts in place", desired: plain, actual: ended(plain, 1), edit: func(in *Input) { in.Site.Cordoned = true }, steps: "prepare start", state: Pulling, placed: true},
		{name: "cordoned: no new revision", desired: plain, actual: running(old), edit: func(in *Input) { in.Site.Cordoned = true }, state: Running, ready: true, placed: true, words: "revision 2 waits"},
		{name: "draining", desired: plain, actual: running(plain), edit: func(in *Input) { in.Site.Draining = true }, steps: "stop remove", state: Stopping, ready: true, words: "drained"},
		{name: "NoSchedule, running", desired: plain, actual: running(plain), edit: func(in *Input) { in.Site = taint(spec.NoSchedule) }, state: Running, ready: true, placed: true},
		{name: "NoExecute, running", desired: plain, actual: running(plain), edit: func(in *Input) { in.Site = taint(spec.NoExecute) }, steps: "stop remove", state: Stopping, ready: true},
		{name: "NoExecute, held: left alone", desired: func() Desired { d := plain; d.Hold = "conflict"; return d }(), actual: running(plain),
			edit: func(in *Input) { in.Site = taint(spec.NoExecute) }, state: Blocked, ready: true, placed: true},
		{name: "PreferNoSchedule keeps nothing off", desired: plain, edit: func(in *Input) { in.Site = taint(spec.PreferNoSchedule) }, steps: "prepare start", state: Pulling, placed: true},
		{name: "isolated, not for long", desired: stops, actual: running(stops), edit: func(in *Input) { in.Site.Isolated = now.Add(-time.Minute) }, state: Running, ready: true, placed: true},
		{name: "isolated for too long", desired: stops, actual: running(stops), edit: func(in *Input) { in.Site.Isolated = now.Add(-time.Hour) }, steps: "stop", state: Stopping, ready: true, placed: true},
		{name: "isolated, policy keep", desired: plain, actual: running(plain), edit: func(in *Input) { in.Site.Isolated = now.Add(-time.Hour) }, state: Running, ready: true, placed: true},
		{name: "a dependency is not ready: made ready meanwhile", desired: plain, edit: func(in *Input) { in.Needs = unready }, steps: "prepare start", state: Pulling, placed: true},
		{name: "a dependency is not ready", desired: plain, edit: func(in *Input) { in.Needs, in.History = unready, ready }, state: Waiting, placed: true, words: "waits for db, which is not ready here: starting"},
		{name: "a dependency is not ready, the old one runs", desired: plain, actual: running(old), edit: func(in *Input) {
			in.Needs = unready
			in.History.Prepared = ready.Prepared
		}, state: Running, ready: true, placed: true, words: "revision 1 keeps running"},
		{name: "a dependency is not ready, it runs", desired: plain, actual: running(plain), edit: func(in *Input) { in.Needs = unready }, state: Running, ready: true, placed: true},
		{name: "in a circle", desired: plain, edit: func(in *Input) { in.Circle, in.History = []string{"web", "db", "web"}, ready }, state: Blocked, placed: true, words: "web needs db needs web"},
		{name: "its user goes first", desired: plain, actual: running(plain), edit: func(in *Input) {
			in.Left = true
			in.Users = []User{{Name: "api", Grace: time.Second, Direct: true}}
		}, state: Stopping, ready: true, placed: true, words: "first api has to stop"},
		{name: "its user does not go in time", desired: plain, actual: running(plain), edit: func(in *Input) {
			in.Left = true
			in.Users = []User{{Name: "api", Grace: time.Second, Direct: true}}
			in.History.Waits = Waits{For: "api", Since: now.Add(-orderPatience - time.Second)}
		}, steps: "stop remove", state: Stopping, ready: true, placed: true},
		{name: "can't be rendered", desired: plain, actual: running(old), edit: func(in *Input) { in.Broken = "no label rack" }, state: Blocked, ready: true, placed: true, words: "no label rack; revision 1 keeps running"},
		{name: "a job that runs", desired: jobs, actual: running(jobs), state: Running, placed: true},
		{name: "a job that is done", desired: jobs, actual: ended(jobs, 0), steps: "record", state: Completed, ready: true, placed: true, words: "the job is done"},
		{name: "a job that failed once of two", desired: jobs, actual: ended(jobs, 1), steps: "prepare start", state: Pulling, placed: true},
		{name: "a job that failed twice of two", desired: jobs, actual: ended(jobs, 1, runtime.LabelRestarts, "1"), steps: "record", state: Stopped, placed: true, words: "restart.attempts = 2 is used up"},
		{name: "a job out of memory says so", desired: jobs, actual: func() *runtime.Instance {
			i := ended(jobs, 137, runtime.LabelRestarts, "1")
			i.Exit.OOM = true
			return i
		}(),
			steps: "record", state: Stopped, placed: true, words: "out of memory"},
		{name: "a job that was done before", desired: jobs, edit: func(in *Input) { in.Finished = &JobEnd{Digest: jobs.Digest, Good: true, Why: "done"} }, state: Completed, ready: true, placed: true},
		{name: "a job that was done before, on a cordoned node", desired: jobs, edit: func(in *Input) {
			in.Site.Cordoned = true
			in.Finished = &JobEnd{Digest: jobs.Digest, Good: true, Why: "done"}
		}, state: Completed, ready: true, placed: true},
		{name: "another revision of a job runs, and the wanted one is done", desired: jobs, actual: running(want("web", 1, asJob(2))),
			edit: func(in *Input) { in.Finished = &JobEnd{Digest: jobs.Digest, Good: true, Why: "done"} }, steps: "stop", state: Stopping, placed: true},
		{name: "a restart is asked for", desired: plain, actual: running(plain), edit: func(in *Input) { in.History.Asked = &Asked{PID: 7} }, steps: "prepare stop start", state: Pulling, ready: true, placed: true, words: "an operator asked"},
		{name: "a restart was asked for of the one before", desired: plain, actual: running(plain), edit: func(in *Input) { in.History.Asked = &Asked{PID: 6} }, state: Running, ready: true, placed: true},
		{name: "a restart is asked for in a back-off", desired: plain, actual: ended(plain, 1, labelStreak, "9"), edit: func(in *Input) {
			in.Actual[0].StartedAt = now.Add(-time.Second)
			in.History = History{Asked: &Asked{}, Prepared: ready.Prepared}.Observe(&in.Actual[0], now)
		}, steps: "start", state: Starting, placed: true, words: "an operator asked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.desired
			in := Input{Name: "web", Desired: &d, Site: Site{Node: node}, Labels: stableLabels(d, "n1"), Seed: "n1", Now: now}
			if tt.actual != nil {
				in.Actual = []runtime.Instance{*tt.actual}
			}
			if tt.edit != nil {
				tt.edit(&in)
			}
			in.History = in.History.Observe(Primary("web", d.Digest, in.Actual), now)
			got := Plan(in)
			var ops []string
			for _, s := range got.Steps {
				ops = append(ops, string(s.Op))
				if s.Reason == "" {
					t.Errorf("step %s has no reason", s.Op)
				}
			}
			if strings.Join(ops, " ") != tt.steps || got.State != tt.state || got.Ready != tt.ready || got.Placed != tt.placed {
				t.Fatalf("got steps %q, state %s, ready %v, placed %v (%s); want %q, %s, %v, %v",
					ops, got.State, got.Ready, got.Placed, got.Reason, tt.steps, tt.state, tt.ready, tt.placed)
			}
			if !strings.Contains(got.Reason, tt.words) {
				t.Fatalf("reason %q lacks %q", got.Reason, tt.words)
			}
		})
	}
}

func TestCircles(t *testing.T) {
	tests := []struct {
		deps map[string][]string
		want string // of each, sorted by name
	}{
		{map[string][]string{"a": {"b"}, "b": {"c"}}, ""},
		{map[string][]string{"a": {"a"}}, "a: a a"},
		{map[string][]string{"a": {"b"}, "b": {"a"}, "c": {"a"}}, "a: a b a, b: b a b"},
		{map[string][]string{"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c"}}, "a: a b a, b: b a b, c: c d c, d: d c d"},
	}
	for _, tt := range tests {
		var got []string
		all := circles(tt.deps)
		for _, name := range []string{"a", "b", "c", "d"} {
			if path := all[name]; path != nil {
				got = append(got, name+": "+strings.Join(path, " "))
			}
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%v: got %q, want %q", tt.deps, got, tt.want)
		}
	}
}
