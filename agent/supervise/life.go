package supervise

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/agentd/agentd/runtime"
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

// Well is how an instance with probes has fared.
type Well struct {
	Probed  bool
	Longest time.Duration // for which all of its probes were content
	Since   time.Time     // since when their verdict is good; zero: it is not
}

// Seen is the instance that ran when it was last looked at.
type Seen struct {
	ID    string
	PID   int
	Since time.Time // first seen by this process
}

// Life is what this process knows of one container of a daemon.
type Life struct {
	Of         string // its id; "" before there was one
	Looked     bool
	Running    *Seen
	Ended      *Ended
	Counts     Counts
	CountsOf   string        // digest that Counts and Last are about
	Last       *runtime.Exit // of the instance before the present one
	Stopping   bool          // a stop of ours is under way or done
	Fault      string        // why, when it is an end of an instance that is not well
	HookFailed string        // how post_start of the instance that runs failed
	Well       Well
	ReadySince time.Time // of the instance, without a break; zero: it is not ready
}

// Observe folds what the runtime shows of the container into its life. inst is
// nil when there is none.
func (l Life) Observe(inst *runtime.Instance, now time.Time) Life {
	first := !l.Looked
	l.Looked = true
	if inst != nil {
		l.Of = inst.ID
		l.Counts, l.Last = countsOf(inst.Labels), exitOf(inst.Labels)
		l.CountsOf = inst.Labels[runtime.LabelDigest]
	}
	if runs(inst) {
		if l.Running == nil || l.Running.PID != inst.PID || l.Running.ID != inst.ID {
			l.Running = &Seen{ID: inst.ID, PID: inst.PID, Since: now}
			l.HookFailed, l.Well, l.ReadySince = "", Well{}, time.Time{}
		}
		l.Ended = nil
		return l
	}
	exit := runtime.Exit{At: now}
	if inst != nil && inst.State == runtime.StateStopped && inst.Exit != nil {
		exit = *inst.Exit
	}
	switch {
	case l.Running != nil || first && hasRun(inst):
		fault := l.Fault
		if l.Running == nil {
			fault = inst.Labels[labelFault] // another agent was about to end it
		}
		e := &Ended{Exit: exit, SeenAt: now, Away: l.Running == nil, Ours: l.Stopping && fault == "", Gone: inst == nil, Fault: fault}
		if e.Ran = ran(inst, l.Running, exit); l.Well.Probed {
			e.Ran = min(e.Ran, l.Well.Longest) // only health counts, not being there
		}
		if !exit.At.IsZero() {
			e.Age = max(0, now.Sub(exit.At))
		}
		l.Ended, l.Running, l.ReadySince = e, nil, time.Time{}
	case l.Ended != nil && !l.Ended.Exit.Known && exit.Known:
		// The runtime knows better by now. The time of the first sight stays.
		e := *l.Ended
		e.Exit = exit
		l.Ended = &e
	}
	return l
}

// Felt folds what the probes of the instance say into its life: the longest
// time for which they were content, and since when they say that it is good.
func (l Life) Felt(longest time.Duration, since time.Time) Life {
	l.Well = Well{Probed: true, Longest: longest, Since: since}
	return l
}

// ready returns since when the instance is ready, given whether it is now.
func (l Life) ready(is bool, now time.Time) time.Time {
	switch since := l.ReadySince; {
	case !is:
		return time.Time{}
	case since.IsZero():
		return now
	case l.Well.Since.After(since): // it was not, for a moment that nobody decided in
		return l.Well.Since
	default:
		return since
	}
}

// Next returns the counts with which the container's next instance starts.
func (l Life) Next(digest string, resetAfter time.Duration, now time.Time) Counts {
	if l.CountsOf != digest {
		return Counts{}
	}
	c := l.Counts
	if l.Ended == nil || l.Ended.Ours {
		return c
	}
	c.Restarts++
	// Of an exit that nobody saw and whose time is unknown (a reboot), it is
	// assumed that it came after a healthy time: a boot waits for nothing.
	if c.Streak == 0 || l.Ended.Ran >= resetAfter || l.Ended.Away && l.Ended.Ran == 0 {
		return Counts{Restarts: c.Restarts, Streak: 1, Window: now}
	}
	c.Streak++
	return c
}

// runs reports whether a container's processes exist.
func runs(inst *runtime.Instance) bool {
	return inst != nil && (inst.State == runtime.StateRunning || inst.State == runtime.StatePaused)
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
