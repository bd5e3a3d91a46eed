package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/runtime"
)

// worker looks after one daemon. All fields but the channels and progress
// belong to its goroutine.
type worker struct {
	s        *Supervisor
	name     string
	log      *slog.Logger
	wake     chan struct{}          // capacity 1
	progress atomic.Pointer[string] // of a pull, in words

	mark    uint64 // clock of what actual is known by
	looked  bool
	stale   bool      // a step ended in the dark: look before deciding
	quiet   time.Time // no step before
	actual  []runtime.Instance
	hist    History
	current *Desired // what was started here last
	digest  string   // that hist.Panics are about
	cond    condition
	job     *job
	watch   *watch
	denied  verdict
}

// verdict is the policy's answer for one digest.
type verdict struct {
	digest  string
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
	w.current = readCurrent(w.s.cfg.DataDir, w.name)
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
			w.finish(o)
		case e := <-w.watch.fired():
			w.ended(e)
		}
	}
}

// end lets go of everything at the end of Run. A step that was begun is not
// abandoned half-way.
func (w *worker) end() {
	w.watch.stop()
	if w.job == nil {
		return
	}
	if w.job.step.Op == Prepare {
		w.job.cancel()
	}
	t := time.NewTimer(w.s.cfg.ShutdownWait)
	defer t.Stop()
	select {
	case <-w.job.done:
	case <-t.C:
		w.log.Warn("a step did not end in time; the runtime finishes it", "step", string(w.job.step.Op))
		w.job.cancel() // stops our waiting, not the runtime's call
		<-w.job.done
	}
}

// retire reports whether nothing is left to look after.
func (w *worker) retire() bool {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	_, wanted := s.desired[w.name]
	_, present := s.view.byName[w.name]
	if wanted || present || !w.looked || len(w.actual) > 0 || w.job != nil {
		return false
	}
	delete(s.workers, w.name)
	delete(s.reports, w.name)
	s.movedLocked()
	return true
}

// situation is what the supervisor tells a worker.
type situation struct {
	desired *Desired
	left    bool
	frozen  bool
}

// situation reads what is wanted and takes over a look at the runtime, if it is
// newer than what this worker did itself.
func (w *worker) situation() situation {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	out := situation{left: s.left, frozen: s.frozen != ""}
	if d, ok := s.desired[w.name]; ok {
		out.desired = &d
	}
	if s.view.taken > w.mark && w.job == nil {
		w.mark, w.looked, w.stale = s.view.taken, true, false
		w.actual = slices.Clone(s.view.byName[w.name])
	}
	return out
}

// turn decides and begins at most one step. It returns when to decide again.
func (w *worker) turn(ctx context.Context) (wake time.Time) {
	sit := w.situation()
	defer func() {
		if p := recover(); p != nil {
			wake = w.panicked(sit.desired, p, debug.Stack())
		}
	}()
	w.know(sit.desired)
	switch {
	case w.job != nil:
		w.job.supersede(sit)
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
	in := w.input(sit)
	res := Plan(in)
	w.show(sit.desired, res)
	w.follow(ctx)
	if len(res.Steps) > 0 {
		of := sit.desired
		if res.Steps[0].Fallback {
			of = in.Fallback
		}
		w.begin(ctx, res.Steps[0], of)
	}
	return res.Wake
}

// know adapts the history to what is wanted.
func (w *worker) know(d *Desired) {
	digest := wanted(d)
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
	d, now := sit.desired, time.Now()
	inst := Primary(w.name, wanted(d), w.actual)
	w.hist = w.hist.Observe(inst, now)
	in := Input{
		Name: w.name, Desired: d, Actual: w.actual, History: w.hist, Left: sit.left,
		Seed: w.s.cfg.Node.Name + "/" + w.name, Now: now,
	}
	if d == nil || d.Delete {
		return in
	}
	in.Selected, in.Select = d.Daemon.Selects(w.s.cfg.Node)
	in.Labels = stableLabels(*d, w.s.cfg.Node.Name)
	in.Denials = w.denials(*d, inst)
	if c := w.current; c != nil && c.Digest != d.Digest {
		in.Fallback = c
		in.FallbackDenials = w.check(*c)
	}
	return in
}

// denials asks the policy. While the very digest runs, one answer is enough:
// nothing would be stopped for another.
func (w *worker) denials(d Desired, inst *runtime.Instance) []policy.Denial {
	runs := inst != nil && inst.State == runtime.StateRunning && inst.Labels[runtime.LabelDigest] == d.Digest
	if !runs || w.denied.digest != d.Digest {
		w.denied = verdict{d.Digest, w.check(d)}
	}
	return w.denied.denials
}

func (w *worker) check(d Desired) []policy.Denial {
	if w.s.cfg.Policy == nil {
		return nil
	}
	return w.s.cfg.Policy.Check(d.Daemon)
}

// first makes sure that a daemon is reported before the first decision.
func (w *worker) first(sit situation) {
	if w.cond.state != "" {
		return
	}
	r := Result{State: Waiting, Reason: "not looked at yet"}
	if d := sit.desired; d != nil && !d.Delete {
		r.Placed, _ = d.Daemon.Selects(w.s.cfg.Node)
	}
	w.show(sit.desired, r)
}

// show publishes a decision.
func (w *worker) show(d *Desired, res Result) {
	w.cond.transition(w.log, res.State, res.Reason, time.Now())
	r := Report{
		Name: w.name, Placed: res.Placed, State: string(res.State), Reason: res.Reason, Ready: res.Ready,
		Since: w.cond.since, Reasons: append([]string{res.Reason}, res.More...),
	}
	if w.hist.Prepared.Note != "" {
		r.Reasons = append(r.Reasons, w.hist.Prepared.Note)
	}
	if inst := Primary(w.name, wanted(d), w.actual); inst != nil {
		r.Container, r.PID, r.StartedAt = inst.ID, inst.PID, inst.StartedAt
		r.Revision = atoi(inst.Labels[runtime.LabelRevision])
		r.Generation, _ = strconv.ParseUint(inst.Labels[runtime.LabelGeneration], 10, 64) // 0 when it is not ours to know
		r.Digest, r.ImageDigest = inst.Labels[runtime.LabelDigest], inst.Labels[runtime.LabelImage]
		if r.StartedAt.IsZero() {
			r.StartedAt = timeOf(inst.Labels[runtime.LabelStarted])
		}
	}
	r.Restarts = w.hist.Counts.Restarts
	exit := w.hist.Last
	if e := w.hist.Ended; e != nil && !e.Ours {
		exit = &e.Exit
	}
	if exit != nil && exit.Known {
		code := int(exit.Code)
		r.ExitCode, r.OOM = &code, exit.OOM
	}
	w.s.publish(r)
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

// finish takes over the outcome of the step under way.
func (w *worker) finish(o outcome) {
	j := w.job
	w.job = nil
	w.progress.Store(nil)
	w.mark = w.s.clock.Add(1)
	j.cancel()
	defer w.s.stepEnded(w.mark)
	switch {
	case o.panicked != nil:
		w.panicked(&j.of, o.panicked, o.stack)
		w.hist = w.hist.Failed(j.step, wanted(&j.of), fmt.Errorf("agentd itself failed: %v", o.panicked), time.Now())
		w.lookAgain()
	case o.err == nil:
		w.hist = w.hist.Done(j.step)
		w.apply(j, o)
	case errors.Is(o.err, runtime.ErrUnavailable):
		// No word about the container: nothing is counted, nothing decided
		// until the runtime answered again. If it answers everybody but us,
		// the others are not held up.
		w.log.Warn("step got no answer", "step", string(j.step.Op), "container", j.step.ID, "err", o.err)
		w.quiet = time.Now().Add(retryFrozen)
		w.s.doubt()
		w.lookAgain()
	case j.superseded && errors.Is(o.err, context.Canceled):
	default:
		w.log.Warn("step failed", "step", string(j.step.Op), "container", j.step.ID, "why", j.step.Reason, "err", o.err)
		w.hist = w.hist.Failed(j.step, w.digest, o.err, time.Now())
		if j.step.Op != Prepare {
			w.lookAgain()
		}
	}
}

// lookAgain asks for a look before the next decision.
func (w *worker) lookAgain() {
	w.stale = true
	poke(w.s.list)
}

// apply brings the picture of the containers up to date with a step that
// succeeded, which is exact and saves a look.
func (w *worker) apply(j *job, o outcome) {
	i := slices.IndexFunc(w.actual, func(i runtime.Instance) bool { return i.ID == j.step.ID })
	switch j.step.Op {
	case Prepare:
		w.hist.Prepared = o.prepared
	case Start:
		if i < 0 {
			w.actual = append(w.actual, o.inst)
		} else {
			w.actual[i] = o.inst
		}
		of := j.of
		w.current = &of
	case Stop:
		if i < 0 || o.exit == nil {
			w.lookAgain()
			return
		}
		w.gone(i, *o.exit)
	case Remove:
		if i >= 0 {
			w.actual = slices.Delete(w.actual, i, i+1)
		}
		if !j.step.Extra {
			w.current = nil
		}
	case Label:
		if i >= 0 {
			labels := make(map[string]string, len(w.actual[i].Labels))
			for _, m := range []map[string]string{w.actual[i].Labels, j.step.Labels} {
				for k, v := range m {
					labels[k] = v
				}
			}
			w.actual[i].Labels = labels
		}
	}
}

func (w *worker) gone(i int, exit runtime.Exit) {
	w.actual[i].State, w.actual[i].PID, w.actual[i].Exit = runtime.StateStopped, 0, &exit
}
