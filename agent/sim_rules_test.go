package agent

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
)

// smallRing is a ring of twelve in which the first revision runs.
func smallRing(t *testing.T, first image, f func(w *world)) {
	t.Helper()
	inBubble(t, *simSeed, simLAN, func(w *world) {
		w.grow(12)
		w.must(w.nodes[1], order{image: w.define(1, first), update: rolling(3, time.Second)})
		w.pass(20 * time.Second)
		f(w)
	})
}

func (w *world) must(via *machine, o order) signed {
	w.t.Helper()
	s, err := w.apply(via, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// starts counts the starts of containers, by node.
func (w *world) starts() map[string]int {
	out := map[string]int{}
	for _, m := range w.nodes {
		out[m.name] = m.rt.Starts(simDaemon)
	}
	return out
}

func (w *world) rollout() api.Rollout {
	w.t.Helper()
	ro, err := w.nodes[1].agent.Rollout(context.Background(), simDaemon)
	if err != nil {
		w.t.Fatal(err)
	}
	return ro
}

// A revision that never gets ready on some nodes is rolled back: who took it goes
// back, and who did not is not touched.
//
// conformance: D2
// conformance: D6
func TestRollbackLeavesAloneWhoDidNotUpdate(t *testing.T) {
	smallRing(t, image{warm: time.Second}, func(w *world) {
		first := w.by.newest()
		before := w.starts()
		u := rolling(3, time.Second)
		u.OnFailure, u.Deadline = spec.OnFailureRollback, spec.Duration(8*time.Second)
		w.must(w.nodes[2], order{image: w.define(2, image{warm: time.Second, unready: 0.7}), update: u})
		w.pass(3 * time.Minute)
		if why := w.settled(first)(); why != "" {
			t.Errorf("not everybody runs the first revision: %s", why)
		}
		touched := 0
		for name, n := range w.starts() {
			switch n - before[name] {
			case 0:
			case 2: // there and back
				touched++
			default:
				t.Errorf("%s started %d containers", name, n-before[name])
			}
		}
		if touched == 0 || touched > 9 {
			t.Errorf("%d nodes were updated before it was rolled back", touched)
		}
		if ro := w.rollout(); !ro.RolledBack || len(ro.Failures) == 0 {
			t.Errorf("the rollout says %+v", ro)
		}
	})
}

// A failure stops a rollout, with a reason that names who failed; resume forgives
// it, and the others go on. Who failed keeps its turn.
//
// conformance: D6
func TestFailureStopsUntilResumed(t *testing.T) {
	smallRing(t, image{warm: time.Second}, func(w *world) {
		u := rolling(3, time.Second)
		u.Deadline = spec.Duration(8 * time.Second)
		second := w.must(w.nodes[2], order{image: w.define(2, image{warm: time.Second, unready: 0.12}), update: u})
		w.pass(2 * time.Minute)
		failed := w.rollout().Failures
		if len(failed) == 0 {
			t.Fatal("nobody failed; another seed may do")
		}
		waiting := 0
		for _, m := range w.nodes {
			if _, wait := m.standing(); wait.Code == rollout.WaitFailures {
				waiting++
				if len(wait.On) == 0 {
					t.Errorf("%s waits because of failures and names nobody", m.name)
				}
			}
		}
		if waiting == 0 {
			t.Fatal("nobody waits because of the failure")
		}
		for range 12 { // each resume forgives what failed so far
			if err := w.pause(w.nodes[4], false, 1); err != nil {
				t.Fatal(err)
			}
			w.pass(20 * time.Second)
		}
		for _, m := range w.nodes {
			_, unready, _ := w.behaves(second.image, m.name)
			of, ready, ok := w.by.runs(m)
			ro := w.rollout()
			i := slices.IndexFunc(ro.Nodes, func(n api.RolloutNode) bool { return n.Node == m.name })
			lane := slices.DeleteFunc(slices.Clone(ro.Nodes), func(n api.RolloutNode) bool {
				return n.Lane != ro.Nodes[i].Lane || n.Place >= ro.Nodes[i].Place || !n.Failed
			})
			switch {
			case !ok:
				t.Errorf("%s runs nothing", m.name)
			case unready && of.version == second.version && ready, !unready && len(lane) == 0 && of.version != second.version:
				t.Errorf("%s (never ready: %t) runs generation %d, ready %t: %s", m.name, unready, of.version.Generation, ready, m.why())
			}
		}
	})
}

// Who is not well goes first, and who is well runs on until its turn.
//
// conformance: D5
func TestUnhealthyNodesGoFirst(t *testing.T) {
	smallRing(t, image{warm: time.Second, unready: 0.4}, func(w *world) {
		ill := map[string]bool{}
		for _, m := range w.nodes {
			if _, unready, _ := w.behaves("sim.test/web:1", m.name); unready {
				ill[m.name] = true
			}
		}
		if len(ill) == 0 || len(ill) == len(w.nodes) {
			t.Fatalf("%d nodes are ill", len(ill))
		}
		second := w.must(w.nodes[2], order{image: w.define(2, image{warm: time.Second}), update: rolling(3, time.Second)})
		w.await(3*time.Minute, "the second revision runs", w.settled(second))
		well := map[int]bool{} // lanes in which one that was well had its turn
		for _, n := range w.rollout().Nodes {
			if ill[n.Node] && well[n.Lane] {
				t.Errorf("in lane %d %s, which was ill, came after one that was well", n.Lane, n.Node)
			}
			well[n.Lane] = well[n.Lane] || !ill[n.Node]
		}
	})
}

// Revisions that come faster than they can be taken end in the last one, and no
// node takes more of them than it has to.
//
// conformance: D7
func TestManyRevisionsEndInTheLast(t *testing.T) {
	smallRing(t, image{warm: time.Second}, func(w *world) {
		before := w.starts()
		var last signed
		for i := range 6 {
			last = w.must(w.nodes[2], order{image: w.define(2+i, image{warm: time.Second}), update: rolling(3, time.Second)})
			w.pass(400 * time.Millisecond)
		}
		w.await(3*time.Minute, "the last revision runs", w.settled(last))
		once := 0
		for name, n := range w.starts() {
			if n-before[name] == 1 {
				once++
			}
		}
		if once < 9 {
			t.Errorf("only %d nodes went straight to the last revision: %v", once, w.starts())
		}
	})
}

// The same again restarts nothing.
//
// conformance: D4
func TestTheSameAgainRestartsNothing(t *testing.T) {
	smallRing(t, image{warm: time.Second}, func(w *world) {
		second := w.must(w.nodes[2], order{image: w.define(2, image{warm: 3 * time.Second}), update: rolling(3, time.Second)})
		w.pass(8 * time.Second) // in mid-rollout
		again := w.must(w.nodes[5], order{image: second.image, update: rolling(2, 2*time.Second)})
		w.await(3*time.Minute, "it runs everywhere", w.settled(again))
		w.pass(10 * time.Second)
		for name, n := range w.starts() {
			if n != 2 {
				t.Errorf("%s started %d containers, want one of each revision", name, n)
			}
		}
	})
}

// A node that leaves stops its daemon, also in the middle of a rollout; nobody
// waits for it, and nobody else is touched.
//
// conformance: A3
func TestLeaverHoldsNobodyUp(t *testing.T) {
	smallRing(t, image{warm: time.Second}, func(w *world) {
		second := w.must(w.nodes[2], order{image: w.define(2, image{warm: 2 * time.Second}), update: rolling(3, time.Second)})
		leaver := w.nodes[7]
		leaver.left = true
		if _, err := leaver.agent.Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := len(leaver.rt.Running()); n != 0 {
			t.Errorf("%d containers run on a node that left", n)
		}
		w.await(2*time.Minute, "the others go on", w.settled(second))
		for name, n := range w.starts() {
			if name != leaver.name && n != 2 {
				t.Errorf("%s started %d containers", name, n)
			}
		}
	})
}

// A machine that goes down after it began to start a revision may have been
// brought down by it: the others wait while it is away, and say so.
//
// conformance: U1
func TestDeathAfterTheStartHoldsTheOthers(t *testing.T) {
	smallRing(t, image{warm: time.Second}, func(w *world) {
		second := w.must(w.nodes[2], order{image: w.define(2, image{warm: 4 * time.Second}), update: rolling(3, time.Second)})
		var victim *machine
		w.await(time.Minute, "somebody starts the second revision", func() string {
			for _, m := range w.nodes[3:] {
				if of, _, ok := w.by.runs(m); ok && of.version == second.version {
					victim = m
					return ""
				}
			}
			return "nobody did"
		})
		victim.powerCut()
		w.pass(40 * time.Second)
		held := 0
		for _, m := range w.running() {
			if _, wait := m.standing(); wait.Code == rollout.WaitDeath {
				held++
			}
		}
		if held < 6 {
			t.Errorf("%d nodes wait because a node died after it started the revision", held)
		}
		victim.powerOn()
		w.pass(10 * time.Second)
		for range 2 { // it rebooted while it held its turn, which counts as a failure
			if err := w.pause(w.nodes[4], false, 0); err != nil {
				t.Fatal(err)
			}
			w.pass(2 * time.Second)
		}
		w.await(3*time.Minute, "the second revision runs", w.settled(second))
	})
}

// While its turn has not come a node says for whom it waits; a pause is a reason
// too, and outlasts a newer revision.
//
// conformance: U2
func TestEverybodyWhoWaitsSaysWhy(t *testing.T) {
	smallRing(t, image{warm: time.Second}, func(w *world) {
		w.must(w.nodes[2], order{image: w.define(2, image{warm: 4 * time.Second}), update: rolling(3, time.Second)})
		w.pass(3 * time.Second)
		codes := map[rollout.Code]int{}
		for _, m := range w.nodes {
			_, wait := m.standing()
			if codes[wait.Code]++; wait.Code != "" && (wait.Reason == "" || len(wait.On) == 0) {
				t.Errorf("%s: %+v", m.name, wait)
			}
		}
		if codes[rollout.WaitTurn] != 9 {
			t.Errorf("waits %v, want nine for their turn", codes)
		}
		if err := w.pause(w.nodes[3], true, 1); err != nil {
			t.Fatal(err)
		}
		w.pass(10 * time.Second)
		third := w.must(w.nodes[2], order{image: w.define(3, image{warm: time.Second}), update: rolling(3, time.Second)})
		w.pass(30 * time.Second)
		for _, m := range w.nodes {
			of, _, _ := w.by.runs(m)
			_, wait := m.standing()
			if of.version == third.version || wait.Code != rollout.WaitPaused {
				t.Errorf("%s runs generation %d, and waits (%s: %s)", m.name, of.version.Generation, wait.Code, wait.Reason)
			}
		}
		if err := w.pause(w.nodes[6], false, 0); err != nil {
			t.Fatal(err)
		}
		w.await(3*time.Minute, "the third revision runs", w.settled(third))
	})
}

// A machine that was away at the apply boots with nothing running, and takes the
// newest at once. While it makes that ready it must not bring back what it ran
// before: that would be taken down again without a turn.
func TestLateNodeThatBootsTakesNobodysTurn(t *testing.T) {
	smallRing(t, image{warm: time.Second}, func(w *world) {
		late := w.nodes[11]
		late.powerCut()
		w.pass(20 * time.Second) // it is known to be away
		second := w.must(w.nodes[2], order{
			image:  w.define(2, image{warm: 10 * time.Second, pull: 15 * time.Second}),
			update: rolling(3, 2*time.Second), drop: true,
		})
		w.pass(4 * time.Second)
		late.powerOn()
		w.await(5*time.Minute, "the second revision runs", w.settled(second))
	})
}
