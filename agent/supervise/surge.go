package supervise

import (
	"fmt"
	"slices"
	"time"

	"github.com/agentd/agentd/runtime"
)

// A surge replaces a container without a gap: the new one starts beside the
// old one, under the other id, and the old one goes once the new one has been
// ready for update.min_ready. Which of the two stands for the daemon is what
// was handed over last (see currentFile); everything else follows from labels,
// so that an agent that starts in the middle goes on.
//
//	old alone -> prepare -> old + new -> new is ready for min_ready -> handover
//	    ^                    |     ^                                     |
//	    '--- the old digest -'     '- new one fails: back-off            v
//	         is wanted again                                 old is stopped, new alone

// surging reports whether a change of digest is to be made by a surge.
func surging(d *Desired) bool {
	return d != nil && !d.Delete && d.Daemon.Update.Surge && !d.Daemon.Job()
}

// otherID is the id of a container beside the one of id.
func otherID(name, id string) string {
	if id == name {
		return name + ".next"
	}
	return name
}

// Pair picks the containers that a daemon has a use for: the one that stands
// for it, and with a surge under way the one that is about to take over.
// started is what was handed over last, doomed the id of a container that is
// being taken away. Every other container is one too many.
func Pair(name string, d, started *Desired, doomed string, actual []runtime.Instance) (own, beside *runtime.Instance) {
	if !surging(d) || len(actual) < 2 {
		return Primary(name, wanted(d), actual), nil
	}
	digest := func(i *runtime.Instance) string { return i.Labels[runtime.LabelDigest] }
	pick := func(eligible func(i *runtime.Instance) bool, prefer string) *runtime.Instance {
		var some []runtime.Instance
		for i := range actual {
			if eligible(&actual[i]) {
				some = append(some, actual[i])
			}
		}
		best := Primary(name, prefer, some)
		if best == nil {
			return nil
		}
		return &actual[slices.IndexFunc(actual, func(i runtime.Instance) bool { return i.ID == best.ID })]
	}
	isNew := func(i *runtime.Instance) bool { return digest(i) == d.Digest && i.ID != doomed }
	fresh := pick(isNew, d.Digest)
	old := pick(func(i *runtime.Instance) bool { return digest(i) != d.Digest && i.ID != doomed }, wanted(started))
	switch {
	case fresh == nil && old == nil:
		return Primary(name, d.Digest, actual), nil
	case old == nil, fresh != nil && started != nil && started.Digest == d.Digest:
		return fresh, nil
	case fresh == nil:
		return old, nil
	case !runs(old) && (started == nil || started.Digest != digest(old)):
		return fresh, nil // it can't be started again: nobody knows what it was made of
	}
	return old, fresh
}

// surges reports whether the wanted digest starts beside the container that is
// here. One that doesn't run, or is not well, is not worth keeping for it.
func (p *plan) surges() bool {
	return surging(p.Desired) && (p.beside != nil || p.running() && !p.Health.Dead)
}

// surge brings the new container up beside the old one, which is looked after
// meanwhile, and hands over.
func (p *plan) surge() Result {
	n := p.newcomer()
	r := n.rise()
	from := orUnknown(p.inst.Labels[runtime.LabelRevision])
	ready := n.readyNow(r)
	if ready {
		r = p.handOver(n, r, from)
	}
	for i := range r.Steps {
		r.Steps[i].Beside = !r.Steps[i].Extra
	}
	r = p.gate(r, p.History.Failure)
	if p.alive() && !ready && r.State != Running { // else it is said already
		r.Reason += fmt.Sprintf("; revision %s keeps running", from)
	}
	old, known := p.asItIs()
	if !known {
		return r
	}
	if len(old.Steps) > 0 && !slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Op == HandOver }) {
		r.Steps = old.Steps
	}
	if old.State != Running {
		r.More = append(r.More, fmt.Sprintf("revision %s: %s", from, old.Reason))
	}
	if !old.Wake.IsZero() && (r.Wake.IsZero() || old.Wake.Before(r.Wake)) {
		r.Wake = old.Wake
	}
	return r
}

// newcomer is the plan for the new container alone.
func (p *plan) newcomer() *plan {
	n := *p
	n.inst, n.beside, n.id = p.beside, nil, otherID(p.Name, p.inst.ID)
	n.History.Life, n.History.Asked = p.History.Beside, nil
	n.Health = p.BesideHealth
	return &n
}

// rise brings the container of the wanted digest up, and keeps it up.
func (p *plan) rise() Result {
	switch {
	case p.inst == nil && p.History.Ended == nil:
		return p.start(fmt.Sprintf("digest differs from the spec: revision %d starts beside the present one", p.Desired.Revision))
	case p.running():
		return p.keep()
	case p.alive():
		return p.start("the container was paused by somebody; it is resumed")
	}
	return p.ended()
}

// readyNow reports whether the daemon is ready, given what was decided.
func (p *plan) readyNow(r Result) bool { return p.ready() || r.State == Completed }

// handOver lets the old container go when the new one has been ready for long
// enough, or when there is nothing to keep. n is the plan of the new one, and r
// its decision.
func (p *plan) handOver(n *plan, r Result, from string) Result {
	least := p.Desired.Daemon.Update.MinReady.D()
	due := n.readySince(r).Add(least)
	if p.running() && p.Now.Before(due) {
		r.State, r.Wake = Starting, due
		r.Reason = fmt.Sprintf("revision %d is ready; revision %s is kept until it has been for %s", p.Desired.Revision, from, least)
		return r
	}
	why := fmt.Sprintf("revision %d is ready and takes over from revision %s", p.Desired.Revision, from)
	step := Step{Op: HandOver, ID: n.inst.ID, Reason: why, Beside: true, Image: n.inst.Labels[runtime.LabelImage]}
	r.State, r.Reason = Running, why
	r.Steps = append([]Step{step}, p.away(p.inst, why)...)
	return r
}

// away takes a container away that is not the daemon's own.
func (p *plan) away(inst *runtime.Instance, why string) []Step {
	steps := p.end(inst, why)
	for i := range steps {
		steps[i].Extra, steps[i].Keep = true, p.needed(inst)
	}
	return steps
}

// concurrent picks what to begin now out of a plan's steps: the first one, and
// during a surge what the containers that matter need while another one is
// taken away, which may take its grace period.
func concurrent(steps []Step, surges bool) []Step {
	at := slices.IndexFunc(steps, func(s Step) bool { return !s.Extra })
	if at < 1 || !surges {
		return steps[:min(1, len(steps))]
	}
	next, gone := steps[at], steps[0].ID
	for _, s := range steps[:at] {
		if s.ID != gone || s.ID == next.ID {
			return steps[:1] // there are more of them than there may be, or it is in the way
		}
	}
	switch {
	case next.Op == Start && next.Beside, next.Op == Remove, next.Op == Stop && next.Fault == "":
		return steps[:1]
	}
	return []Step{steps[0], next}
}

// needed lists the digests whose rendered files are in use but for one
// container's.
func (p *plan) needed(but *runtime.Instance) []string {
	var out []string
	add := func(digest string) {
		if digest != "" && !slices.Contains(out, digest) {
			out = append(out, digest)
		}
	}
	add(wanted(p.Desired))
	for i := range p.Actual {
		if inst := &p.Actual[i]; but == nil || inst.ID != but.ID {
			add(inst.Labels[runtime.LabelDigest])
		}
	}
	return out
}

// extraWords says why a container is one too many.
func (p *plan) extraWords(inst *runtime.Instance) string {
	if surging(p.Desired) && p.inst != nil && inst.Labels[runtime.LabelDigest] != p.inst.Labels[runtime.LabelDigest] {
		return fmt.Sprintf("revision %s stands for the daemon; revision %s beside it is not wanted any more",
			orUnknown(p.inst.Labels[runtime.LabelRevision]), orUnknown(inst.Labels[runtime.LabelRevision]))
	}
	return "a second container of the same daemon"
}

// readySince says since when the container that is ready has been, given what
// was decided.
func (p *plan) readySince(r Result) time.Time {
	h := p.History
	if r.State != Completed || !h.ReadySince.IsZero() {
		return h.ready(p.readyNow(r), p.Now)
	}
	var age time.Duration // of its end; the clock may have been set since
	switch {
	case h.Ended != nil:
		age = h.Ended.Age + p.Now.Sub(h.Ended.SeenAt)
	case p.Finished != nil && !p.Finished.Exit.At.IsZero():
		age = p.Now.Sub(p.Finished.Exit.At)
	}
	return p.Now.Add(-max(0, age))
}
