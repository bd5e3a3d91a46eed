package supervise

import (
	"fmt"
	"slices"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// replace goes from another digest to the wanted one: the new one is made ready
// first, and only then the old one is stopped.
func (p *plan) replace() Result {
	why := fmt.Sprintf("digest differs from the spec: revision %d replaces revision %s",
		p.Desired.Revision, orUnknown(p.inst.Labels[runtime.LabelRevision]))
	if p.surges() {
		return p.surge()
	}
	r := p.start(why)
	if p.running() && p.Health.Dead {
		if fb, ok := p.fallBack(r); ok {
			return fb
		}
	}
	if p.alive() {
		stop := p.stop(p.inst, why)
		at := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Op == Start })
		r.Steps = slices.Insert(r.Steps, at, stop)
		if at == 0 {
			r.State = Stopping
		}
		return r
	}
	if fb, ok := p.fallBack(r); ok {
		return fb
	}
	return r
}

// start makes ready what is not ready and starts it.
func (p *plan) start(why string) Result {
	next := p.History.Next(p.Desired.Digest, p.Desired.Daemon.Restart.ResetAfter.D(), p.Now)
	labels := next.labels()
	labels[runtime.LabelExit], labels[labelFault] = "", ""
	if e := p.lastExit(); e != nil {
		labels[runtime.LabelExit] = exitLabel(*e)
	}
	begin := Step{Op: Start, ID: p.id, Reason: why, Labels: labels, Image: p.History.Prepared.Image, Keep: p.needed(p.inst)}
	if p.History.Prepared.Digest == p.Desired.Digest {
		return Result{State: Starting, Reason: why, Steps: []Step{begin}}
	}
	prepare := Step{Op: Prepare, ID: p.id, Reason: why}
	if p.inst != nil && p.current() {
		prepare.Image = p.inst.Labels[runtime.LabelImage] // restarting in place asks no registry
	}
	return Result{State: Pulling, Reason: why, Steps: []Step{prepare, begin}}
}

// lastExit is the exit that the next instance of the same digest remembers.
func (p *plan) lastExit() *runtime.Exit {
	h := p.History
	if h.CountsOf != p.Desired.Digest {
		return nil
	}
	if h.Ended != nil && !h.Ended.Ours {
		return &h.Ended.Exit
	}
	return h.Last
}

// ended decides about a container of the wanted digest that does not run.
func (p *plan) ended() Result {
	e := p.History.Ended
	restart := p.Desired.Daemon.Restart
	if e == nil || p.History.CountsOf != p.Desired.Digest {
		return p.start("the container exists but does not run")
	}
	if final, r := p.final(e, restart.Policy); final {
		return r
	}
	if e.Ours {
		why := fmt.Sprintf("stopped before; revision %d is wanted again", p.Desired.Revision)
		if p.History.Asked != nil {
			why = askedWords
		}
		return p.start(why)
	}
	next := p.History.Next(p.Desired.Digest, restart.ResetAfter.D(), p.Now)
	delay := crashBackoff(restart).Delay(next.Streak, p.Seed)
	at := e.SeenAt.Add(delay - min(e.Age, delay))
	r := p.start(restartWords(e, next, delay))
	switch {
	case p.History.Asked != nil:
		return p.start(askedWords) // whoever asks for it does not wait for it
	case p.Now.Before(at):
		r = Result{State: BackOff, Reason: r.Reason, Wake: at}
		if p.Listens && e.Said == nil {
			r.Steps = []Step{{Op: Listen, ID: p.id, Reason: "it failed again: what did it say last?"}}
		}
		if e.Said != nil {
			r.More = e.Said.words()
			if e.Said.Taken {
				r.Reason += "; " + r.More[0]
			}
		}
	}
	return r
}

// final decides whether the instance ended for good, and remembers it in the
// container's labels, since a reboot loses the task and with it the exit code.
func (p *plan) final(e *Ended, pol spec.RestartPolicy) (bool, Result) {
	if p.Desired.Daemon.Job() {
		return p.jobEnded(e)
	}
	exit := e.Exit
	marked := p.inst != nil && p.inst.Labels[labelFinal] != "" &&
		p.inst.Labels[labelFinal] == p.inst.Labels[runtime.LabelRestarts]
	switch {
	case pol == spec.RestartAlways || pol == "" || p.inst == nil || p.History.Asked != nil:
		// A container that is gone altogether can't say that it ended well.
		return false, Result{}
	case e.Ours && !marked:
		return false, Result{}
	case marked && !exit.Known && p.History.Last != nil:
		exit = *p.History.Last
	}
	good := exit.Known && exit.Code == 0 && e.Fault == ""
	if pol == spec.RestartOnFailure && !good {
		return false, Result{}
	}
	r := Result{State: Stopped, Reason: endWords(e, exit) + "; restart.policy is " + string(pol)}
	if good {
		r.State = Completed
	}
	if !marked {
		r.Steps = []Step{{Op: Label, ID: p.inst.ID, Reason: "it ended for good", Labels: map[string]string{
			runtime.LabelExit: exitLabel(exit),
			labelFinal:        p.inst.Labels[runtime.LabelRestarts],
		}}}
	}
	return true, r
}
