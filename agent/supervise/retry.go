package supervise

import (
	"fmt"
	"time"

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

// preparePatience is how long the preparation of another digest may take before
// what ended meanwhile is started again as it was. An image that is here
// already is prepared within it.
const preparePatience = time.Second

// fallBack keeps the revision before in service while the wanted one can't be
// made ready, or is still being: what crashed, or went down with the machine, is
// started again as it was. r is the plan for the wanted one.
func (p *plan) fallBack(r Result) (Result, bool) {
	why, wake := "it is being made ready", time.Time{}
	if f := p.History.Failure; p.Preparing.IsZero() {
		if f == nil || f.Op != Prepare {
			return Result{}, false
		}
		held := p.gate(r, f)
		if len(held.Steps) > 0 {
			return Result{}, false // the wanted one has its turn
		}
		why, wake = held.Reason, held.Wake
	}
	got, ok := p.inPlace()
	if !ok {
		return Result{}, false
	}
	if due := p.Preparing.Add(preparePatience); !p.Preparing.IsZero() && p.Now.Before(due) {
		r.Wake = due
		return r, true
	}
	got.Reason = fmt.Sprintf("revision %d waits: %s; meanwhile revision %d: %s", p.Desired.Revision, why, p.Fallback.Revision, got.Reason)
	if !wake.IsZero() && (got.Wake.IsZero() || wake.Before(got.Wake)) {
		got.Wake = wake
	}
	return got, true
}

// blocked is for a revision that may not start here at all: the one before is
// restarted in place meanwhile.
func (p *plan) blocked(why string) Result {
	got, ok := p.inPlace()
	if !ok {
		return p.leaveAlone(Blocked, why)
	}
	got.State, got.Reason = Blocked, fmt.Sprintf("%s; meanwhile revision %d: %s", why, p.Fallback.Revision, got.Reason)
	return got
}

// inPlace restarts the revision that is here and is not the wanted one, after
// it ended or because it is not well.
func (p *plan) inPlace() (Result, bool) {
	if p.alive() && !(p.running() && p.Health.Dead) {
		return Result{}, false
	}
	return p.asItIs()
}

// asItIs looks after the container that is here and is not of the wanted
// digest, as if no other one were wanted.
func (p *plan) asItIs() (Result, bool) {
	fb := p.Fallback
	if fb == nil || len(p.FallbackDenials) > 0 || p.inst == nil || p.inst.Labels[runtime.LabelDigest] != fb.Digest ||
		p.inst.State == runtime.StatePaused {
		return Result{}, false
	}
	q := *p
	q.Desired, q.Finished, q.Labels, q.beside = fb, nil, nil, nil
	q.History.Prepared = Prepared{Digest: fb.Digest, Image: p.inst.Labels[runtime.LabelImage]}
	var got Result
	if p.running() {
		got = q.keep()
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
