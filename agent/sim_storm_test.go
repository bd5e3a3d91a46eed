package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

// weather is one storm and what comes after it.
type weather struct {
	nodes int
	k     int
	long  time.Duration
	surge bool
	// strict storms are those in which the bound is as tight as it can be.
	strict bool
	// deadly is how many agents die in the act, if that is all that happens.
	deadly int
}

// simulate lets a ring live through a storm. All through it the bystander holds
// it to its promises. When the storm is over, every node that waits has to say
// for whom, down to a root; and after an operator applied something good it has
// to run everywhere.
func simulate(t *testing.T, seed uint64, of weather) {
	t.Helper()
	inBubble(t, seed, simLAN, func(w *world) {
		w.overlap = of.surge
		s := newStorm(w, of.k)
		s.strict = of.strict
		w.grow(of.nodes)
		first, err := w.apply(w.nodes[0], order{image: w.define(0, image{warm: time.Second}), update: rolling(of.k, s.minReady)})
		if err != nil {
			t.Fatal(err)
		}
		w.await(time.Minute, "the first revision runs", w.settled(first))
		if s.run(of.long); of.deadly > 0 {
			s.die(of.deadly)
		}
		s.calm()
		w.await(2*time.Minute, "the ring is whole and agrees", w.agree)
		w.pass(45 * time.Second) // longer than any deadline
		w.await(30*time.Second, "every node that waits says for whom", s.rooted)
		took, longest := s.finish()
		w.say("%v; most down %d, %d starts, %d updates; %d nodes, lanes of %d: the end took %s",
			s.counts, w.by.most, w.by.starts, w.by.updates, len(w.running()), longest, took)
	})
}

// agree says what keeps the agents from holding the same and seeing each other.
func (w *world) agree() string {
	in := 0
	for _, m := range w.running() {
		if !m.left {
			in++
		}
	}
	root := ""
	for _, m := range w.running() {
		if m.left {
			continue
		}
		if n := m.agent.ring.NumAlive(); n != in {
			return fmt.Sprintf("%s sees %d of %d", m.name, n, in)
		}
		if got := m.agent.store.Root().String(); root == "" {
			root = got
		} else if got != root {
			return m.name + " holds other records"
		}
	}
	return ""
}

// finish lets an operator mend everything, and waits until it is mended.
func (s *storm) finish() (took time.Duration, longest int) {
	via := s.members()[0]
	if err := s.pause(via, false, 0); err != nil {
		s.t.Fatal(err)
	}
	s.revision++
	last, err := s.apply(via, order{image: s.define(s.revision, image{warm: 500 * time.Millisecond, vary: 0.2}), update: rolling(s.k, s.minReady), drop: true})
	if err != nil {
		s.t.Fatal(err)
	}
	ro, err := via.agent.Rollout(context.Background(), simDaemon)
	if err != nil {
		s.t.Fatal(err)
	}
	lanes, late := map[int]int{}, 0
	for _, n := range ro.Nodes {
		if n.Lane == 0 {
			late++
		} else {
			lanes[n.Lane]++
		}
	}
	for _, n := range lanes {
		longest = max(longest, n)
	}
	// What an update takes at most, and for how long a pull that failed again and
	// again still waits.
	const step, backoff = 8 * time.Second, 5 * time.Minute
	took = s.await(backoff+time.Duration(longest+late)*step, "the last revision runs everywhere", s.settled(last))
	s.await(30*time.Second, "nobody counts as down", func() string {
		if down := s.by.down(); len(down) > 0 {
			return fmt.Sprint(down)
		}
		return ""
	})
	return took, longest
}

// rooted says which waiting node's words lead nowhere.
func (s *storm) rooted() string {
	at := map[rollout.NodeID]*machine{}
	for _, m := range s.members() {
		at[m.agent.turns.keeper.ID()] = m
	}
	held, _ := s.members()[0].agent.store.Get(record.Key{Kind: record.KindDaemon, Name: simDaemon})
	newest, conflict := s.by.version(held.Winner().Version()), held.Conflict() != ""
	for _, m := range s.members() {
		if why := s.root(m, at, map[*machine]bool{}); why != "" {
			return why
		}
		of, ready, ok := s.by.runs(m)
		st, wait := m.standing()
		switch {
		case conflict: // what was accepted last stays, and status says why
		case newest.del, ok && of.digest == newest.digest && (ready || m.why() != ""):
			// What it runs may be unwell: a record that changes nothing is done at once.
		case wait.Code != "" && wait.Reason == "":
			return m.name + " waits without a word"
		case wait.Code == "" && st.Slot == nil && st.IsDone(st.Observed) && !st.Observed.Vetoed:
			return fmt.Sprintf("%s calls itself done and runs generation %d (ready %t): %s", m.name, of.version.Generation, ready, m.why())
		}
	}
	return ""
}

// standing is the agent's own part in the rollout.
func (m *machine) standing() (rollout.State, rollout.Wait) {
	t := &m.agent.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.keeper.State(simDaemon), t.waits[simDaemon]
}

// root follows what a node waits for to whoever has a reason of its own.
func (s *storm) root(m *machine, at map[rollout.NodeID]*machine, seen map[*machine]bool) string {
	if seen[m] {
		return fmt.Sprintf("%v wait for each other", s.names(slices.Collect(maps.Keys(seen))))
	}
	seen[m] = true
	defer delete(seen, m)
	st, wait := m.standing()
	switch wait.Code {
	case "", rollout.WaitPaused, rollout.WaitFailures, rollout.WaitHeld, rollout.WaitDeath, rollout.WaitClosed,
		rollout.WaitTold, rollout.WaitFallback, rollout.WaitUnknown, rollout.WaitDisk:
		return ""
	}
	if len(wait.On) == 0 && wait.Code != rollout.WaitLate {
		return fmt.Sprintf("%s waits (%s: %s) for nobody", m.name, wait.Code, wait.Reason)
	}
	for _, id := range wait.On {
		other := at[id]
		if other == nil {
			continue // it is not there: a root
		}
		theirs, word := other.standing()
		switch {
		case word.Code != "":
			if why := s.root(other, at, seen); why != "" {
				return m.name + " < " + why
			}
		case wait.Code == rollout.WaitLate && !s.over():
			// It lends when its whole lane is done, and that is not so yet.
		case theirs.Slot == nil && theirs.Lent == nil && theirs.IsDone(st.Observed):
			return fmt.Sprintf("%s waits (%s: %s) for %s, which is done", m.name, wait.Code, wait.Reason, other.name)
		}
	}
	return ""
}

// over reports whether the members of all lanes are done.
func (s *storm) over() bool {
	ro, err := s.members()[0].agent.Rollout(context.Background(), simDaemon)
	return err == nil && !slices.ContainsFunc(ro.Nodes, func(n api.RolloutNode) bool { return n.Lane > 0 && n.State != api.TurnDone })
}

// TestSimulate runs storms over whole agents, by seeds: a few small rings in go
// test, hundreds of large ones in make simulate.
//
// conformance: D1, D6, D7, A3, U1
func TestSimulate(t *testing.T) {
	seeds, of := 4, weather{nodes: 12, k: 3, long: 60 * time.Second}
	if testing.Short() {
		seeds = 2
	}
	if *simSeeds > 0 {
		seeds = *simSeeds
	}
	if *simNodes > 0 {
		of.nodes, of.k, of.long = *simNodes, max(2, *simNodes/10), 90*time.Second
	}
	for i := range seeds {
		seed := *simSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			of := of
			of.surge, of.strict = seed%4 == 3, seed%2 == 0
			simulate(t, seed, of)
		})
	}
}

// TestDeadlyStorm is for agents that die in the very moment in which they stop a
// container: what they know when they are back is what was on the disk then.
func TestDeadlyStorm(t *testing.T) {
	for seed := *simSeed; seed < *simSeed+4; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			simulate(t, seed, weather{nodes: 6, k: 2, deadly: 6})
		})
	}
}
