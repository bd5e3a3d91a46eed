package supervise

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// Op is what a step does.
type Op string

const (
	Prepare Op = "prepare" // image present, files rendered, mount sources there
	Start   Op = "start"   // Runtime.Ensure
	Stop    Op = "stop"    // Runtime.Stop
	Remove  Op = "remove"  // Runtime.Remove
	Label   Op = "label"   // Runtime.SetLabels
)

// Step is one thing to do, and why.
type Step struct {
	Op     Op
	ID     string // container
	Reason string
	Grace  time.Duration     // Stop
	Labels map[string]string // Label; Start: those that depend on the history
	Extra  bool              // a container besides the one that is kept
	// Fallback: the step is about Input.Fallback, not about Input.Desired.
	Fallback bool
	// Image is the manifest digest to start, or the one that Prepare shall
	// take without asking a registry what a tag means today.
	Image string
}

// Input is everything that a decision depends on.
type Input struct {
	Name     string
	Desired  *Desired // nil: no record of it here
	Selected bool     // Desired is meant for this node
	Select   string   // why, in words
	Denials  []policy.Denial
	// Fallback is what this node started last, when that is another digest
	// than the desired one; FallbackDenials are what the policy says of it.
	Fallback        *Desired
	FallbackDenials []policy.Denial
	Labels          map[string]string  // those of Render for Desired
	Actual          []runtime.Instance // containers that carry the daemon's name, sorted by id
	History         History            // observed with Primary(Actual)
	Left            bool               // this node left the ring: nothing may run
	Seed            string             // of the jitter
	Now             time.Time
}

// Result is a decision.
type Result struct {
	Steps  []Step // in order; carried out one at a time, with a new plan after each
	State  State
	Reason string
	More   []string // further reasons, most decisive first
	Placed bool
	Ready  bool
	Wake   time.Time // decide again by then; zero: only when something happens
}

// quarantineAfter is the number of panics of agentd itself on one digest after
// which it keeps its hands off it.
const quarantineAfter = 3

// Plan decides what to do next about one daemon. It is pure.
func Plan(in Input) Result {
	p := &plan{Input: in, inst: Primary(in.Name, wanted(in.Desired), in.Actual)}
	r := p.decide()
	r.Ready = p.running() || r.State == Completed
	r.Steps = append(p.extras(), r.Steps...)
	return p.gate(r, p.History.Failure)
}

func wanted(d *Desired) string {
	if d == nil {
		return ""
	}
	return d.Digest
}

// Primary picks the container that stands for the daemon: one that runs before
// one that doesn't, then one of the wanted digest, then the one named like the
// daemon. nil: there is none.
func Primary(name, digest string, actual []runtime.Instance) *runtime.Instance {
	var best *runtime.Instance
	rank := -1
	for i := range actual {
		n, a := 0, &actual[i]
		if a.State == runtime.StateRunning || a.State == runtime.StatePaused {
			n += 4
		}
		if digest != "" && a.Labels[runtime.LabelDigest] == digest {
			n += 2
		}
		if a.ID == name {
			n++
		}
		if n > rank {
			best, rank = a, n
		}
	}
	return best
}

// plan is the decision under way.
type plan struct {
	Input
	inst *runtime.Instance
}

func (p *plan) running() bool { return p.inst != nil && p.inst.State == runtime.StateRunning }

// alive reports whether processes of the container may exist.
func (p *plan) alive() bool {
	return p.inst != nil && (p.inst.State == runtime.StateRunning || p.inst.State == runtime.StatePaused)
}

// current reports whether the container is of the wanted digest.
func (p *plan) current() bool {
	return p.inst != nil && p.inst.Labels[runtime.LabelDigest] == p.Desired.Digest
}

// decide goes from what stops everything to what starts something. The order is
// the meaning: what comes earlier wins.
func (p *plan) decide() Result {
	d := p.Desired
	switch {
	case p.Left:
		r := p.takeAway(Stopped, "this node left the ring; agentctl join brings it back")
		r.Placed = d != nil && !d.Delete && p.Selected
		return r
	case d == nil:
		return p.leaveAlone(p.presentState(), "no record of it here: left alone as it is")
	case d.Hold != "":
		r := p.leaveAlone(Blocked, "held: "+d.Hold)
		r.Placed = p.Selected && !d.Delete
		return r
	case d.Delete:
		return p.takeAway(Stopped, "deleted")
	case !p.Selected:
		return p.takeAway(Excluded, p.Select)
	}
	r := p.decidePlaced()
	r.Placed = true
	return r
}

func (p *plan) decidePlaced() Result {
	switch h := p.History; {
	case h.Panics >= quarantineAfter:
		return p.leaveAlone(Blocked, quarantineWords(h, p.Desired))
	case len(p.Denials) > 0:
		// The policy is this node's last word on what is *started*. What runs
		// was permitted when it started; a stricter policy, or a slip in it,
		// is no reason to stop all that runs here (fail static). It will not
		// be started again, and the reason says so.
		r := p.leaveAlone(Blocked, p.Denials[0].String())
		for _, more := range p.Denials[1:] {
			r.More = append(r.More, more.String())
		}
		return r
	case p.inst == nil && h.Ended == nil:
		return p.start(fmt.Sprintf("nothing runs here yet; revision %d is wanted", p.Desired.Revision))
	case p.inst == nil:
		return p.ended()
	case !p.current():
		return p.replace()
	case p.inst.State == runtime.StateRunning:
		return p.keep()
	case p.inst.State == runtime.StatePaused:
		return p.start("the container was paused by somebody; it is resumed")
	default:
		return p.ended()
	}
}

// keep lets a container of the wanted digest run and brings its labels up to
// date, so that a change outside the running part is remembered without a
// restart.
func (p *plan) keep() Result {
	r := Result{State: Running, Reason: p.runningWords()}
	changed := map[string]string{}
	for k, v := range p.Labels {
		if p.inst.Labels[k] != v {
			changed[k] = v
		}
	}
	if len(changed) > 0 {
		keys := slices.Sorted(maps.Keys(changed))
		r.Steps = []Step{{Op: Label, ID: p.inst.ID, Labels: changed,
			Reason: fmt.Sprintf("labels are behind the record: %v", keys)}}
	}
	if hint := p.Desired.ImageDigest; hint != "" {
		if runs := p.inst.Labels[runtime.LabelImage]; runs != "" && runs != hint {
			r.More = append(r.More, fmt.Sprintf("runs image %s, the ring expects %s", short(runs), short(hint)))
		}
	}
	return r
}

// replace goes from another digest to the wanted one: the new one is made ready
// first, and only then the old one is stopped.
func (p *plan) replace() Result {
	why := fmt.Sprintf("digest differs from the spec: revision %d replaces revision %s",
		p.Desired.Revision, orUnknown(p.inst.Labels[runtime.LabelRevision]))
	r := p.start(why)
	if p.alive() {
		stop := Step{Op: Stop, ID: p.inst.ID, Grace: p.grace(), Reason: why}
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
	labels[runtime.LabelExit] = ""
	if e := p.lastExit(); e != nil {
		labels[runtime.LabelExit] = exitLabel(*e)
	}
	id := p.Name
	if p.inst != nil {
		id = p.inst.ID // so that the runtime itself sees it as the same one
	}
	begin := Step{Op: Start, ID: id, Reason: why, Labels: labels, Image: p.History.Prepared.Image}
	if p.History.Prepared.Digest == p.Desired.Digest {
		return Result{State: Starting, Reason: why, Steps: []Step{begin}}
	}
	prepare := Step{Op: Prepare, ID: id, Reason: why}
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
		return p.start(fmt.Sprintf("stopped before; revision %d is wanted again", p.Desired.Revision))
	}
	next := p.History.Next(p.Desired.Digest, restart.ResetAfter.D(), p.Now)
	delay := crashBackoff(restart).Delay(next.Streak, p.Seed)
	r := p.start(restartWords(e, next, delay))
	if at := e.SeenAt.Add(delay - min(e.Age, delay)); p.Now.Before(at) {
		return Result{State: BackOff, Reason: r.Reason, Wake: at}
	}
	return r
}

// final decides whether the instance ended for good, and remembers it in the
// container's labels, since a reboot loses the task and with it the exit code.
func (p *plan) final(e *Ended, pol spec.RestartPolicy) (bool, Result) {
	exit := e.Exit
	marked := p.inst != nil && p.inst.Labels[labelFinal] != "" &&
		p.inst.Labels[labelFinal] == p.inst.Labels[runtime.LabelRestarts]
	switch {
	case pol == spec.RestartAlways || pol == "" || p.inst == nil:
		// A container that is gone altogether can't say that it ended well.
		return false, Result{}
	case e.Ours && !marked:
		return false, Result{}
	case marked && !exit.Known && p.History.Last != nil:
		exit = *p.History.Last
	}
	good := exit.Known && exit.Code == 0
	if pol == spec.RestartOnFailure && !good {
		return false, Result{}
	}
	r := Result{State: Stopped, Reason: exitWords(exit, e.Away) + "; restart.policy is " + string(pol)}
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

// takeAway stops and removes the container, if there is one.
func (p *plan) takeAway(gone State, why string) Result {
	if p.inst == nil {
		return Result{State: gone, Reason: why}
	}
	return Result{State: Stopping, Reason: why, Steps: p.end(p.inst, why)}
}

// end stops and removes one container.
func (p *plan) end(inst *runtime.Instance, why string) []Step {
	remove := Step{Op: Remove, ID: inst.ID, Reason: why}
	if inst.State == runtime.StateRunning {
		return []Step{{Op: Stop, ID: inst.ID, Grace: p.graceOf(inst), Reason: why}, remove}
	}
	return []Step{remove} // a paused one can't answer a signal either
}

// extras removes all containers but the one that is kept. Without a record, or
// while it is held, nothing is touched.
func (p *plan) extras() []Step {
	if p.Desired == nil && !p.Left || p.Desired != nil && p.Desired.Hold != "" && !p.Left {
		return nil
	}
	var out []Step
	for i := range p.Actual {
		if inst := &p.Actual[i]; inst != p.inst {
			out = append(out, p.end(inst, "a second container of the same daemon")...)
		}
	}
	for i := range out {
		out[i].Extra = true
	}
	return out
}

// leaveAlone changes nothing and says what there is.
func (p *plan) leaveAlone(state State, why string) Result {
	switch {
	case p.alive() && state != p.presentState():
		why += fmt.Sprintf("; revision %s keeps running", orUnknown(p.inst.Labels[runtime.LabelRevision]))
	case p.History.Ended != nil && !p.History.Ended.Ours:
		why += "; " + exitWords(p.History.Ended.Exit, p.History.Ended.Away) + ", not started again"
	}
	return Result{State: state, Reason: why}
}

// presentState names what is there, without any wish.
func (p *plan) presentState() State {
	switch {
	case p.inst == nil:
		return Stopped
	case p.inst.State == runtime.StateRunning:
		return Running
	default:
		return Stopped
	}
}

func (p *plan) grace() time.Duration { return p.graceOf(p.inst) }

// graceOf is the container's own grace period, as it was when it started.
func (p *plan) graceOf(inst *runtime.Instance) time.Duration {
	if g, err := time.ParseDuration(inst.Labels[runtime.LabelStopGrace]); err == nil && g >= 0 {
		return g
	}
	if p.Desired != nil && p.Desired.Daemon.Stop.Grace > 0 {
		return p.Desired.Daemon.Stop.Grace.D()
	}
	return 30 * time.Second // the spec's default
}
