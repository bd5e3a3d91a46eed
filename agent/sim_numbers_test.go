package agent

import (
	"context"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip/sim"
)

// The numbers that are asserted here are virtual time.
const (
	// simSlow is the most that a rollout may take, as a multiple of what it
	// would take if all updates took the same time and news none.
	simSlow = 1.15
	// simEvidence is how many requests a node may make so that others hear of
	// its step at once; the ordinary exchange of statements is not among them.
	simEvidence = 2
)

// updates are revisions that take 14 s to come up, give or take 20 %, on
// rings whose rollouts are measured.
func (w *world) updates(n, k int) (ideal time.Duration, o order) {
	// What an update takes besides: a pull of 300 ms, a stop of 200 ms, and a
	// start of 100 ms.
	const update, besides, minReady = 14 * time.Second, 600 * time.Millisecond, 6 * time.Second
	img := image{warm: update - besides, vary: 0.2 * float64(update) / float64(update-besides)}
	steps := (n + k - 1) / k
	return time.Duration(steps) * (update + minReady), order{image: w.define(2, img), update: rolling(k, minReady)}
}

// informs counts the requests that bring evidence to those who wait for it.
func (w *world) informs() map[string]int {
	out := map[string]int{}
	for _, m := range w.nodes {
		out[m.name] = w.net.Calls(func(c sim.Call) bool { return c.From == m.name && c.Op == "inform" })
	}
	return out
}

// calmRing is a ring whose first revision runs.
func calmRing(t *testing.T, w *world, n, k int) {
	t.Helper()
	w.grow(n)
	first, err := w.apply(w.nodes[1], order{image: w.define(1, image{}), update: rolling(k, 0)})
	if err != nil {
		t.Fatal(err)
	}
	w.await(time.Minute, "the first revision runs", w.settled(first))
	w.pass(10 * time.Second)
}

// A rollout over 100 nodes, ten at a time.
//
// conformance: D1, U6
func TestRolloutTakesAsLongAsItHasTo(t *testing.T) {
	n, k := 100, 10
	if testing.Short() {
		n, k = 40, 4
	}
	inBubble(t, *simSeed, simLAN, func(w *world) {
		calmRing(t, w, n, k)
		before := w.informs()
		ideal, o := w.updates(n, k)
		second, err := w.apply(w.nodes[2], o)
		if err != nil {
			t.Fatal(err)
		}
		limit := time.Duration(simSlow * float64(ideal))
		took := w.await(10*limit, "the second revision runs", w.rolled(second))
		most, sum := 0, 0
		for name, n := range w.informs() {
			most, sum = max(most, n-before[name]), sum+n-before[name]
		}
		t.Logf("%d nodes, %d at once: %s, %.3f times the ideal %s; evidence took %d requests, a node's %d at most",
			n, k, took, float64(took)/float64(ideal), ideal, sum, most)
		if took > limit {
			t.Errorf("the rollout took %s, allowed are %s", took, limit)
		}
		if most > simEvidence {
			t.Errorf("a node made %d requests to bring evidence, allowed are %d", most, simEvidence)
		}
		// No pull storm, and no stop before the new image is here: from the end of
		// the old container to the new one it takes a start, and no pull.
		if n := w.by.pulled[second.image]; n > k {
			t.Errorf("%d nodes pulled at once, %d may update", n, k)
		}
		if w.by.gap > 250*time.Millisecond {
			t.Errorf("a node had no container for %s during its update", w.by.gap)
		}
		if w.by.most != k {
			t.Errorf("at most %d nodes were updating at once, %d may", w.by.most, k)
		}
	})
}

// rolled says who did not go on to a revision, or does not say so yet.
func (w *world) rolled(want signed) func() string {
	return func() string {
		if why := w.settled(want)(); why != "" {
			return why
		}
		for _, m := range w.running() {
			if st := m.agent.turns.keeper.State(simDaemon); st.Done.Version != want.version {
				return m.name + " is not done"
			}
		}
		return ""
	}
}

// A node that dies right after an apply, before it starts the new revision,
// holds back its own lane and no other.
//
// conformance: U1
func TestDeadNodeHoldsBackItsOwnLane(t *testing.T) {
	const n, k = 40, 4
	inBubble(t, *simSeed, simLAN, func(w *world) {
		calmRing(t, w, n, k)
		dead := w.nodes[n/2]
		dead.powerCut() // nobody knows yet: it is in the roster
		ideal, o := w.updates(n, k)
		second, err := w.apply(w.nodes[2], o)
		if err != nil {
			t.Fatal(err)
		}
		limit := time.Duration(simSlow * float64(ideal))
		took := w.await(10*limit, "all other lanes are done", func() string {
			ro, err := w.nodes[2].agent.Rollout(context.Background(), simDaemon)
			if err != nil {
				return err.Error()
			}
			lane := 0
			for _, node := range ro.Nodes {
				if node.Node == dead.name {
					lane = node.Lane
				}
			}
			if lane == 0 || ro.Record != second.version.Digest.String() {
				return "the dead node is in no lane"
			}
			for _, node := range ro.Nodes {
				if node.Lane != lane && node.State != api.TurnDone {
					return node.Node + " is " + node.State + ": " + node.Reason
				}
			}
			return ""
		})
		t.Logf("the other lanes took %s, %.3f times the ideal %s", took, float64(took)/float64(ideal), ideal)
		if took > limit {
			t.Errorf("the other lanes took %s, allowed are %s", took, limit)
		}
		// Its lane says for whom it waits, and an operator's word ends that.
		held := 0
		for _, m := range w.running() {
			if _, wait := m.standing(); wait.Code != "" {
				held++
				if len(wait.On) == 0 || wait.Reason == "" {
					t.Errorf("%s waits and does not say for whom: %+v", m.name, wait)
				}
			}
		}
		if held == 0 {
			t.Error("nobody waits for the dead node")
		}
		ro, err := w.nodes[3].agent.Rollout(context.Background(), simDaemon)
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range ro.Nodes {
			if node.Node == dead.name {
				if err := w.skip(w.nodes[3], node, ro, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.await(2*ideal, "its lane goes on without it", w.settled(second))
		// When it is back with nothing running, it takes the newest at once.
		dead.powerOn()
		w.await(20*time.Second, "the dead node is back", w.settled(second))
	})
}
