package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// conformance: E1
// conformance: E5
func TestDeleteAndCreateAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{StopLatency: 2 * time.Second})
		defer r.end()
		r.set(want("a", 1), want("b", 1), want("c", 1))
		r.runs("a", "b", "c")
		r.set(gone("a", 2), gone("b", 2), want("c", 1))
		r.is("a", Stopping)
		r.after(3 * time.Second)
		r.runs("c")
		if rep := r.is("a", Stopped); rep.Placed || rep.Reason != "deleted" {
			t.Fatalf("report %+v", rep)
		}
		r.set(want("a", 3), gone("b", 2), want("c", 1))
		r.is("a", Running)
		// Deleted and created again while the old one is still ending.
		r.set(gone("c", 2))
		r.after(time.Second)
		r.set(want("a", 3), want("c", 3))
		r.after(5 * time.Second)
		if rep := r.is("c", Running); rep.Generation != 3 || rep.Restarts != 0 {
			t.Fatalf("report %+v", rep)
		}
		if n := r.rt.Count("c"); n != 1 {
			t.Fatalf("%d ran at once", n)
		}
	})
}

// conformance: E2
func TestNothingIsCreatedWhileDeleted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{PullLatency: time.Minute, StartLatency: 5 * time.Second})
		defer r.end()
		r.set(want("web", 1))
		r.is("web", Pulling)
		r.set(gone("web", 2)) // in the middle of the pull: given up
		r.is("web", Stopped)
		r.after(2 * time.Minute)
		if n := r.rt.Starts("web"); n != 0 {
			t.Fatalf("started %d times after its delete", n)
		}
		r.set(want("web", 3))
		r.after(time.Minute + time.Second)
		r.is("web", Starting)
		r.set(gone("web", 4)) // in the middle of the start: undone after it
		r.after(time.Minute)
		r.is("web", Stopped)
		r.runs()
	})
}

// conformance: E3
func TestDeletedWhileTheAgentWasDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1))
		r.runs("web")
		r.restart(gone("web", 2))
		r.after(time.Second)
		r.runs()
		r.is("web", Stopped)
	})
}

// conformance: E4
func TestForeignContainersAreNotTouched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.rt.PutForeign("web")
		r.set(want("web", 1), want("other", 1))
		r.after(time.Hour)
		rep := r.is("web", Blocked)
		if !strings.Contains(rep.Reason, "somebody else") {
			t.Fatalf("reason %q", rep.Reason)
		}
		r.is("other", Running)
		r.runs("other", "web")
		if len(r.rt.Calls(fake.OpStop)) != 0 {
			t.Fatal("something was stopped")
		}
		r.set(gone("web", 2), want("other", 1))
		r.after(time.Minute)
		r.runs("other", "web")
	})
}

// A container of ours without a record here, and one whose record is gone, are
// left alone: absence never means delete.
func TestAbsenceStopsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1))
		r.is("web", Running)
		r.set()
		r.after(time.Minute)
		rep := r.is("web", Running)
		if rep.Placed || !strings.Contains(rep.Reason, "no record of it here") {
			t.Fatalf("report %+v", rep)
		}
		r.restart()
		r.after(time.Minute)
		r.is("web", Running)
		r.runs("web")
		if n := r.rt.Starts("web"); n != 1 {
			t.Fatalf("%d starts", n)
		}
	})
}

// What was deleted does not come back for the time that its successor takes to
// be made ready, neither at once nor by an agent that is started meanwhile.
//
// conformance: E5
func TestDeletedDoesNotComeBackMeanwhile(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, fake.Config{PullLatency: 5 * time.Second, StopLatency: time.Second})
			defer r.end()
			r.set(want("web", 1))
			r.after(6 * time.Second)
			r.runs("web")
			r.set(gone("web", 2))
			again := want("web", 3, func(d *spec.Daemon) { d.Image = "web:v3" })
			if restarted {
				r.restart(again)
			} else {
				r.after(500 * time.Millisecond)
				r.set(again)
			}
			r.after(4 * time.Second)
			if n := r.rt.Starts("web"); n != 1 {
				t.Fatalf("restarted %t: started %d times before the new one was here: %+v", restarted, n, r.report("web"))
			}
			r.after(10 * time.Second)
			if rep := r.is("web", Running); rep.Generation != 3 {
				t.Fatalf("report %+v", rep)
			}
		})
	}
}
