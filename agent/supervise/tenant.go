package supervise

import (
	"context"

	"github.com/agentd/agentd/runtime"
)

// tenant is what a worker does for one container: it waits for its end and asks
// its probes. The zero value does nothing.
type tenant struct {
	watch  *watch
	probes *attention
}

// serves reports whether t is about the container of an id.
func (t *tenant) serves(id string) bool {
	return t.watch != nil && t.watch.id == id || t.probes != nil && t.probes.id == id
}

// stop ends both and joins their goroutines.
func (t *tenant) stop() {
	t.watch.stop()
	t.probes.stop()
	t.watch, t.probes = nil, nil
}

// pair picks the containers that the daemon has a use for.
func (w *worker) pair(d *Desired) (own, beside *runtime.Instance) {
	return Pair(w.name, d, w.current, w.hist.Doomed, w.actual)
}

// tend looks after the containers that the daemon has a use for, and no other.
func (w *worker) tend(ctx context.Context, d *Desired) {
	own, beside := w.pair(d)
	if own != nil && w.beside.serves(own.ID) {
		w.own, w.beside = w.beside, w.own // the roles changed, not what is done
	}
	w.follow(ctx, &w.own, own)
	w.follow(ctx, &w.beside, beside)
	w.attend(ctx, &w.own, own, d)
	w.attend(ctx, &w.beside, beside, d)
}

// observe folds what is seen of the containers into the history.
func (w *worker) observe(own, beside *runtime.Instance, in *Input) {
	w.hist = w.hist.Cast(own)
	was, wasBeside := w.hist.Ended, w.hist.Beside.Ended
	w.hist.Life = w.feel(w.hist.Life, own).Observe(own, in.Now)
	if beside != nil || w.hist.Beside.Looked {
		w.hist.Beside = w.feel(w.hist.Beside, beside).Observe(beside, in.Now)
	}
	if was == nil && w.hist.Ended != nil {
		w.exited(*w.hist.Ended)
	}
	if wasBeside == nil && w.hist.Beside.Ended != nil {
		w.exited(*w.hist.Beside.Ended)
	}
	in.History = w.hist
}

// feel folds what the probes of a container say into its life.
func (w *worker) feel(l Life, inst *runtime.Instance) Life {
	for _, t := range []*tenant{&w.own, &w.beside} {
		p := t.probes
		if p == nil || p.id != l.Of || inst != nil && inst.PID != 0 && !p.is(inst) {
			continue
		}
		l = l.Felt(p.watcher.Healthy(), p.watcher.GoodSince())
	}
	return l
}
