package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/agentd/agentd/spec"
)

// quick is the pause between attempts while an instance may still be on its
// way: during a probe's first interval, failures do not count, and those of
// startup and readiness are repeated soon, so that what starts in a second is
// ready after one and not after an interval.
const quick = 500 * time.Millisecond

// Config is what a Watcher is made of.
type Config struct {
	Health spec.Health
	// Age is how long the instance has run; delays count from its start.
	Age time.Duration
	// WasGood: see New.
	WasGood bool
	// Ask makes one attempt and returns by the end of ctx.
	Ask func(ctx context.Context, p spec.Probe) Outcome
	// Changed is called after the verdict changed, and Told after each attempt
	// that failed, with the number of failures in a row that count. Both are
	// called from the watcher's goroutines and must not block. May be nil.
	Changed func()
	Told    func(k Kind, words string, inARow int)
}

// Counts are attempts since the watcher began.
type Counts struct{ Passed, Failed, Unknown uint64 }

// Watcher asks the probes of one instance.
type Watcher struct {
	cfg     Config
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	started chan struct{} // closed when the startup probe passed

	mu     sync.Mutex
	status Status          // guarded by mu
	counts map[Kind]Counts // guarded by mu
	since  time.Time       // guarded by mu: content since then; zero: it is not
	good   time.Time       // guarded by mu: the verdict is good since then; zero: it is not
	best   time.Duration   // guarded by mu: the longest time that it was, before that
}

// Watch begins to ask. Stop ends it.
func Watch(ctx context.Context, cfg Config) *Watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{
		cfg: cfg, cancel: cancel, started: make(chan struct{}),
		status: New(cfg.Health, cfg.WasGood), counts: map[Kind]Counts{},
	}
	if w.status.Started() {
		close(w.started)
	}
	begin := time.Now()
	if w.status.Content() {
		w.since = begin.Add(-max(0, cfg.Age))
	}
	if w.status.Verdict().Good() {
		w.good = begin
	}
	if cfg.Health.Startup != nil && !w.status.Started() || cfg.Health.Liveness != nil {
		w.wg.Go(func() {
			if !w.isStarted() {
				w.loop(ctx, Startup, begin)
			}
			w.loop(ctx, Liveness, begin)
		})
	}
	if cfg.Health.Readiness != nil {
		w.wg.Go(func() {
			select {
			case <-w.started:
				w.loop(ctx, Readiness, begin)
			case <-ctx.Done():
			}
		})
	}
	return w
}

// Stop ends the asking and returns when no attempt is under way.
func (w *Watcher) Stop() {
	w.cancel()
	w.wg.Wait()
}

// Verdict is what the answers so far mean.
func (w *Watcher) Verdict() Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.Verdict()
}

// GoodSince returns since when the verdict is good without a break, as far as
// this watcher knows; zero: it is not.
func (w *Watcher) GoodSince() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.good
}

// Healthy returns the longest time for which every probe was content.
func (w *Watcher) Healthy() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.healthyLocked(time.Now())
}

func (w *Watcher) healthyLocked(now time.Time) time.Duration {
	if w.since.IsZero() {
		return w.best
	}
	return max(w.best, now.Sub(w.since))
}

// Counts returns the attempts of each kind.
func (w *Watcher) Counts() map[Kind]Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[Kind]Counts, len(w.counts))
	for k, c := range w.counts {
		out[k] = c
	}
	return out
}

func (w *Watcher) isStarted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.Started()
}

// loop asks one probe until ctx ends, the startup probe until it passed.
func (w *Watcher) loop(ctx context.Context, k Kind, begin time.Time) {
	p := Probe(w.cfg.Health, k)
	if p == nil {
		return
	}
	interval, delay := max(p.Interval.D(), time.Millisecond), p.Delay.D()
	next, calm := schedule(begin, w.cfg.Age, delay, interval)
	t := time.NewTimer(time.Until(next))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		began := time.Now()
		o := w.ask(ctx, *p)
		if ctx.Err() != nil {
			return
		}
		early := time.Now().Before(calm)
		good := w.add(k, *p, o, early)
		if k == Startup && good {
			close(w.started)
			return
		}
		pause := interval
		if early && !good && o.Result != Passed && k != Liveness {
			pause = min(quick, interval)
		}
		// An attempt that took longer than the pause is followed at once by
		// the next one, never by those that were missed.
		t.Reset(max(0, time.Until(began.Add(pause))))
	}
}

// schedule says when a probe is asked first, and from when on its failures
// count. age counts from the instance's start by a clock that may have been
// set since: no more than the whole delay is ever waited for.
func schedule(now time.Time, age, delay, interval time.Duration) (first, calm time.Time) {
	age = max(0, age)
	return now.Add(max(0, delay-age)), now.Add(max(0, delay+interval-age))
}

// ask makes one attempt within its timeout.
func (w *Watcher) ask(ctx context.Context, p spec.Probe) (o Outcome) {
	defer func() {
		if r := recover(); r != nil {
			o = Outcome{Unknown, fmt.Sprintf("agentd itself failed: %v", r)}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, max(p.Timeout.D(), time.Millisecond))
	defer cancel()
	return w.cfg.Ask(ctx, p)
}

// add counts an outcome and tells of what changed. It returns whether the probe
// is good now.
func (w *Watcher) add(k Kind, p spec.Probe, o Outcome, early bool) bool {
	w.mu.Lock()
	before := w.status.Verdict()
	w.status = w.status.Add(k, o, early)
	after, tally := w.status.Verdict(), w.status.Tally(k)
	switch content, now := w.status.Content(), time.Now(); {
	case content && w.since.IsZero():
		w.since = now
	case !content:
		w.best, w.since = w.healthyLocked(now), time.Time{}
	}
	switch {
	case !after.Good():
		w.good = time.Time{}
	case w.good.IsZero():
		w.good = time.Now()
	}
	c := w.counts[k]
	switch o.Result {
	case Passed:
		c.Passed++
	case Failed:
		c.Failed++
	default:
		c.Unknown++
	}
	w.counts[k] = c
	w.mu.Unlock()
	if o.Result == Failed && w.cfg.Told != nil {
		w.cfg.Told(k, fmt.Sprintf("%s %s %s", k, What(p), o.How), tally.Fails)
	}
	if before != after && w.cfg.Changed != nil {
		w.cfg.Changed()
	}
	return tally.Good
}
