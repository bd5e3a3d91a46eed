package supervise

import (
	"slices"
	"strings"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// local is a daemon as it is on this node.
type local struct {
	of      *Desired // nil: no record of it here
	origins []spec.Origin
	broken  string // why it can't be rendered; of is then as it was written
}

// renderLocal resolves overrides and templates, and takes the digest of the
// result: what decides here is what runs here.
func renderLocal(d Desired, node spec.Node) local {
	if d.Delete || d.Daemon.Image == "" {
		return local{of: &d} // only a name
	}
	d.Source = d.Digest
	rendered, origins, err := d.Daemon.For(node)
	if err != nil {
		return local{of: &d, broken: errorWords(err)}
	}
	if len(origins) > 0 || len(d.Daemon.Overrides) > 0 {
		d.Daemon, d.Digest = rendered, rendered.Digest()
	}
	return local{of: &d, origins: origins}
}

// source is the digest of the record's daemon.
func (d Desired) source() string {
	if d.Source == "" {
		return d.Digest
	}
	return d.Source
}

// sourceOf is the source of d, which may be nil.
func sourceOf(d *Desired) string {
	if d == nil {
		return ""
	}
	return d.source()
}

// circles finds the daemons whose dependencies lead back to themselves, each
// with the way round.
func circles(deps map[string][]string) map[string][]string {
	var out map[string][]string
	left := make(map[string][]string, len(deps))
	for name, needs := range deps {
		if len(needs) > 0 {
			left[name] = needs
		}
	}
	for {
		path := spec.Cycle(left)
		if path == nil {
			return out
		}
		if out == nil {
			out = map[string][]string{}
		}
		for i, name := range path[:len(path)-1] {
			// Each tells the way from its own point of view.
			out[name] = append(append(slices.Clone(path[i:len(path)-1]), path[:i]...), name)
			delete(left, name)
		}
	}
}

// needsLocked tells where a daemon's dependencies stand; s.mu is held.
func (s *Supervisor) needsLocked(d *Desired) []Need {
	if d == nil || d.Delete {
		return nil
	}
	var out []Need
	for _, name := range d.Daemon.DependsOn {
		n := Need{Name: name}
		want, wanted := s.desired[name]
		r, known := s.reports[name]
		switch {
		case !wanted:
			n.Why = "no record of it here"
		case want.Delete:
			n.Why = "it is deleted"
		case !known:
			n.Why = "not looked at yet"
		default:
			n.Ready, n.Why = r.Ready && r.State != string(Stopping), r.State+", "+r.Reason
		}
		out = append(out, n)
	}
	return out
}

// usersLocked returns what depends on a daemon, has to go as well and is still
// there, sorted by name; s.mu is held.
func (s *Supervisor) usersLocked(name string) []User {
	var out []User
	seen := map[string]bool{name: true}
	todo := []string{name}
	for len(todo) > 0 {
		of := todo[0]
		todo = todo[1:]
		for user, needs := range s.deps {
			if seen[user] || !slices.Contains(needs, of) {
				continue
			}
			seen[user] = true
			if grace, goes := s.goesLocked(user); goes {
				out = append(out, User{Name: user, Grace: grace, Direct: of == name})
				todo = append(todo, user)
			}
		}
	}
	if s.leadsTo(name, out) {
		return nil // in a circle nobody is last
	}
	slices.SortFunc(out, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// goesLocked reports whether a daemon is there and has to go, and how long its
// stop may take; s.mu is held.
func (s *Supervisor) goesLocked(name string) (grace time.Duration, goes bool) {
	var d *Desired
	if want, ok := s.desired[name]; ok {
		d = &want
	}
	if _, goes = departs(d, s.site, s.left, time.Now()); !goes || !s.presentLocked(name) {
		return 0, false
	}
	grace = 30 * time.Second // the spec's default, where it is not known
	if d != nil && d.Daemon.Stop.Grace > 0 {
		grace = d.Daemon.Stop.Grace.D()
	}
	return grace, true
}

// leadsTo reports whether the daemon itself depends on one of its users.
func (s *Supervisor) leadsTo(name string, users []User) bool {
	seen := map[string]bool{}
	todo := slices.Clone(s.deps[name])
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		if seen[n] {
			continue
		}
		seen[n] = true
		if slices.ContainsFunc(users, func(u User) bool { return u.Name == n }) {
			return true
		}
		todo = append(todo, s.deps[n]...)
	}
	return false
}

// learn remembers what a daemon depended on when it was started, by an agent
// before this one, in case that its record is a delete by now.
func (s *Supervisor) learn(name string, needs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, wanted := s.desired[name]; len(needs) > 0 && (!wanted || d.Delete) {
		s.deps[name] = needs
	}
}

// presentLocked reports whether processes of a daemon may be here; s.mu is held.
func (s *Supervisor) presentLocked(name string) bool {
	r, known := s.reports[name]
	if known && (r.State != string(Waiting) || r.PID != 0) {
		return r.PID != 0 || r.State == string(Starting)
	}
	return slices.ContainsFunc(s.view.byName[name], func(i runtime.Instance) bool {
		return i.State == runtime.StateRunning || i.State == runtime.StatePaused
	})
}

// wakeNeighboursLocked wakes the daemons that decide again when one's report changes: those
// that depend on it, and those it depends on; s.mu is held.
func (s *Supervisor) wakeNeighboursLocked(name string) {
	for user, needs := range s.deps {
		if slices.Contains(needs, name) {
			s.wakeLocked(user)
		}
	}
	for _, need := range s.deps[name] {
		s.wakeLocked(need)
	}
}

func (s *Supervisor) wakeLocked(name string) {
	if w := s.workers[name]; w != nil {
		poke(w.wake)
	}
}

// SetNode changes what this node is; its name stays. Cordoned, nothing is added
// and what is here stays; draining, everything goes.
func (s *Supervisor) SetNode(n spec.Node, cordoned, draining bool) {
	n.Name = s.cfg.Node.Name
	s.setSite(func(site *Site) { site.Node, site.Cordoned, site.Draining = n, cordoned, draining })
}

// SetIsolated tells since when this node reaches no other one; the zero time:
// it does, or is meant to be alone. Only daemons with isolation.policy = "stop"
// care.
func (s *Supervisor) SetIsolated(since time.Time) {
	s.setSite(func(site *Site) { site.Isolated = since })
}

func (s *Supervisor) setSite(edit func(*Site)) {
	s.mu.Lock()
	edit(&s.site)
	s.wakeWorkersLocked()
	s.mu.Unlock()
}
