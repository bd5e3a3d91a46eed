package supervise

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/agentd/agentd/runtime"
)

// finish takes over the outcome of a step.
func (w *worker) finish(j *job, o outcome) {
	mark := w.s.clock.Add(1)
	if *w.slot(j.step) = nil; j.step.Op == Prepare {
		w.progress.Store(nil)
	} else {
		w.mark = mark
	}
	j.cancel()
	defer w.s.stepEnded(mark)
	switch {
	case o.panicked != nil:
		w.panicked(&j.of, o.panicked, o.stack)
		w.hist = w.hist.Failed(j.step, wanted(&j.of), fmt.Errorf("agentd itself failed: %v", o.panicked), time.Now())
		w.lookAgain()
		w.answer(fmt.Errorf("agentd itself failed: %v", o.panicked))
	case o.err == nil:
		w.hist = w.hist.Done(j.step)
		w.apply(j, o)
		if j.step.Op == Start {
			w.answer(nil)
		}
	case errors.Is(o.err, runtime.ErrUnavailable):
		// No word about the container: nothing is counted, nothing decided
		// until the runtime answered again. If it answers everybody but us,
		// the others are not held up.
		w.log.Warn("step got no answer", "step", string(j.step.Op), "container", j.step.ID, "err", o.err)
		w.hist.Asked = nil
		w.answer(o.err)
		w.quiet = time.Now().Add(retryFrozen)
		w.s.doubt()
		w.lookAgain()
	case j.superseded: // nobody wants to know
	default:
		w.log.Warn("step failed", "step", string(j.step.Op), "container", j.step.ID, "why", j.step.Reason, "err", o.err)
		w.hist = w.hist.Failed(j.step, w.digest, o.err, time.Now())
		w.failed(j.step, o.err)
		if !j.step.Extra {
			w.answer(o.err)
		}
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
		w.totals.add(func(t *Totals) { t.Pulls++ })
		w.tell(Event{Type: EventPull, Reason: fmt.Sprintf("image %s is here (%s)", j.of.Daemon.Image, short(o.prepared.Image)), Revision: j.of.Revision})
	case Record:
		w.ends = o.ends
	case Listen:
		if l := w.hist.life(j.step); l.Ended != nil {
			said := *l.Ended
			said.Said = &o.said
			l.Ended = &said
		}
	case Start:
		w.totals.add(func(t *Totals) {
			t.Starts++
			if l := w.hist.life(j.step); l.CountsOf == j.of.Digest && atoi(j.step.Labels[runtime.LabelRestarts]) > l.Counts.Restarts {
				t.Restarts++
			}
		})
		if i < 0 {
			w.actual = append(w.actual, o.inst)
		} else {
			w.actual[i] = o.inst
		}
		if !j.step.Beside {
			w.current = &j.of
		}
	case HandOver:
		w.current = &j.of
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
	case Label, Hook:
		if i >= 0 {
			labels := maps.Clone(w.actual[i].Labels)
			maps.Copy(labels, j.step.Labels)
			w.actual[i].Labels = labels
		}
	}
}

func (w *worker) gone(i int, exit runtime.Exit) {
	w.actual[i].State, w.actual[i].PID, w.actual[i].Exit = runtime.StateStopped, 0, &exit
}
