package supervise

import (
	"fmt"
	"time"

	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
)

// Op is what a step does.
type Op string

const (
	Prepare Op = "prepare" // image present, files rendered, mount sources there
	Start   Op = "start"   // Runtime.Ensure
	Stop    Op = "stop"    // hooks.pre_stop, then Runtime.Stop
	Remove  Op = "remove"  // Runtime.Remove
	Label   Op = "label"   // Runtime.SetLabels
	Hook    Op = "hook"    // hooks.post_start, then Runtime.SetLabels
	Record  Op = "record"  // the end of a job, on disk
	// HandOver makes a container the one that stands for the daemon, on disk.
	HandOver Op = "handover"
	Listen   Op = "listen" // what a container said last before it ended
)

// Step is one thing to do, and why.
type Step struct {
	Op     Op
	ID     string // container
	Reason string
	Grace  time.Duration     // Stop
	Labels map[string]string // Label, Hook; Start: those that depend on the history
	Extra  bool              // a container that the daemon has no use for
	Beside bool              // the container that is about to take over, see surge
	Keep   []string          // digests whose rendered files stay; Start, Remove of an extra
	// Fallback: the step is about Input.Fallback, not about Input.Desired.
	Fallback bool
	// Image is the manifest digest to start, or the one that Prepare shall
	// take without asking a registry what a tag means today.
	Image string
	// Fault says why a Stop ends an instance that is not well. Such an end
	// counts like a crash.
	Fault string
	Argv  []string // Hook; Stop: the pre_stop hook, nil without one
	Job   *JobEnd  // Record
}

// Input is everything that a decision depends on.
type Input struct {
	Name    string
	Desired *Desired // rendered for this node; nil: no record of it here
	Broken  string   // why it can't be rendered for this node; "": it was
	Site    Site
	Denials []policy.Denial
	// Started is what this node started last. Fallback is the same, when that
	// is another digest than the desired one; FallbackDenials are what the
	// policy says of it.
	Started         *Desired
	Fallback        *Desired
	FallbackDenials []policy.Denial
	Labels          map[string]string  // those of Render for Desired
	Actual          []runtime.Instance // containers that carry the daemon's name, sorted by id
	History         History            // observed with Pair(Actual)
	Health          probe.Verdict      // of the instance that runs
	BesideHealth    probe.Verdict      // of the one that is about to take over
	Preparing       time.Time          // since when a Prepare of the wanted digest is under way; zero: none is
	Finished        *JobEnd            // how this digest of a job ended here
	Needs           []Need             // what it depends on
	Circle          []string           // of dependencies that it is part of, as a path
	Users           []User             // what depends on it and has to go as well
	Left            bool               // this node left the ring: nothing may run
	Listens         bool               // what containers say can be read
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
	Waits  string    // whose end this one's stop waits for; "": nobody's
	Denied bool      // this node's policy does not let it start

	TryingSince time.Time // see Report
	OwnSince    time.Time // since when the container that stands for the daemon is ready
	BesideSince time.Time // since when the one that is about to take over is
}

// quarantineAfter is the number of panics of agentd itself on one digest after
// which it keeps its hands off it.
const quarantineAfter = 3

// Plan decides what to do next about one daemon. It is pure.
func Plan(in Input) Result {
	p := newPlan(in)
	r := p.order(p.decide())
	r.Ready, r.OwnSince = p.readyNow(r), p.readySince(r)
	if p.beside != nil {
		n := p.newcomer()
		r.BesideSince = n.History.ready(n.ready(), p.Now)
		r.Ready = r.Ready || !r.BesideSince.IsZero()
	}
	r.TryingSince = p.tryingSince(r)
	r.Steps = append(p.extras(), r.Steps...)
	return p.awaitTurn(p.gate(r, p.History.Failure))
}

func newPlan(in Input) *plan {
	p := &plan{Input: in, id: in.Name}
	p.inst, p.beside = Pair(in.Name, in.Desired, in.Started, in.History.Doomed, in.Actual)
	if p.inst != nil {
		p.id = p.inst.ID // so that the runtime itself sees it as the same one
	}
	return p
}

// awaitTurn shows a daemon that is well and could go on, were it its turn.
func (p *plan) awaitTurn(r Result) Result {
	if p.Desired == nil || p.Desired.Turn == "" || !r.Placed {
		return r
	}
	if p.running() && p.current() && r.State == Running && r.Ready {
		r.More = append([]string{r.Reason}, r.More...)
		r.State, r.Reason = Waiting, p.Desired.Turn
		return r
	}
	r.More = append(r.More, p.Desired.Turn)
	return r
}

// tryingSince says since when the wanted digest had its chance here.
func (p *plan) tryingSince(r Result) time.Time {
	d, f := p.Desired, p.History.Failure
	switch {
	case d == nil || d.Delete || !r.Placed:
		return time.Time{}
	case !p.History.Trying.IsZero():
		return p.History.Trying
	case f != nil && (f.Op == Prepare || f.Op == Start), p.Broken != "", len(p.Denials) > 0, p.finished():
		return p.Now
	}
	for i := range p.Actual {
		if inst := &p.Actual[i]; inst.Labels[runtime.LabelDigest] == d.Digest && (runs(inst) || hasRun(inst)) {
			return p.Now
		}
	}
	return time.Time{}
}

// ready reports whether the container that runs is fit for use. A job is when
// it is done, and not before.
func (p *plan) ready() bool {
	job := p.Desired != nil && p.Desired.Daemon.Job()
	return p.running() && !job && p.Health.Good() && !p.hookDue()
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
		if runs(a) {
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
	inst   *runtime.Instance // that stands for the daemon
	beside *runtime.Instance // that is about to take over, see surge
	id     string            // of a container that is made
}

func (p *plan) running() bool { return p.inst != nil && p.inst.State == runtime.StateRunning }

// alive reports whether processes of the container may exist.
func (p *plan) alive() bool { return runs(p.inst) }

// current reports whether the container is of the wanted digest.
func (p *plan) current() bool {
	return p.inst != nil && p.inst.Labels[runtime.LabelDigest] == p.Desired.Digest
}

// decide goes from what stops everything to what starts something. The order is
// the meaning: what comes earlier wins.
func (p *plan) decide() Result {
	if p.Desired == nil && !p.Left {
		return p.leaveAlone(p.presentState(), "no record of it here: left alone as it is")
	}
	dep, goes := departs(p.Desired, p.Site, p.Left, p.Now)
	if goes {
		p.beside = nil // both go
		return p.takeAway(dep)
	}
	d := p.Desired
	if d.Hold != "" {
		r := p.leaveAlone(Blocked, "held: "+d.Hold)
		placed, _ := d.Daemon.Selects(p.Site.Node)
		r.Placed = placed && !d.Delete
		return r
	}
	r := p.decidePlaced()
	if !dep.due.IsZero() && (r.Wake.IsZero() || dep.due.Before(r.Wake)) {
		r.Wake = dep.due
	}
	return r
}

func (p *plan) decidePlaced() Result {
	if why := p.Site.closed(p.Desired.Daemon); why != "" {
		return p.decideClosed(why)
	}
	r := p.decideOpen()
	r.Placed = true
	return r
}

func (p *plan) decideOpen() Result {
	switch h := p.History; {
	case h.Panics >= quarantineAfter:
		return p.leaveAlone(Blocked, quarantineWords(h, p.Desired))
	case p.Broken != "":
		return p.blocked("cannot be rendered for this node: " + p.Broken)
	case p.finished():
		return p.jobDone()
	case len(p.Denials) > 0:
		// The policy is this node's last word on what is *started*. What runs
		// was permitted when it started; a stricter policy, or a slip in it,
		// is no reason to stop all that runs here (fail static). It will not
		// be started again, and the reason says so.
		r := p.blocked(p.Denials[0].String())
		r.Denied = true
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
		return p.own(p.keep())
	case p.inst.State == runtime.StatePaused:
		return p.start("the container was paused by somebody; it is resumed")
	default:
		return p.ended()
	}
}

// end stops and removes one container.
func (p *plan) end(inst *runtime.Instance, why string) []Step {
	remove := Step{Op: Remove, ID: inst.ID, Reason: why}
	if inst.State == runtime.StateRunning {
		return []Step{p.stop(inst, why), remove}
	}
	return []Step{remove} // a paused one can't answer a signal either
}

// extras removes all containers that the daemon has no use for. Without a
// record, or while it is held, nothing is touched.
func (p *plan) extras() []Step {
	if p.Desired == nil && !p.Left || p.Desired != nil && p.Desired.Hold != "" && !p.Left {
		return nil
	}
	var out []Step
	for i := range p.Actual {
		if inst := &p.Actual[i]; inst != p.inst && inst != p.beside {
			out = append(out, p.away(inst, p.extraWords(inst))...)
		}
	}
	return out
}

// leaveAlone changes nothing and says what there is.
func (p *plan) leaveAlone(state State, why string) Result {
	switch {
	case p.alive() && state != p.presentState():
		why += fmt.Sprintf("; revision %s keeps running", orUnknown(p.inst.Labels[runtime.LabelRevision]))
		if p.running() && !p.Health.Good() {
			why += ": " + p.Health.Reason
		}
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

// stop ends the processes of one container.
func (p *plan) stop(inst *runtime.Instance, why string) Step {
	s := Step{Op: Stop, ID: inst.ID, Grace: p.graceOf(inst), Reason: why}
	if of := p.specOf(inst); of != nil {
		s.Argv = of.Daemon.Hooks.PreStop
	}
	return s
}

// specOf returns what a container was made of, nil when it is not known.
func (p *plan) specOf(inst *runtime.Instance) *Desired { return madeOf(inst, p.Desired, p.Started) }

// madeOf picks the one that a container was made of.
func madeOf(inst *runtime.Instance, of ...*Desired) *Desired {
	if inst == nil {
		return nil
	}
	for _, d := range of {
		if d != nil && !d.Delete && d.Digest != "" && d.Digest == inst.Labels[runtime.LabelDigest] {
			return d
		}
	}
	return nil
}

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
