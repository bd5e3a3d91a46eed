package supervise

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/agentd/agentd/agent/probe"
)

// Types of events, those of the api package.
const (
	EventState = "state" // From, To
	EventExit  = "exit"  // ExitCode, OOM
	EventPull  = "pull"
	EventProbe = "probe"
	EventHook  = "hook"
)

// Event is something that happened to a daemon here.
type Event struct {
	Time      time.Time
	Daemon    string
	Type      string
	Reason    string // in words
	From, To  string // states
	Container string
	Revision  int
	ExitCode  *int // nil: unknown, or not about an exit
	OOM       bool
}

// tell passes an event on. It may be called from any goroutine.
func (w *worker) tell(e Event) {
	e.Time, e.Daemon = time.Now(), w.name
	w.s.cfg.Event(e)
}

// exited tells of an instance's end.
func (w *worker) exited(end Ended) {
	w.totals.add(func(t *Totals) {
		t.Exits++
		if end.Exit.OOM {
			t.OOMs++
		}
	})
	e := Event{Type: EventExit, Reason: endWords(&end, end.Exit), OOM: end.Exit.OOM}
	switch {
	case end.Gone:
		e.Reason = vanishedWords
	case end.Ours:
		e.Reason += ", stopped by agentd"
	}
	if end.Exit.Known {
		code := int(end.Exit.Code)
		e.ExitCode = &code
	}
	w.tell(e)
}

// failed counts a step that failed, and tells of it unless the change of state
// that follows does.
func (w *worker) failed(step Step, err error) {
	w.totals.add(func(t *Totals) { t.Failures++ })
	switch step.Op {
	case Prepare:
		w.tell(Event{Type: EventPull, Reason: "cannot be made ready: " + errorWords(err)})
	case Hook:
		w.tell(Event{Type: EventHook, Container: step.ID, Reason: "post_start " + errorWords(err)})
	}
}

// totals count what happened to a daemon since the agent began.
type totals struct {
	mu       sync.Mutex
	sum      Totals           // guarded by mu
	watchers []*probe.Watcher // guarded by mu: of the instances that run
}

func (t *totals) add(f func(*Totals)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.sum)
}

// watch counts the attempts of a watcher from now on.
func (t *totals) watch(next *probe.Watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, next)
}

// unwatch lets go of a watcher that stopped, and keeps what it counted.
func (t *totals) unwatch(old *probe.Watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Probes = plus(maps.Clone(t.sum.Probes), old.Counts())
	t.watchers = slices.DeleteFunc(t.watchers, func(w *probe.Watcher) bool { return w == old })
}

// probesLocked sums up the attempts; t.mu is held.
func (t *totals) probesLocked() map[probe.Kind]probe.Counts {
	out := maps.Clone(t.sum.Probes)
	for _, w := range t.watchers {
		out = plus(out, w.Counts())
	}
	return out
}

// plus adds counts to out, which may be nil, and returns it.
func plus(out, counts map[probe.Kind]probe.Counts) map[probe.Kind]probe.Counts {
	for k, c := range counts {
		if out == nil {
			out = map[probe.Kind]probe.Counts{}
		}
		o := out[k]
		out[k] = probe.Counts{Passed: o.Passed + c.Passed, Failed: o.Failed + c.Failed, Unknown: o.Unknown + c.Unknown}
	}
	return out
}

func (t *totals) read() Totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.sum
	out.Probes = t.probesLocked()
	return out
}
