package supervise

import (
	"encoding/json"
	"errors"
	"strconv"
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

// Counts of restarts, carried by the labels of the container that they led to.
type Counts struct {
	Restarts int       // since this digest was first started here
	Streak   int       // crashes in a row, each within reset_after of its start
	Window   time.Time // when the streak began
}

// Ended is an exit that was not answered with a start yet.
type Ended struct {
	Exit   runtime.Exit
	SeenAt time.Time     // by this process's monotonic clock
	Age    time.Duration // how old the exit was when it was seen
	Ran    time.Duration // how long the instance ran; 0: unknown
	Away   bool          // it happened before this agent looked for the first time
	Ours   bool          // this agent stopped it on purpose
	Gone   bool          // the container itself vanished
	Fault  string        // it was not well and was stopped for that, in words
	Said   *Said         // what it said last; nil: not asked for yet
}

// Asked is an operator's wish to restart the daemon here.
type Asked struct{ PID int } // of the instance to end; 0: there was none

// Waits is whose end a stop waits for.
type Waits struct {
	For   string
	Since time.Time
}

// Well is how an instance with probes has fared.
type Well struct {
	Probed  bool
	Longest time.Duration // for which all of its probes were content
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

// Seen is the instance that ran when it was last looked at.
type Seen struct {
	ID    string
	PID   int
	Since time.Time // first seen by this process
}

// History is what this process knows of a daemon besides its record and its
// containers. It is a value; its methods return the changed copy. Losing it
// loses nothing that matters: what must survive is in labels.
type History struct {
	Looked   bool
	Running  *Seen
	Ended    *Ended
	Counts   Counts
	CountsOf string        // digest that Counts and Last are about
	Last     *runtime.Exit // of the instance before the present one
	Failure  *Failure
	Fallback *Failure // of restarting the revision before, see plan.fallBack
	Prepared Prepared
	Stopping bool   // a stop of ours is under way or done
	Fault    string // why, when it is an end of an instance that is not well
	// HookFailed is how post_start of the instance that runs failed.
	HookFailed string
	Well       Well
	Waits      Waits
	Asked      *Asked
	Panics     int // of agentd itself, on the desired digest
	Panic      string
}

// Prepared says that a digest can be started without delay.
type Prepared struct {
	Digest string // of the daemon; "": nothing is prepared
	Image  string // manifest digest
	Note   string // what an operator should know about the image
}

// Observe folds what the runtime shows of the daemon's container into the
// history. inst is nil when there is none.
func (h History) Observe(inst *runtime.Instance, now time.Time) History {
	first := !h.Looked
	h.Looked = true
	if inst != nil {
		h.Counts, h.Last = countsOf(inst.Labels), exitOf(inst.Labels)
		h.CountsOf = inst.Labels[runtime.LabelDigest]
	}
	if inst != nil && (inst.State == runtime.StateRunning || inst.State == runtime.StatePaused) {
		if h.Running == nil || h.Running.PID != inst.PID || h.Running.ID != inst.ID {
			h.Running = &Seen{ID: inst.ID, PID: inst.PID, Since: now}
			h.HookFailed, h.Well = "", Well{}
		}
		h.Ended = nil
		return h
	}
	exit := runtime.Exit{At: now}
	if inst != nil && inst.State == runtime.StateStopped && inst.Exit != nil {
		exit = *inst.Exit
	}
	switch {
	case h.Running != nil || first && hasRun(inst):
		fault := h.Fault
		if h.Running == nil {
			fault = inst.Labels[labelFault] // another agent was about to end it
		}
		e := &Ended{Exit: exit, SeenAt: now, Away: h.Running == nil, Ours: h.Stopping && fault == "", Gone: inst == nil, Fault: fault}
		if e.Ran = ran(inst, h.Running, exit); h.Well.Probed {
			e.Ran = min(e.Ran, h.Well.Longest) // only health counts, not being there
		}
		if !exit.At.IsZero() {
			e.Age = max(0, now.Sub(exit.At))
		}
		h.Ended, h.Running = e, nil
	case h.Ended != nil && !h.Ended.Exit.Known && exit.Known:
		// The runtime knows better by now. The time of the first sight stays.
		e := *h.Ended
		e.Exit = exit
		h.Ended = &e
	}
	return h
}

// Felt folds what the probes of the instance say into the history: the longest
// time for which they were content.
func (h History) Felt(longest time.Duration) History {
	h.Well = Well{Probed: true, Longest: longest}
	return h
}

// WaitsFor notes whose end a stop waits for.
func (h History) WaitsFor(names string, now time.Time) History {
	if h.Waits.For != names {
		h.Waits = Waits{For: names, Since: now}
	}
	return h
}

// hasRun reports whether a container that does not run did so before.
func hasRun(inst *runtime.Instance) bool {
	return inst != nil && (inst.State == runtime.StateStopped || inst.Labels[runtime.LabelStarted] != "")
}

// ran returns how long an instance ran that ended with exit, 0 when unknown.
func ran(inst *runtime.Instance, seen *Seen, exit runtime.Exit) time.Duration {
	var started time.Time
	if inst != nil {
		if started = inst.StartedAt; started.IsZero() {
			started = timeOf(inst.Labels[runtime.LabelStarted])
		}
	}
	switch {
	case !started.IsZero() && exit.Known && !exit.At.IsZero():
		return max(0, exit.At.Sub(started))
	case seen != nil:
		return max(0, exit.At.Sub(seen.Since))
	}
	return 0
}

// Next returns the counts with which the daemon's next instance starts.
func (h History) Next(digest string, resetAfter time.Duration, now time.Time) Counts {
	if h.CountsOf != digest {
		return Counts{}
	}
	c := h.Counts
	if h.Ended == nil || h.Ended.Ours {
		return c
	}
	c.Restarts++
	// Of an exit that nobody saw and whose time is unknown (a reboot), it is
	// assumed that it came after a healthy time: a boot waits for nothing.
	if c.Streak == 0 || h.Ended.Ran >= resetAfter || h.Ended.Away && h.Ended.Ran == 0 {
		return Counts{Restarts: c.Restarts, Streak: 1, Window: now}
	}
	c.Streak++
	return c
}

// Begun notes that a step is under way.
func (h History) Begun(s Step) History {
	if s.Op == Stop && !s.Extra {
		h.Stopping, h.Fault = true, s.Fault
	}
	return h
}

// Done folds a step that succeeded into the history.
func (h History) Done(s Step) History {
	if f := h.failureOf(s); f != nil && f.Op == s.Op {
		h = h.withFailure(s, nil)
	}
	if s.Extra {
		return h
	}
	switch s.Op {
	case Start:
		h.Stopping, h.Fault, h.HookFailed, h.Asked = false, "", "", nil
		h = h.withFailure(s, nil)
	case Remove:
		// The next container of this daemon begins a new life.
		h = History{Looked: true, Prepared: h.Prepared, Panics: h.Panics, Panic: h.Panic, Asked: h.Asked}
	}
	return h
}

// Failed folds a step that failed into the history.
func (h History) Failed(s Step, digest string, err error, now time.Time) History {
	h.Asked = nil // whoever asked is told, and may ask again
	if s.Op == Hook {
		h.HookFailed = errorWords(err) // which ends this instance, see keep
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

// Wants adapts the history to the digest that is wanted now: what failed or was
// prepared for another one does not count.
func (h History) Wants(digest string) History {
	if h.Failure != nil && h.Failure.Digest != digest {
		h.Failure, h.Fallback = nil, nil
	}
	if h.Prepared.Digest != digest {
		h.Prepared = Prepared{}
	}
	return h
}

func countsOf(labels map[string]string) Counts {
	return Counts{
		Restarts: atoi(labels[runtime.LabelRestarts]),
		Streak:   atoi(labels[labelStreak]),
		Window:   timeOf(labels[runtime.LabelWindow]),
	}
}

// labels returns c as container labels; all are always set, so that a merge
// into an existing container leaves nothing old behind.
func (c Counts) labels() map[string]string {
	window := ""
	if !c.Window.IsZero() {
		window = c.Window.UTC().Format(time.RFC3339Nano)
	}
	return map[string]string{
		runtime.LabelRestarts: strconv.Itoa(c.Restarts),
		labelStreak:           strconv.Itoa(c.Streak),
		runtime.LabelWindow:   window,
	}
}

func exitOf(labels map[string]string) *runtime.Exit {
	var e runtime.Exit
	if s := labels[runtime.LabelExit]; s == "" || json.Unmarshal([]byte(s), &e) != nil {
		return nil
	}
	return &e
}

func exitLabel(e runtime.Exit) string {
	e.At = e.At.UTC()
	b, err := json.Marshal(e)
	if err != nil {
		return "" // a time beyond the year 9999: no loss
	}
	return string(b)
}

// atoi reads a count that we wrote; anything else counts as none.
func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func timeOf(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
