package agent

import (
	"time"

	"github.com/agentd/agentd/runtime/fake"
)

// strike does one thing.
func (s *storm) strike() {
	type deed struct {
		weight int
		name   string
		do     func()
	}
	deeds := []deed{
		{6, "apply", func() { s.applySome(s.pick(s.members())) }},
		{3, "trap", s.lay},
		{3, "operators race", s.race},
		{2, "apply again", s.again},
		{2, "pause", func() { s.steerPause(true) }},
		{4, "resume", func() { s.steerPause(false) }},
		{2, "skip", s.skipSome},
		{1, "delete", s.deleteAndRecreate},
		{5, "agent crash", s.crashSome},
		{3, "power cut", s.cutPower},
		{3, "partition", s.partition},
		{2, "one-way partition", s.deafen},
		{1, "loss", s.lose},
		{3, "runtime outage", s.outage},
		{4, "container ends", s.injure},
		{3, "runtime call fails", s.failCall},
		{1, "join", s.join},
		{1, "leave", s.leave},
	}
	sum := 0
	for _, d := range deeds {
		sum += d.weight
	}
	n := s.rng.IntN(sum)
	for _, d := range deeds {
		if n -= d.weight; n < 0 {
			s.counts[d.name]++
			d.do()
			return
		}
	}
}

// die lets, again and again, an agent die in the act of stopping a container for
// an update, and be back at once, when an operator has applied something newer
// meanwhile. What is stopped takes long to come back, so that whoever forgot that
// it holds a turn is found out.
func (s *storm) die(rounds int) {
	slow := func() order {
		s.revision++
		return order{image: s.define(s.revision, image{warm: 5 * time.Second}), update: rolling(s.k, 2*time.Second)}
	}
	for range rounds {
		s.mustApply(slow())
		first, sprung := s.k+s.rng.IntN(3), false // others go before it, and are done
		s.setTrap(func(_ *machine, op fake.Op) bool {
			if op != fake.OpStop || sprung {
				return false
			}
			first--
			sprung = first < 0
			return sprung
		})
		s.await(5*time.Minute, "somebody dies in the act", func() string {
			for _, m := range s.nodes {
				if m.died() {
					s.after(s.between(100*time.Millisecond, time.Second), m.start)
					return ""
				}
			}
			return "nobody did"
		})
		s.mustApply(slow())
		for len(s.later) > 0 {
			it := s.later[0]
			s.later = s.later[1:]
			s.pass(time.Until(it.at))
			it.do()
		}
		s.pass(s.between(6*time.Second, 12*time.Second))
	}
}

func (s *storm) mustApply(o order) {
	if _, err := s.apply(s.pick(s.members()), o); err != nil {
		s.t.Fatal(err)
	}
}
