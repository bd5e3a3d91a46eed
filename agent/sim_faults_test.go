package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// storm is what befalls a world: faults and operators, drawn from its seed.
type storm struct {
	*world
	k        int
	minReady time.Duration
	revision int
	strict   bool    // the number of lanes stays, and operators call nobody down: the bound is as tight as can be
	nasty    float64 // how likely a new revision is bad on some nodes
	later    []deed  // what ends by itself, sorted by time
	counts   map[string]int
}

// deed is something that happens later.
type deed struct {
	at time.Time
	do func()
}

func newStorm(w *world, k int) *storm {
	return &storm{world: w, k: k, minReady: time.Second, nasty: 0.4, counts: map[string]int{}}
}

// after puts something off.
func (s *storm) after(d time.Duration, do func()) {
	s.later = append(s.later, deed{time.Now().Add(d), do})
	slices.SortStableFunc(s.later, func(a, b deed) int { return a.at.Compare(b.at) })
}

// run lets things happen for d.
func (s *storm) run(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		next := time.Now().Add(s.between(100*time.Millisecond, 1500*time.Millisecond))
		for len(s.later) > 0 && s.later[0].at.Before(next) {
			it := s.later[0]
			s.later = s.later[1:]
			s.pass(time.Until(it.at))
			it.do()
		}
		s.pass(time.Until(next))
		s.bury()
		s.strike()
	}
}

// bury brings back agents that died in a trap.
func (s *storm) bury() {
	for _, m := range s.nodes {
		if m.died() {
			s.counts["died while acting"]++
			s.after(s.between(200*time.Millisecond, 8*time.Second), m.start)
		}
	}
}

// calm ends every fault that is under way.
func (s *storm) calm() {
	s.say("calm")
	s.setTrap(nil)
	for len(s.later) > 0 {
		it := s.later[0]
		s.later = s.later[1:]
		it.do()
	}
	s.bury()
	s.net.Heal()
	s.net.SetLoss(0.01)
	for _, m := range s.nodes {
		m.rt.FailNoMore()
		m.rt.SetUnavailable(false)
		m.start()
	}
	for len(s.later) > 0 { // those that were buried
		it := s.later[0]
		s.later = s.later[1:]
		it.do()
	}
}

func (s *storm) between(a, b time.Duration) time.Duration {
	return a + time.Duration(s.rng.Int64N(int64(b-a)))
}

func (s *storm) chance(p float64) bool { return s.rng.Float64() < p }

// members are the machines whose agents are in the ring.
func (s *storm) members() []*machine {
	return slices.DeleteFunc(s.running(), func(m *machine) bool { return m.left })
}

// order draws a revision.
func (s *storm) order() order {
	s.revision++
	i := image{warm: s.between(200*time.Millisecond, 2*time.Second), vary: 0.2, pull: s.between(0, time.Second), crashing: 400 * time.Millisecond}
	if s.chance(s.nasty) {
		bad := 0.02 + 0.2*s.rng.Float64()
		switch s.rng.IntN(3) {
		case 0:
			i.crashes = bad
		case 1:
			i.unready = bad
		case 2:
			i.missing = bad
		}
	}
	if s.chance(0.15) {
		i.pull = s.between(5*time.Second, 20*time.Second)
	}
	u := spec.Update{
		MaxUnavailable: spec.Share(fmt.Sprint(1 + s.rng.IntN(s.k))), MinReady: spec.Duration(s.minReady),
		Deadline: spec.Duration(s.between(6*time.Second, 20*time.Second)), MaxFailures: 1 + s.rng.IntN(3), Surge: s.overlap,
	}
	if s.chance(0.4) {
		u.OnFailure = spec.OnFailureRollback
	}
	if s.chance(0.3) {
		u.Canary, u.Bake = 1+s.rng.IntN(2), spec.Duration(s.between(0, 2*time.Second))
	}
	if s.chance(0.1) {
		u.MaxUnavailable = "25%"
	}
	if s.strict {
		u.MaxUnavailable = spec.Share(fmt.Sprint(s.k))
	}
	return order{image: s.define(s.revision, i), update: u, by: s.rng.IntN(2), drop: !s.strict && s.chance(0.3)}
}

func (s *storm) applySome(via *machine) {
	if via == nil {
		return
	}
	if _, err := s.apply(via, s.order()); err != nil {
		s.say("%s: apply: %v", via.name, err)
	}
}

// race lets both operators apply at the same moment from two nodes.
func (s *storm) race() {
	a, b := s.order(), s.order()
	a.by, b.by = 0, 1
	for _, o := range []order{a, b} {
		if via := s.pick(s.members()); via != nil {
			if _, err := s.apply(via, o); err != nil {
				s.say("%s: apply: %v", via.name, err)
			}
		}
	}
}

// again applies what is there already.
func (s *storm) again() {
	via := s.pick(s.members())
	top := s.by.newest()
	if via == nil || top.image == "" {
		return
	}
	if _, err := s.apply(via, order{image: top.image, update: rolling(s.k, s.minReady), by: 0}); err != nil {
		s.say("%s: apply again: %v", via.name, err)
	}
}

func (s *storm) steerPause(paused bool) {
	if via := s.pick(s.members()); via != nil {
		if err := s.pause(via, paused, s.rng.IntN(2)); err != nil {
			s.say("%s: pause %t: %v", via.name, paused, err)
		}
	}
}

// skipSome skips a node that an operator sees as waited for: mostly one that
// can't be reached, sometimes one that is well.
func (s *storm) skipSome() {
	via := s.pick(s.members())
	if via == nil || s.strict {
		return
	}
	ro, err := via.agent.Rollout(context.Background(), simDaemon)
	if err != nil {
		return
	}
	var down []api.RolloutNode
	for _, n := range ro.Nodes {
		if n.Lane > 0 && (n.Member != string(gossip.Alive) || s.chance(0.02)) {
			down = append(down, n)
		}
	}
	if len(down) == 0 {
		return
	}
	if err := s.skip(via, down[s.rng.IntN(len(down))], ro, s.rng.IntN(2)); err != nil {
		s.say("%s: skip: %v", via.name, err)
	}
}

func (s *storm) deleteAndRecreate() {
	via := s.pick(s.members())
	if via == nil {
		return
	}
	if err := s.remove(via, 0); err != nil {
		s.say("%s: delete: %v", via.name, err)
		return
	}
	s.after(s.between(0, 4*time.Second), func() {
		if via.agent != nil && !via.left {
			s.applySome(via)
		}
	})
}

func (s *storm) crashSome() {
	m := s.pick(s.running())
	if m == nil {
		return
	}
	m.crash()
	if s.chance(0.15) {
		m.forgetTurns()
	} else if s.chance(0.05) && s.spared() {
		m.forgetAll()
	}
	s.after(s.between(200*time.Millisecond, 12*time.Second), m.start)
}

// spared reports whether no other disk is away, so that what was acknowledged
// is still somewhere.
func (s *storm) spared() bool {
	for _, m := range s.nodes {
		if m.lost {
			return false
		}
	}
	return true
}

func (s *storm) cutPower() {
	m := s.pick(s.running())
	if m == nil {
		return
	}
	m.powerCut()
	s.after(s.between(2*time.Second, 25*time.Second), m.powerOn)
}

func (s *storm) partition() {
	names := s.names(s.nodes)
	s.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	n := 1 + s.rng.IntN(len(names)-1)
	s.say("partition: %v", names[:n])
	s.net.Partition(names[:n], names[n:])
	s.after(s.between(2*time.Second, 30*time.Second), s.net.Heal)
}

func (s *storm) deafen() {
	a, b := s.pick(s.nodes), s.pick(s.nodes)
	if s.chance(0.5) {
		s.net.Cut(a.name, b.name)
	} else {
		for _, m := range s.nodes {
			s.net.Cut(m.name, a.name)
		}
	}
	s.after(s.between(2*time.Second, 15*time.Second), s.net.Heal)
}

func (s *storm) lose() {
	s.net.SetLoss(0.05 + 0.25*s.rng.Float64())
	s.after(s.between(2*time.Second, 15*time.Second), func() { s.net.SetLoss(0.01) })
}

func (s *storm) outage() {
	m := s.pick(s.running())
	if m == nil {
		return
	}
	s.say("%s: runtime is away", m.name)
	m.rt.SetUnavailable(true)
	if s.chance(0.4) {
		s.after(s.between(100*time.Millisecond, 2*time.Second), func() { m.rt.Crash(simDaemon, 1) })
	}
	s.after(s.between(time.Second, 10*time.Second), func() { m.rt.SetUnavailable(false) })
}

func (s *storm) injure() {
	m := s.pick(s.nodes)
	switch s.rng.IntN(4) {
	case 0:
		m.rt.Crash(simDaemon, 7)
	case 1:
		m.rt.Kill(simDaemon)
	case 2:
		m.rt.OOM(simDaemon)
	case 3:
		m.rt.Lose(simDaemon)
	}
}

var errSimulated = errors.New("simulated failure")

func (s *storm) failCall() {
	ops := []fake.Op{fake.OpEnsure, fake.OpStop, fake.OpRemove, fake.OpPull, fake.OpList, fake.OpSetLabels}
	m, op := s.pick(s.nodes), ops[s.rng.IntN(len(ops))]
	for range 1 + s.rng.IntN(4) {
		m.rt.FailNext(op, errSimulated)
	}
}

// lay lets the next few agents that stop or start a container die in the act.
func (s *storm) lay() {
	left, share := 1+s.rng.IntN(3), s.rng.Float64()
	s.setTrap(func(m *machine, op fake.Op) bool {
		if left <= 0 || op == fake.OpEnsure && s.share("ensure", m.name) > share {
			return false
		}
		left--
		return true
	})
}

// setTrap decides which agents die in the act; see link.
func (w *world) setTrap(trap func(m *machine, op fake.Op) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trap = trap
}

func (s *storm) join() {
	if len(s.nodes) < 140 {
		s.add().start()
	}
}

// leave takes a node out of the ring for good.
func (s *storm) leave() {
	m := s.pick(s.members())
	if m == nil || len(s.members()) < 6 {
		return
	}
	s.say("%s: leaves", m.name)
	m.left = true
	s.by.left(m)
	a := m.agent
	s.dead.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, _ = a.Leave(ctx) // it may be killed meanwhile
	})
}
