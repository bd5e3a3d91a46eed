package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// worker looks after one daemon. All fields but the channels and progress
// belong to its goroutine. It has at most one step under way for the containers
// that matter; besides, one that takes another one away, and a preparation,
// which touches none.
type worker struct {
	s        *Supervisor
	name     string
	log      *slog.Logger
	wake     chan struct{}            // capacity 1
	progress atomic.Pointer[progress] // of a pull

	mark    uint64 // clock of what actual is known by
	looked  bool
	stale   bool      // a step ended in the dark: look before deciding
	quiet   time.Time // no step before
	actual  []runtime.Instance
	hist    History
	current *Desired // what was started here last
	ends    []JobEnd // of a job's digests, here
	origins []spec.Origin
	digest  string // that hist.Panics are about
	source  string // digest of the record's daemon, that hist.Trying is about
	cond    condition
	job     *job
	away    *job // a step about a container that is one too many
	prep    *job // a Prepare
	own     tenant
	beside  tenant
	request *request // a restart that somebody waits for
	denied  verdict
	totals  totals
}

// verdict is the policy's answer for one digest.
type verdict struct {
	digest  string
	of      *policy.Policy
	denials []policy.Denial
}

func newWorker(s *Supervisor, name string) *worker {
	return &worker{s: s, name: name, log: s.log.With("daemon", name), wake: make(chan struct{}, 1)}
}

// run decides again whenever something happened, until ctx ends or nothing is
// left to look after.
func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	w.current, w.ends = readCurrent(w.s.cfg.DataDir, w.name), readJobs(w.s.cfg.DataDir, w.name)
	if w.current != nil {
		w.s.learn(w.name, w.current.Daemon.DependsOn)
	}
	defer func() { w.answer(errEnded) }()
	for {
		if w.retire() {
			w.end()
			return
		}
		if wake := w.turn(ctx); !wake.IsZero() {
			timer.Reset(max(0, time.Until(wake)))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			w.end()
			return
		case <-w.wake:
		case <-timer.C:
		case o := <-w.job.finished():
			w.finish(w.job, o)
		case o := <-w.away.finished():
			w.finish(w.away, o)
		case o := <-w.prep.finished():
			w.finish(w.prep, o)
		case e := <-w.own.watch.fired():
			w.ended(&w.own, e)
		case e := <-w.beside.watch.fired():
			w.ended(&w.beside, e)
		}
	}
}

// end lets go of everything at the end of Run. A step that was begun is not
// abandoned half-way.
func (w *worker) end() {
	w.own.stop()
	w.beside.stop()
	if w.prep != nil {
		w.prep.cancel()
		<-w.prep.done
	}
	t := time.NewTimer(w.s.cfg.ShutdownWait)
	defer t.Stop()
	for _, j := range []*job{w.job, w.away} {
		if j == nil {
			continue
		}
		select {
		case <-j.done:
		case <-t.C:
			w.log.Warn("a step did not end in time; the runtime finishes it", "step", string(j.step.Op))
			j.cancel() // stops our waiting, not the runtime's call
			<-j.done
			t.Reset(0) // none for the other one either
		}
	}
}

// retire reports whether nothing is left to look after.
func (w *worker) retire() bool {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	_, wanted := s.desired[w.name]
	_, present := s.view.byName[w.name]
	if wanted || present || !w.looked || len(w.actual) > 0 || w.job != nil || w.away != nil || w.prep != nil || s.asked[w.name] != nil {
		return false
	}
	delete(s.workers, w.name)
	delete(s.reports, w.name)
	s.movedLocked()
	return true
}

// situation is what the supervisor tells a worker.
type situation struct {
	local
	site   Site
	needs  []Need
	circle []string
	users  []User
	left   bool
	frozen bool
}

// situation reads what is wanted and takes over a look at the runtime, if it is
// newer than what this worker did itself.
func (w *worker) situation() situation {
	sit, wanted := w.read()
	if wanted != nil {
		sit.local = renderLocal(*wanted, sit.site.Node)
	}
	return sit
}

func (w *worker) read() (situation, *Desired) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	var wanted *Desired
	if d, ok := s.desired[w.name]; ok {
		wanted = &d
	}
	out := situation{
		left: s.left, frozen: s.frozen != "", site: s.site, circle: s.circle[w.name],
		needs: s.needsLocked(wanted), users: s.usersLocked(w.name),
	}
	if req := s.asked[w.name]; req != nil && w.request == nil && w.job == nil {
		delete(s.asked, w.name)
		w.request = req
	}
	if s.view.taken > w.mark && w.job == nil {
		w.mark, w.looked, w.stale = s.view.taken, true, false
		w.actual = slices.Clone(s.view.byName[w.name])
	}
	return out, wanted
}

// turn decides and begins at most one step. It returns when to decide again.
func (w *worker) turn(ctx context.Context) (wake time.Time) {
	sit := w.situation()
	defer func() {
		if p := recover(); p != nil {
			wake = w.panicked(sit.of, p, debug.Stack())
		}
	}()
	w.know(sit.of)
	w.origins = sit.origins
	w.prep.supersede(sit)
	switch {
	case w.job != nil, w.away != nil && !surging(sit.of):
		return time.Time{}
	case sit.frozen || w.stale:
		w.first(sit)
		return time.Time{} // the next look wakes this worker
	case !w.looked:
		w.first(sit)
		return time.Time{}
	case time.Now().Before(w.quiet):
		return w.quiet
	}
	w.deletes(sit.of)
	in := w.input(sit)
	in = w.heed(in)
	res := Plan(in)
	w.hist = w.hist.Decided(res, in.Now)
	w.show(sit.of, res)
	w.tend(ctx, sit.of)
	for _, step := range concurrent(res.Steps, surging(sit.of)) {
		of := sit.of
		if step.Fallback {
			of = in.Fallback
		}
		w.begin(ctx, step, of)
	}
	return res.Wake
}

// deletes remembers that what was started last was deleted, before it is stopped:
// when the daemon comes again before its container is removed, the old one must
// not come back while the new one is made ready. It is kept until then, for its
// pre_stop hook.
func (w *worker) deletes(d *Desired) {
	if d == nil || !d.Delete || w.current == nil || w.current.Deleted {
		return
	}
	c := *w.current
	c.Deleted = true
	w.current = &c
	w.tidy(writeCurrent(w.s.cfg.DataDir, c, c.ImageDigest))
}

// know adapts the history to what is wanted.
func (w *worker) know(d *Desired) {
	digest := wanted(d)
	if source := sourceOf(d); source != w.source {
		w.source, w.hist.Trying = source, time.Time{}
	}
	if w.digest == digest {
		return
	}
	w.hist = w.hist.Wants(digest)
	m := readPanics(w.s.cfg.DataDir, w.name, digest)
	w.hist.Panics, w.hist.Panic = m.Count, m.Last
	w.digest = digest
}

// input gathers what the decision depends on.
func (w *worker) input(sit situation) Input {
	d, now := sit.of, time.Now()
	own, beside := w.pair(d)
	in := Input{
		Name: w.name, Desired: d, Broken: sit.broken, Site: sit.site, Actual: w.actual, Started: w.current,
		Health: w.verdict(own, d), BesideHealth: w.verdict(beside, d), Needs: sit.needs, Circle: sit.circle, Users: sit.users, Left: sit.left,
		Listens: w.s.cfg.LastOutput != nil, Seed: w.s.cfg.Node.Name + "/" + w.name, Now: now,
	}
	w.observe(own, beside, &in)
	if d == nil || d.Delete {
		return in
	}
	if j := w.prep; j != nil && !j.superseded {
		in.Preparing = j.since
	}
	in.Finished = jobEnd(w.ends, d.Digest)
	in.Labels = stableLabels(*d, w.s.cfg.Node.Name)
	in.Denials = w.denials(*d, own, beside)
	if c := w.current; c != nil && c.Digest != d.Digest && !c.Deleted && !d.Fresh {
		in.Fallback = c
		in.FallbackDenials = w.check(*c)
	}
	return in
}

// denials asks the policy. While the very digest runs, one answer is enough:
// nothing would be stopped for another.
func (w *worker) denials(d Desired, of ...*runtime.Instance) []policy.Denial {
	runs := slices.ContainsFunc(of, func(inst *runtime.Instance) bool {
		return inst != nil && inst.State == runtime.StateRunning && inst.Labels[runtime.LabelDigest] == d.Digest
	})
	if p := w.s.policy.Load(); !runs || w.denied.digest != d.Digest || w.denied.of != p {
		w.denied = verdict{d.Digest, p, w.check(d)}
	}
	return w.denied.denials
}

func (w *worker) check(d Desired) []policy.Denial {
	p := w.s.policy.Load()
	if p == nil {
		return nil
	}
	return p.Check(d.Daemon)
}

// notLooked is the reason of a daemon before the first look at the runtime.
const notLooked = "not looked at yet"

// first makes sure that a daemon is reported before the first decision.
func (w *worker) first(sit situation) {
	if w.cond.state != "" {
		return
	}
	r := Result{State: Waiting, Reason: notLooked}
	if d := sit.of; d != nil && !d.Delete {
		r.Placed, _ = d.Daemon.Selects(sit.site.Node)
	}
	w.show(sit.of, r)
}

// panicked counts a panic of ours and says when to try again.
func (w *worker) panicked(d *Desired, p any, stack []byte) time.Time {
	text, now := fmt.Sprint(p), time.Now()
	w.log.Error("recovered from a panic", "panic", text, "stack", string(stack))
	if w.hist.Panics < quarantineAfter {
		m, err := addPanic(w.s.cfg.DataDir, w.name, wanted(d), text)
		if err != nil {
			w.log.Warn("cannot remember a panic", "err", err)
		}
		if wanted(d) != w.digest {
			return now // of a step for a digest that nobody wants any more
		}
		w.hist.Panics, w.hist.Panic = max(m.Count, w.hist.Panics+1), m.Last
	}
	r := Result{State: Blocked, Placed: d != nil && !d.Delete, More: []string{text}}
	r.Ready = slices.ContainsFunc(w.actual, func(i runtime.Instance) bool { return i.State == runtime.StateRunning })
	if w.hist.Panics >= quarantineAfter {
		r.Reason = quarantineWords(w.hist, d)
		w.show(d, r)
		return time.Time{}
	}
	delay := stopBackoff.Delay(w.hist.Panics, w.name)
	r.State, r.Reason = BackOff, fmt.Sprintf("agentd itself failed: %s; tries again after %s", text, round(delay))
	w.show(d, r)
	return now.Add(delay)
}
