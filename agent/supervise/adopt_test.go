package supervise

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
)

// conformance: F1
func TestAgentRestartAdopts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		r.rt.Crash("web", 1)
		r.after(time.Minute)
		r.rt.Crash("web", 4)
		r.after(time.Minute)
		before := r.is("web", Running)
		r.restart(d)
		r.after(time.Minute)
		after := r.is("web", Running)
		if after.PID != before.PID || after.Restarts != 2 || after.ExitCode == nil || *after.ExitCode != 4 || !after.StartedAt.Equal(before.StartedAt) || !after.Since.Equal(before.StartedAt) {
			t.Fatalf("before %+v, after %+v", before, after)
		}
		if n := r.rt.Starts("web"); n != 3 {
			t.Fatalf("%d starts, want 3", n)
		}
	})
}

// conformance: F3
// conformance: C4
func TestExitWhileAgentWasAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		for range 5 { // up to a back-off of 4 s
			r.rt.Crash("web", 1)
			r.after(10 * time.Second)
		}
		r.is("web", Running)
		r.end()
		r.after(time.Second)
		r.rt.Crash("web", 9)
		r.after(time.Second)
		r.start()
		r.set(d)
		rep := r.is("web", BackOff) // the streak survived, and so did the time that has passed
		if !strings.Contains(rep.Reason, "exited with code 9 while agentd was away") || !strings.Contains(rep.Reason, "6 restarts") {
			t.Fatalf("reason %q", rep.Reason)
		}
		r.after(7 * time.Second) // of 8 s one has passed
		if rep := r.is("web", Running); rep.Restarts != 6 {
			t.Fatalf("report %+v", rep)
		}
	})
}

// A reboot loses tasks and exit codes; what ran starts at once.
//
// conformance: F6
// conformance: U4
func TestBootStartsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		for range 5 {
			r.rt.Crash("web", 1)
			r.after(10 * time.Second)
		}
		inst, _ := r.rt.Instance("web")
		r.end()
		r.rt.Put(runtime.Spec{ID: "web", Labels: inst.Labels}, runtime.StateCreated)
		r.start()
		r.set(d)
		rep := r.is("web", Running)
		if rep.Restarts != 6 {
			t.Fatalf("report %+v", rep)
		}
	})
}

// conformance: A5
func TestExtraContainersAreReducedToOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		labels := stableLabels(d, "n1")
		r.rt.Put(runtime.Spec{ID: "web.next", Labels: labels}, runtime.StateRunning)
		r.rt.Put(runtime.Spec{ID: "web", Labels: map[string]string{runtime.LabelDaemon: "web", runtime.LabelDigest: "old"}}, runtime.StateRunning)
		r.after(time.Second) // so that it was seen
		r.set(d)
		r.after(10 * time.Second)
		r.runs("web.next") // the wanted digest runs there: it is not restarted for its name
		if rep := r.is("web", Running); rep.Container != "web.next" || r.rt.Starts("web.next") != 0 {
			t.Fatalf("report %+v", rep)
		}
		r.rt.Crash("web.next", 1)
		r.after(time.Second)
		r.runs("web.next")
	})
}

func TestHalfStatesConverge(t *testing.T) {
	for _, state := range []runtime.State{runtime.StateCreated, runtime.StateRunning, runtime.StatePaused, runtime.StateStopped, runtime.StateBroken} {
		for _, digest := range []string{"same", "other"} {
			t.Run(fmt.Sprintf("%s of the %s digest", state, digest), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					r := newRig(t, fake.Config{})
					defer r.end()
					d := want("web", 1)
					labels := stableLabels(d, "n1")
					if digest == "other" {
						labels[runtime.LabelDigest] = "x"
					}
					r.rt.Put(runtime.Spec{ID: "web", Labels: labels}, state)
					r.after(time.Second)
					r.set(d)
					r.after(10 * time.Second)
					rep := r.is("web", Running)
					if rep.Digest != d.Digest || r.rt.Count("web") != 1 {
						t.Fatalf("report %+v, %d at once", rep, r.rt.Count("web"))
					}
					// And from the same state to nothing.
					r.end()
					r.rt.Put(runtime.Spec{ID: "web", Labels: labels}, state)
					r.start()
					r.set(gone("web", 2))
					r.after(10 * time.Second)
					r.runs()
					r.is("web", Stopped)
				})
			})
		}
	}
}

// What this agent stopped itself, for a revision that was taken back before it
// could start, is no crash.
func TestOwnStopIsNoCrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{StopLatency: 2 * time.Second})
		defer r.end()
		r.set(want("web", 1))
		r.is("web", Running)
		r.set(want("web", 2))
		r.is("web", Stopping)
		r.after(time.Second)
		r.set(want("web", 1))
		r.after(2 * time.Second)
		if rep := r.is("web", Running); rep.Restarts != 0 || rep.ExitCode != nil || rep.Revision != 1 {
			t.Fatalf("report %+v", rep)
		}
		if n := r.rt.Starts("web"); n != 2 {
			t.Fatalf("%d starts", n)
		}
	})
}
