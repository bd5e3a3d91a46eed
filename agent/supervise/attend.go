package supervise

import (
	"context"
	"time"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// attention is the probing of one instance.
type attention struct {
	id      string
	pid     int
	digest  string
	watcher *probe.Watcher
}

// stop ends the probing and joins its goroutines.
func (a *attention) stop() {
	if a != nil {
		a.watcher.Stop()
	}
}

// is reports whether a is about an instance.
func (a *attention) is(inst *runtime.Instance) bool {
	return a != nil && inst != nil && a.id == inst.ID && a.pid == inst.PID && a.digest == inst.Labels[runtime.LabelDigest]
}

// verdict is what is known of the health of the instance that runs; without
// probes it is well.
func (w *worker) verdict(inst *runtime.Instance, d *Desired) probe.Verdict {
	of := madeOf(inst, d, w.current)
	if of == nil || inst.State != runtime.StateRunning || !probe.Any(of.Daemon.Health) {
		return probe.Verdict{}
	}
	for _, t := range []*tenant{&w.own, &w.beside} {
		if t.probes.is(inst) {
			return t.probes.watcher.Verdict()
		}
	}
	return probe.New(of.Daemon.Health, wasWell(inst)).Verdict()
}

// wasWell reports whether the instance was well when an agent looked last, so
// that an agent's restart makes no daemon unready.
func wasWell(inst *runtime.Instance) bool {
	started := inst.Labels[runtime.LabelStarted]
	return started != "" && inst.Labels[labelWell] == started
}

// attend probes a container's instance that runs, and only that one, once its
// post_start hook is done.
func (w *worker) attend(ctx context.Context, t *tenant, inst *runtime.Instance, d *Desired) {
	of := madeOf(inst, d, w.current)
	if of == nil || inst.State != runtime.StateRunning || !probe.Any(of.Daemon.Health) ||
		len(of.Daemon.Hooks.PostStart) > 0 && inst.Labels[labelHook] != inst.Labels[runtime.LabelStarted] {
		w.silence(t)
		return
	}
	if t.probes.is(inst) {
		return
	}
	w.silence(t)
	started := inst.StartedAt
	if started.IsZero() {
		started = timeOf(inst.Labels[runtime.LabelStarted])
	}
	var age time.Duration
	if !started.IsZero() {
		age = time.Since(started)
	}
	id := inst.ID
	exec := func(ctx context.Context, argv []string) (int, error) { return w.s.cfg.Runtime.Exec(ctx, id, argv) }
	rev := of.Revision
	t.probes = &attention{id: id, pid: inst.PID, digest: of.Digest, watcher: probe.Watch(ctx, probe.Config{
		Health: of.Daemon.Health, Age: age, WasGood: wasWell(inst),
		Ask:     func(ctx context.Context, p spec.Probe) probe.Outcome { return w.s.ask.Ask(ctx, p, exec) },
		Changed: func() { poke(w.wake) },
		Told: func(k probe.Kind, words string, inARow int) {
			if inARow == 1 { // further failures show in the state
				w.tell(Event{Type: EventProbe, Reason: words, Container: id, Revision: rev})
			}
		},
	})}
	w.totals.watch(t.probes.watcher)
}

// silence ends the probing.
func (w *worker) silence(t *tenant) {
	if t.probes == nil {
		return
	}
	t.probes.stop()
	w.totals.unwatch(t.probes.watcher)
	t.probes = nil
}
