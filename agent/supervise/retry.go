package supervise

import (
	"fmt"

	"github.com/agentd/agentd/runtime"
)

// gate holds back a step that failed until its next attempt is due. f is the
// failure to answer; a plan is held back by its first step.
func (p *plan) gate(r Result, f *Failure) Result {
	starts := func(op Op) bool { return op == Prepare || op == Start }
	if len(r.Steps) == 0 || f == nil {
		return r
	}
	first := r.Steps[0]
	if first.Fallback != (f == p.History.Fallback) || f.Op != first.Op && !(starts(f.Op) && starts(first.Op)) {
		return r
	}
	if over, ok := p.jobUnstartable(f); ok {
		return over
	}
	b := stopBackoff
	switch {
	case f.Op == Prepare || f.Blocked:
		b = pullBackoff
	case f.Op == Start && p.Desired != nil:
		b = startBackoff(p.Desired.Daemon.Restart)
	}
	delay := b.Delay(f.Count, p.Seed)
	at := f.At.Add(delay)
	if !p.Now.Before(at) {
		return r
	}
	r.Steps, r.Wake = nil, at
	why := failureWords(*f, delay)
	switch {
	case f.Blocked:
		r.State, r.Reason = Blocked, why
	case f.Op == Prepare && p.alive():
		r.State = p.presentState()
		r.Reason = fmt.Sprintf("revision %d waits: %s; revision %s keeps running",
			p.Desired.Revision, why, orUnknown(p.inst.Labels[runtime.LabelRevision]))
	case starts(f.Op):
		r.State, r.Reason = BackOff, why
		if e := p.History.Ended; e != nil && !e.Ours {
			r.More = append(r.More, exitWords(e.Exit, e.Away))
		}
	default: // stop, remove, label
		r.More = append([]string{why}, r.More...)
		if first.Op != Label {
			r.Reason += "; " + why
		}
	}
	return r
}

// fallBack keeps the revision before in service while the wanted one can't be
// made ready: what crashed, or went down with the machine, is started again as
// it was. r is the plan for the wanted one.
func (p *plan) fallBack(r Result) (Result, bool) {
	f := p.History.Failure
	if f == nil || f.Op != Prepare {
		return Result{}, false
	}
	held := p.gate(r, f)
	if len(held.Steps) > 0 {
		return Result{}, false // the wanted one has its turn
	}
	got, ok := p.inPlace()
	if !ok {
		return Result{}, false
	}
	got.Reason = fmt.Sprintf("revision %d waits: %s; meanwhile revision %d: %s", p.Desired.Revision, held.Reason, p.Fallback.Revision, got.Reason)
	if got.Wake.IsZero() || held.Wake.Before(got.Wake) {
		got.Wake = held.Wake
	}
	return got, true
}

// inPlace restarts the revision that is here and is not the wanted one, after
// it ended or because it is not well.
func (p *plan) inPlace() (Result, bool) {
	fb := p.Fallback
	if fb == nil || len(p.FallbackDenials) > 0 || p.inst == nil || p.inst.Labels[runtime.LabelDigest] != fb.Digest ||
		p.alive() && !(p.running() && p.Health.Dead) {
		return Result{}, false
	}
	q := *p
	q.Desired, q.Finished = fb, nil
	q.History.Prepared = Prepared{Digest: fb.Digest, Image: p.inst.Labels[runtime.LabelImage]}
	var got Result
	if p.running() {
		got = q.fault(p.Health.Reason)
	} else {
		got = q.ended()
	}
	if got.State == Completed || got.State == Stopped {
		return Result{}, false
	}
	for i := range got.Steps {
		got.Steps[i].Fallback = true
	}
	return q.gate(got, p.History.Fallback), true
}
