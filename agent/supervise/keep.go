package supervise

import (
	"fmt"
	"maps"
	"slices"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
)

// askedWords is the reason of a restart that agentctl restart asked for.
const askedWords = "an operator asked for a restart on this node"

// keep lets a container of the wanted digest run: it runs its hook once, brings
// its labels up to date, so that a change outside the running part is
// remembered without a restart, and ends it when it is not well.
func (p *plan) keep() Result {
	h := p.History
	switch {
	case h.Asked != nil && h.Asked.PID == p.inst.PID:
		r := p.start(askedWords)
		at := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Op == Start })
		r.Steps = slices.Insert(r.Steps, at, p.stop(p.inst, askedWords))
		if at == 0 {
			r.State = Stopping
		}
		return r
	case h.HookFailed != "" && p.hookDue():
		return p.fault("post_start " + h.HookFailed)
	case p.Health.Dead:
		return p.fault(p.Health.Reason)
	}
	r := Result{State: Running, Reason: p.runningWords()}
	switch v := p.Health; {
	case p.hookDue():
		r.State, r.Reason = Starting, r.Reason+"; post_start runs"
		r.Steps = append(r.Steps, Step{Op: Hook, ID: p.inst.ID, Argv: p.Desired.Daemon.Hooks.PostStart,
			Labels: map[string]string{labelHook: p.inst.Labels[runtime.LabelStarted]}, Reason: "post_start comes right after the start"})
	case v.Starting, v.Unready && !v.Failing:
		r.State, r.Reason = Starting, r.Reason+"; "+v.Reason
	case v.Unready:
		r.State, r.Reason = Unhealthy, v.Reason
	}
	r.More = append(r.More, p.upToDate(&r)...)
	return r
}

// own makes sure that the container that stands for the daemon is remembered as
// that: it may have been left alone by the one before it.
func (p *plan) own(r Result) Result {
	if s := p.Started; s != nil && s.Digest != p.Desired.Digest {
		r.Steps = append(r.Steps, Step{Op: HandOver, ID: p.inst.ID, Image: p.inst.Labels[runtime.LabelImage],
			Reason: fmt.Sprintf("revision %d is what stands for the daemon here", p.Desired.Revision)})
	}
	return r
}

// upToDate adds the step that makes the container's labels say what is so.
func (p *plan) upToDate(r *Result) (notes []string) {
	want := map[string]string{labelFault: ""}
	maps.Copy(want, p.Labels)
	if probe.Any(p.Desired.Daemon.Health) {
		want[labelWell] = ""
		if p.Health.Good() && !p.hookDue() {
			want[labelWell] = p.inst.Labels[runtime.LabelStarted]
		}
	}
	changed := map[string]string{}
	for k, v := range want {
		if p.inst.Labels[k] != v {
			changed[k] = v
		}
	}
	if len(changed) > 0 {
		keys := slices.Sorted(maps.Keys(changed))
		r.Steps = append(r.Steps, Step{Op: Label, ID: p.inst.ID, Labels: changed,
			Reason: fmt.Sprintf("labels are behind: %v", keys)})
	}
	if hint := p.Desired.ImageDigest; hint != "" {
		if runs := p.inst.Labels[runtime.LabelImage]; runs != "" && runs != hint {
			notes = append(notes, fmt.Sprintf("runs image %s, the ring expects %s", short(runs), short(hint)))
		}
	}
	return notes
}

// hookDue reports whether the instance that runs still has its post_start hook
// to come. What was started by an agent that knew of none is left as it is.
func (p *plan) hookDue() bool {
	of := p.specOf(p.inst)
	if of == nil || !p.running() || len(of.Daemon.Hooks.PostStart) == 0 {
		return false
	}
	return p.inst.Labels[labelHook] != p.inst.Labels[runtime.LabelStarted]
}

// fault ends an instance that is not well, which counts like a crash.
func (p *plan) fault(why string) Result {
	s := p.stop(p.inst, why)
	s.Fault = why
	return Result{State: Unhealthy, Reason: why + "; it is stopped for that", Steps: []Step{s}}
}
