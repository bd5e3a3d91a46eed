package supervise

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// Site is what placement depends on besides the daemon: this node, as it is
// now.
type Site struct {
	Node     spec.Node
	Cordoned bool // nothing is added; what is here stays
	Draining bool // everything goes
	// Isolated is since when this node reaches no other one; zero: it does.
	Isolated time.Time
}

// Need is a daemon that another one depends on.
type Need struct {
	Name  string
	Ready bool
	Why   string // why it is not ready, in words
}

// User is a daemon here that depends on another one, directly or not, has to go
// as well, and is still there.
type User struct {
	Name   string
	Grace  time.Duration
	Direct bool
}

// orderPatience is how long a daemon's stop waits for those that depend on it,
// besides their grace periods: one that can't be stopped holds up nobody.
const orderPatience = 30 * time.Second

// departure says why a container has to go.
type departure struct {
	state  State // once it is gone
	why    string
	placed bool
	halt   bool      // stopped, and kept for its return
	due    time.Time // it will have to go then, when nothing changes
}

// departs decides whether a daemon has to go from here. d may be nil.
func departs(d *Desired, site Site, left bool, now time.Time) (departure, bool) {
	placed, why := false, ""
	if d != nil && !d.Delete {
		placed, why = d.Daemon.Selects(site.Node)
	}
	switch {
	case left:
		return departure{state: Stopped, placed: placed, why: "this node left the ring; agentctl join brings it back"}, true
	case d == nil || d.Hold != "":
		return departure{}, false
	case d.Delete:
		return departure{state: Stopped, why: "deleted"}, true
	case !placed:
		return departure{state: Excluded, why: why}, true
	case site.Draining:
		return departure{state: Excluded, why: fmt.Sprintf("this node is drained; agentctl uncordon %s brings it back", site.Node.Name)}, true
	}
	for _, t := range d.Daemon.Untolerated(site.Node.Taints) {
		if t.Effect == spec.NoExecute {
			return departure{state: Excluded, why: fmt.Sprintf("taint %s of this node is not tolerated", t)}, true
		}
	}
	if iso := d.Daemon.Isolation; iso.Policy == spec.IsolationStop && !site.Isolated.IsZero() {
		due := site.Isolated.Add(iso.After.D())
		dep := departure{state: Stopped, placed: true, halt: true, due: due, why: fmt.Sprintf(
			"this node reaches no other one since %sZ; isolation.policy is stop after %s",
			site.Isolated.UTC().Format(time.TimeOnly), iso.After.D())}
		return dep, !now.Before(due)
	}
	return departure{}, false
}

// closed says why nothing may be added here, or "".
func (s Site) closed(d spec.Daemon) string {
	if s.Cordoned {
		return fmt.Sprintf("this node is cordoned; agentctl uncordon %s opens it", s.Node.Name)
	}
	for _, t := range d.Untolerated(s.Node.Taints) {
		if t.Effect == spec.NoSchedule {
			return fmt.Sprintf("taint %s of this node is not tolerated", t)
		}
	}
	return ""
}

// decideClosed keeps what is here, restarts it in place, and adds nothing: no
// new revision either.
func (p *plan) decideClosed(why string) Result {
	switch {
	case p.inst == nil && !p.finished():
		return Result{State: Excluded, Reason: why}
	case p.inst == nil || p.current() || p.beside != nil:
		r := p.decideOpen()
		r.Placed = true
		r.More = append(r.More, why)
		return r
	}
	r := p.leaveAlone(p.presentState(), fmt.Sprintf("revision %d waits: %s", p.Desired.Revision, why))
	if got, ok := p.inPlace(); ok {
		r = got
		r.Reason = fmt.Sprintf("revision %d waits: %s; meanwhile revision %d: %s", p.Desired.Revision, why, p.Fallback.Revision, got.Reason)
	} else if p.alive() {
		r.Reason += fmt.Sprintf("; revision %s keeps running", orUnknown(p.inst.Labels[runtime.LabelRevision]))
	}
	r.Placed = true
	return r
}

// takeAway stops the container and removes it, unless it is to come back.
func (p *plan) takeAway(dep departure) Result {
	r := Result{State: dep.state, Reason: dep.why, Placed: dep.placed}
	switch {
	case p.inst == nil, dep.halt && !p.alive():
		return r
	case dep.halt && p.inst.State == runtime.StateRunning:
		r.Steps = []Step{p.stop(p.inst, dep.why)}
	default:
		r.Steps = p.end(p.inst, dep.why)
	}
	r.State = Stopping
	return p.last(r)
}

// last holds back a stop until those that depend on this daemon, and have to go
// as well, are gone.
func (p *plan) last(r Result) Result {
	if !p.alive() || !slices.ContainsFunc(p.Users, func(u User) bool { return u.Direct }) {
		return r
	}
	var names, direct []string
	limit := orderPatience
	for _, u := range p.Users {
		limit += u.Grace
		names = append(names, u.Name)
		if u.Direct {
			direct = append(direct, u.Name)
		}
	}
	r.Waits = strings.Join(names, ", ")
	since := p.Now
	if w := p.History.Waits; w.For == r.Waits {
		since = w.Since
	}
	until := since.Add(limit)
	if !p.Now.Before(until) {
		r.More = append(r.More, fmt.Sprintf("waited %s for %s, and goes on without", limit, r.Waits))
		return r
	}
	r.Steps, r.Wake = nil, until
	r.Reason += "; first " + strings.Join(direct, ", ") + " has to stop, which depends on it"
	return r
}

// order holds back a start until what it depends on is ready here. What runs
// goes on, and what a start needs is made ready meanwhile.
func (p *plan) order(r Result) Result {
	at := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Op == Start })
	if p.Desired == nil || at < 0 || r.Steps[0].Op != Start && r.Steps[0].Op != Stop ||
		p.inst != nil && p.inst.State == runtime.StatePaused && p.current() {
		return r
	}
	var why []string
	switch {
	case len(p.Circle) > 0:
		why = []string{"depends_on goes in a circle: " + strings.Join(p.Circle, " needs ")}
	default:
		for _, n := range p.Needs {
			if !n.Ready {
				why = append(why, fmt.Sprintf("waits for %s, which is not ready here: %s", n.Name, n.Why))
			}
		}
	}
	if len(why) == 0 {
		return r
	}
	r.More = append(append(slices.Clone(why[1:]), r.Reason), r.More...)
	r.Steps, r.Wake, r.State, r.Reason = nil, time.Time{}, Waiting, why[0]
	if len(p.Circle) > 0 {
		r.State = Blocked
	}
	if p.alive() {
		r.State = p.presentState()
		r.Reason = fmt.Sprintf("revision %d %s; revision %s keeps running",
			p.Desired.Revision, why[0], orUnknown(p.inst.Labels[runtime.LabelRevision]))
	}
	return r
}
