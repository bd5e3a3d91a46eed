package supervise

import (
	"errors"
	"time"

	"github.com/agentd/agentd/runtime"
)

// Labels of ours on containers, besides those of the runtime package.
const (
	labelStreak = "agentd.io/streak" // crashes in a row that the back-off counts
	labelFinal  = "agentd.io/final"  // the restart count at which it ended for good
	labelSource = "agentd.io/source" // digest of the record's daemon, before it was rendered for this node
	labelHook   = "agentd.io/hook"   // LabelStarted of the instance whose post_start hook is done
	labelWell   = "agentd.io/well"   // LabelStarted of the instance, while its probes are content
	labelFault  = "agentd.io/fault"  // why the instance is being stopped, when it is not well
)

// Asked is an operator's wish to restart the daemon here.
type Asked struct{ PID int } // of the instance to end; 0: there was none

// Waits is whose end a stop waits for.
type Waits struct {
	For   string
	Since time.Time
}

// Failure is a step that failed, and how often in a row.
type Failure struct {
	Op     Op
	Digest string // of the desired daemon
	Count  int
	At     time.Time
	Err    string
	// Blocked: somebody else's container is in the way.
	Blocked bool
}

// History is what this process knows of a daemon besides its record and its
// containers. It is a value; its methods return the changed copy. Losing it
// loses nothing that matters: what must survive is in labels.
type History struct {
	Life            // of the container that stands for the daemon
	Beside   Life   // of the one that is about to take over, see surge
	Doomed   string // id of a container besides those two that is being taken away
	Failure  *Failure
	Fallback *Failure // of restarting the revision before, see plan.fallBack
	Prepared Prepared
	Waits    Waits
	Asked    *Asked
	Panics   int // of agentd itself, on the desired digest
	Panic    string
	Trying   time.Time // see Report.TryingSince
}

// Prepared says that a digest can be started without delay.
type Prepared struct {
	Digest string // of the daemon; "": nothing is prepared
	Image  string // manifest digest
	Note   string // what an operator should know about the image
}

// Decided notes since when what a decision says is so.
func (h History) Decided(r Result, now time.Time) History {
	if h.Waits.For != r.Waits {
		h.Waits = Waits{For: r.Waits, Since: now}
	}
	h.ReadySince, h.Beside.ReadySince, h.Trying = r.OwnSince, r.BesideSince, r.TryingSince
	return h
}

// Observe folds what the runtime shows of the daemon's own container into the
// history. inst is nil when there is none.
func (h History) Observe(inst *runtime.Instance, now time.Time) History {
	h.Life = h.Life.Observe(inst, now)
	return h
}

// Cast makes each life that of its container again, after the roles changed by
// themselves: the own container is gone, and the one beside it is left.
func (h History) Cast(own *runtime.Instance) History {
	if own != nil && h.Of != own.ID && h.Beside.Of == own.ID {
		h.Life, h.Beside = h.Beside, Life{}
	}
	if own != nil && h.Doomed == own.ID {
		h.Doomed = "" // it is of use again
	}
	return h
}

// life is that of the container that a step is about.
func (h *History) life(s Step) *Life {
	if s.Beside {
		return &h.Beside
	}
	return &h.Life
}

// Begun notes that a step is under way.
func (h History) Begun(s Step) History {
	switch {
	case s.Extra:
		h.Doomed = s.ID
	case s.Op == Stop:
		l := h.life(s)
		l.Stopping, l.Fault = true, s.Fault
	}
	return h
}

// Done folds a step that succeeded into the history.
func (h History) Done(s Step) History {
	if f := h.failureOf(s); f != nil && f.Op == s.Op {
		h = h.withFailure(s, nil)
	}
	if s.Extra {
		if s.Op == Remove {
			h.Doomed = ""
		}
		return h
	}
	switch s.Op {
	case Start:
		l := h.life(s)
		l.Stopping, l.Fault, l.HookFailed = false, "", ""
		h.Asked = nil
		h = h.withFailure(s, nil)
	case HandOver:
		if s.Beside {
			h.Life, h.Beside, h.Fallback = h.Beside, Life{}, nil
		}
	case Remove:
		// The next container of this daemon begins a new life.
		h = History{Life: Life{Looked: true}, Prepared: h.Prepared, Panics: h.Panics, Panic: h.Panic, Asked: h.Asked}
	}
	return h
}

// Failed folds a step that failed into the history.
func (h History) Failed(s Step, digest string, err error, now time.Time) History {
	if !s.Extra {
		h.Asked = nil // whoever asked is told, and may ask again
	}
	if s.Op == Hook {
		h.life(s).HookFailed = errorWords(err) // which ends this instance, see keep
		return h
	}
	f := Failure{Op: s.Op, Digest: digest, Count: 1, At: now, Err: errorWords(err), Blocked: errors.Is(err, runtime.ErrForeign)}
	if old := h.failureOf(s); old != nil && old.Op == f.Op && old.Digest == digest {
		f.Count += old.Count
	}
	h = h.withFailure(s, &f)
	if s.Op == Start && !errors.Is(err, runtime.ErrStray) && !f.Blocked {
		// What was prepared may be what is missing: look again.
		h.Prepared = Prepared{}
	}
	return h
}

func (h History) failureOf(s Step) *Failure {
	if s.Fallback {
		return h.Fallback
	}
	return h.Failure
}

func (h History) withFailure(s Step, f *Failure) History {
	if s.Fallback {
		h.Fallback = f
	} else {
		h.Failure = f
	}
	return h
}

// Wants adapts the history to the digest that is wanted now: what failed, was
// prepared or was started beside for another one does not count.
func (h History) Wants(digest string) History {
	if h.Failure != nil && h.Failure.Digest != digest {
		h.Failure, h.Fallback = nil, nil
	}
	if h.Prepared.Digest != digest {
		h.Prepared = Prepared{}
	}
	h.Beside, h.Trying = Life{}, time.Time{}
	return h
}
