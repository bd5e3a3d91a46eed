package supervise

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// conformance: A1
func TestOneContainerRunsAndIsRevived(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1))
		rep := r.is("web", Running)
		if !rep.Ready || !rep.Placed || rep.PID == 0 || rep.Container != "web" || rep.Revision != 1 || rep.ExitCode != nil {
			t.Fatalf("report is %+v", rep)
		}
		r.runs("web")

		killed := time.Now()
		r.rt.Kill("web")
		synctest.Wait()
		rep = r.is("web", Running) // at once: no time has passed
		if since := time.Since(killed); since != 0 {
			t.Fatalf("restart took %v", since)
		}
		if rep.Restarts != 1 || rep.ExitCode == nil || *rep.ExitCode != 137 {
			t.Fatalf("report after a kill is %+v", rep)
		}
		if !strings.Contains(rep.Reason, "SIGKILL") {
			t.Fatalf("reason %q does not tell of the kill", rep.Reason)
		}
		if n := r.rt.Count("web"); n != 1 {
			t.Fatalf("%d ran at once", n)
		}
	})
}

// conformance: A4
func TestNothingWantedNothingDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set()
		r.after(time.Minute)
		if calls := r.rt.Calls(fake.OpEnsure, fake.OpStop, fake.OpRemove, fake.OpPull); len(calls) != 0 {
			t.Fatalf("calls %+v", calls)
		}
		if reports := r.s.Reports(); len(reports) != 0 {
			t.Fatalf("reports %+v", reports)
		}
	})
}

// conformance: B1
// conformance: B3
// conformance: B4
func TestSelection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		on := func(role string) func(*spec.Daemon) {
			return func(d *spec.Daemon) { d.Selector = map[string]string{"role": role} }
		}
		r.set(want("web", 1, on("db")))
		rep := r.is("web", Excluded)
		if rep.Placed || rep.Reason != `label role is "edge", not "db"` {
			t.Fatalf("report %+v", rep)
		}
		r.runs()

		r.set(want("web", 1, on("edge")))
		r.is("web", Running)
		r.runs("web")

		r.set(want("web", 1, on("db")))
		r.after(time.Second)
		if rep := r.is("web", Excluded); rep.Container != "" {
			t.Fatalf("a container is left: %+v", rep)
		}
		r.runs()
		if _, there := r.rt.Instance("web"); there {
			t.Fatal("the container is left behind")
		}

		r.set(want("web", 1, func(d *spec.Daemon) { d.Nodes = []string{"n2"} }))
		r.is("web", Excluded)
		r.set(want("web", 1, func(d *spec.Daemon) { d.Nodes = []string{"n1"} }))
		r.is("web", Running)
	})
}

// A change outside the running part restarts nothing, and is remembered.
//
// conformance: D4
func TestNewGenerationOfTheSameDigestOnlyRelabels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		r.is("web", Running)
		d.Generation, d.Revision = 7, 3
		r.set(d)
		r.after(time.Second)
		rep := r.is("web", Running)
		if rep.Generation != 7 || rep.Revision != 3 || r.rt.Starts("web") != 1 {
			t.Fatalf("report %+v after %d starts", rep, r.rt.Starts("web"))
		}
	})
}

// conformance: C2
func TestCrashBackoffDoublesAndResets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var lives atomic.Int32 // each of the first eight ends after a second, the ninth runs a minute
		r := newRig(t, fake.Config{Program: func(runtime.Spec) fake.Program {
			p := fake.Program{Exits: true, After: time.Second, Code: 1}
			if lives.Add(1) == 9 {
				p.After = time.Minute
			}
			return p
		}})
		defer r.end()
		r.set(want("web", 1))
		r.after(5 * time.Minute)
		var starts []time.Time
		for _, c := range r.rt.Calls(fake.OpEnsure) {
			starts = append(starts, c.At)
		}
		// Pauses between an exit (a second after its start) and the next start.
		limits := []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second,
			8 * time.Second, 16 * time.Second, 30 * time.Second, -1, 500 * time.Millisecond}
		if len(starts) < len(limits)+1 {
			t.Fatalf("only %d starts", len(starts))
		}
		for i, limit := range limits {
			pause := starts[i+1].Sub(starts[i]) - time.Second
			if limit < 0 { // after the minute of health: at once
				limit, pause = 0, pause+time.Second-time.Minute
			}
			if low := time.Duration(float64(limit) * (1 - jitter)); pause < low || pause > limit {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, low, limit)
			}
		}
		if n := r.rt.Count("web"); n != 1 {
			t.Fatalf("%d ran at once", n)
		}
	})
}

func TestBackoffIsReportedWithItsReason(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1))
		r.rt.Crash("web", 3)
		synctest.Wait()
		r.rt.Crash("web", 3)
		synctest.Wait()
		rep := r.is("web", BackOff)
		if rep.Ready || rep.ExitCode == nil || *rep.ExitCode != 3 {
			t.Fatalf("report %+v", rep)
		}
		for _, words := range []string{"exited with code 3", "starts again after", "(2 restarts)"} {
			if !strings.Contains(rep.Reason, words) {
				t.Errorf("reason %q lacks %q", rep.Reason, words)
			}
		}
	})
}

// conformance: C3
func TestRestartPolicies(t *testing.T) {
	tests := []struct {
		policy spec.RestartPolicy
		code   uint32
		want   State
	}{
		{spec.RestartAlways, 0, Running},
		{spec.RestartAlways, 1, Running},
		{spec.RestartOnFailure, 0, Completed},
		{spec.RestartOnFailure, 1, Running},
		{spec.RestartNever, 0, Completed},
		{spec.RestartNever, 1, Stopped},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s after %d", tt.policy, tt.code), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, fake.Config{})
				defer r.end()
				d := want("job", 1, restart(tt.policy))
				r.set(d)
				r.rt.Crash("job", tt.code)
				r.after(time.Minute)
				r.is("job", tt.want)
				if tt.want == Running {
					return
				}
				// Re-applying it unchanged does not revive it.
				d.Generation++
				r.set(d)
				r.after(time.Minute)
				r.is("job", tt.want)
				// Nor does an agent that starts anew, nor one whose runtime
				// forgot the exit, as containerd does at a reboot.
				r.restart(d)
				r.after(time.Minute)
				if rep := r.is("job", tt.want); rep.ExitCode == nil || *rep.ExitCode != int(tt.code) {
					t.Fatalf("exit code is forgotten: %+v", rep)
				}
				inst, _ := r.rt.Instance("job")
				r.rt.Put(runtime.Spec{ID: "job", Labels: inst.Labels}, runtime.StateCreated)
				r.restart(d)
				r.after(time.Minute)
				r.is("job", tt.want)
				if n := r.rt.Starts("job"); n != 1 {
					t.Fatalf("%d starts, want 1", n)
				}
				// A changed one runs again.
				r.set(want("job", 2, restart(tt.policy)))
				r.after(time.Second)
				r.is("job", Running)
			})
		})
	}
}

// conformance: C1
// conformance: C5
// conformance: U3
func TestStartErrorsAreRetriedAndReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		r := newRig(t, fake.Config{Program: func(runtime.Spec) fake.Program {
			if bad.Load() {
				return fake.Program{FailStart: errors.New("runc create: exec: \"/nope\": no such file")}
			}
			return fake.Program{}
		}})
		defer r.end()
		r.set(want("web", 1))
		r.after(time.Millisecond)
		rep := r.is("web", BackOff)
		if !strings.Contains(rep.Reason, "/nope") || !strings.Contains(rep.Reason, "tries again after") {
			t.Fatalf("reason %q", rep.Reason)
		}
		r.after(10 * time.Minute)
		r.is("web", BackOff)
		attempts := len(r.rt.Calls(fake.OpEnsure))
		if attempts < 20 || attempts > 40 { // 500 ms doubling to 30 s over ten minutes
			t.Fatalf("%d attempts", attempts)
		}
		bad.Store(false)
		r.after(time.Minute)
		r.is("web", Running)
	})
}

// A new digest is made ready before the old container is stopped; while it
// can't be, the old one goes on.
//
// conformance: U6
func TestNewRevisionWaitsForItsImage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{Images: map[string]string{"web:v1": "sha256:1"}, PullLatency: 3 * time.Second})
		defer r.end()
		r.set(want("web", 1))
		r.is("web", Pulling)
		r.after(4 * time.Second)
		first := r.is("web", Running)

		v2 := want("web", 2, func(d *spec.Daemon) { d.Image = "web:v2" })
		r.set(v2)
		if rep := r.is("web", Pulling); !rep.Ready || rep.PID != first.PID {
			t.Fatalf("the old one does not run during the pull: %+v", rep)
		}
		r.after(3500 * time.Millisecond) // the pull failed, the next one is not due
		rep := r.is("web", Running)
		if rep.PID != first.PID || rep.Revision != 1 || !strings.Contains(rep.Reason, "manifest unknown") ||
			!strings.Contains(rep.Reason, "revision 1 keeps running") {
			t.Fatalf("report %+v", rep)
		}
		r.after(time.Hour)
		if n := len(r.rt.Calls(fake.OpPull)); n < 15 || n > 30 { // 1 s doubling to 5 min over an hour
			t.Fatalf("%d pulls in an hour", n)
		}
		r.rt.SetImage("web:v2", "sha256:2")
		r.after(6 * time.Minute)
		rep = r.is("web", Running)
		if rep.Revision != 2 || rep.ImageDigest != "sha256:2" || rep.Restarts != 0 || rep.ExitCode != nil {
			t.Fatalf("report %+v", rep)
		}
		if n := r.rt.Count("web"); n != 1 {
			t.Fatalf("%d ran at once", n)
		}
	})
}

// While the new revision can't be had, the old one is still looked after, over
// an agent restart and a reboot too.
func TestOldRevisionIsRestartedWhileTheNewOneWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{Images: map[string]string{"web:v1": "sha256:1"}})
		defer r.end()
		r.set(want("web", 1))
		r.is("web", Running)
		v2 := want("web", 2, func(d *spec.Daemon) { d.Image = "web:v2" })
		r.set(v2)
		r.after(5 * time.Minute) // far into the pull's back-off
		r.rt.Crash("web", 1)
		r.after(time.Second)
		rep := r.is("web", Running)
		if rep.Revision != 1 || rep.Restarts != 1 {
			t.Fatalf("report %+v", rep)
		}
		inst, _ := r.rt.Instance("web")
		r.end()
		r.rt.Put(runtime.Spec{ID: "web", Labels: inst.Labels}, runtime.StateCreated) // power was lost
		r.start()
		r.set(v2)
		r.after(2 * time.Second)
		if rep := r.is("web", Running); rep.Revision != 1 {
			t.Fatalf("report %+v", rep)
		}
		r.rt.SetImage("web:v2", "sha256:2")
		r.after(10 * time.Minute)
		if rep := r.is("web", Running); rep.Revision != 2 {
			t.Fatalf("report %+v", rep)
		}
		if n := r.rt.Count("web"); n != 1 {
			t.Fatalf("%d ran at once", n)
		}
	})
}
