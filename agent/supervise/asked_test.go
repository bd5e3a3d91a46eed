package supervise

import (
	"testing"
	"time"

	"github.com/agentd/agentd/runtime/fake"
)

// From the moment when another revision is wanted nobody may take the container
// for available, not even when the first one is wanted again at once: its worker
// may have read of the other one already, and be about to replace it.
func TestNotAvailableOnceAnotherIsWanted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		v1, v2 := want("web", 1), want("web", 2)
		r.set(v1)
		r.after(time.Minute)
		since := r.is("web", Running).ReadySince
		if since.IsZero() {
			t.Fatal("not available after a minute")
		}
		r.end() // no worker gets to run from here on

		// The same revision in other words changes nothing.
		v1.Turn = "its turn comes after web-2"
		r.s.Set([]Desired{v1})
		if rep := r.report("web"); !rep.ReadySince.Equal(since) {
			t.Errorf("available since %v, was %v", rep.ReadySince, since)
		}
		for _, wanted := range []Desired{v2, v1} {
			r.s.Set([]Desired{wanted})
			if rep := r.report("web"); !rep.ReadySince.IsZero() {
				t.Errorf("revision %d is wanted, and the container is available since %v", wanted.Revision, rep.ReadySince)
			}
		}
		r.start()
		r.set(v1)
		r.after(time.Minute)
		if rep := r.report("web"); rep.ReadySince.IsZero() || !rep.Ready || rep.Revision != 1 {
			t.Errorf("report %+v", rep)
		}
		r.end()
	})
}
