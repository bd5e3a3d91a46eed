package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/spec/record"
)

func gen(n uint64) record.Version {
	return record.Version{Generation: n, Digest: record.Digest{byte(n)}}
}

func at(n uint64) Version     { return Of(gen(n)) }
func vetoed(n uint64) Version { return Version{gen(n), true} }

// waitingAt is what a node says that knows version n and is done with the one
// before it.
func waitingAt(n uint64) State { return State{Observed: at(n), Done: at(n - 1)} }
func doneAt(n uint64) State    { return State{Observed: at(n), Done: at(n)} }

// scene is node 0 of three in one lane, with generation 1 (digest a) running
// and generation 2 (digest b) new. The others know it, and are not done.
func scene() Input {
	return Input{
		Daemon: "web", Self: idOf(0),
		State: State{Observed: at(1), Done: at(1), Current: Current{at(1), "a"}},
		Newest: Plan{Version: gen(2), Digest: "b", Lanes: [][]NodeID{{idOf(0), idOf(1), idOf(2)}}, Fallback: gen(1), FallbackDigest: "a",
			MaxFailures: 1, MinReady: time.Second, Bake: time.Minute, Deadline: time.Hour},
		Peers: map[NodeID]State{idOf(1): waitingAt(2), idOf(2): waitingAt(2)},
		Here:  Here{Known: true, Placed: true, Alive: true, Digest: "a", Ready: true, ReadyFor: time.Hour},
		Words: map[NodeID]uint64{},
		Names: map[NodeID]string{idOf(0): "n0", idOf(1): "n1", idOf(2): "n2"},
	}
}

// self makes the scene that of another node of the lane.
func self(in *Input, n uint8) {
	in.Self = idOf(n)
	in.Peers = map[NodeID]State{}
	for i := range uint8(3) {
		if i != n {
			in.Peers[idOf(i)] = waitingAt(2)
		}
	}
}

// holding makes the node one that took the slot for generation 2 and replaced
// its container.
func holding(in *Input) {
	in.State = State{Observed: at(2), Done: at(1), Slot: &Slot{at(2), at(2)}, Started: at(2), Current: Current{at(2), "b"}}
	in.Here = Here{Known: true, Placed: true, Alive: true, Digest: "b"}
}

// conformance: D1 D2 D4 D6 U1
func TestStep(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(*Input)
		// What is expected; zero values are checked too, but for says.
		wait Code
		on   []int
		says string // part of the reason
		run  string
		slot *Slot
		done Version
		also func(t *testing.T, d Decision)
	}{
		{name: "nothing is known of the daemon", with: func(in *Input) { *in = Input{} }},
		{name: "the first of the lane takes the slot", with: func(*Input) {}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1),
			also: func(t *testing.T, d Decision) {
				if d.State.Started != at(2) {
					t.Errorf("started %v", d.State.Started)
				}
			}},
		{name: "the store holds something older than what was observed", with: func(in *Input) { in.State.Observed = at(3) },
			wait: WaitHeld, says: "was seen here before", run: "a", done: at(1)},
		{name: "a peer does not know the new version", with: func(in *Input) { in.Peers[idOf(2)] = doneAt(1) },
			wait: WaitPast, on: []int{2}, says: "n2 is not through with an older revision", run: "a", done: at(1)},
		{name: "two peers do not", with: func(in *Input) { in.Peers = nil },
			wait: WaitPast, on: []int{1, 2}, says: "n1, n2 are not through", run: "a", done: at(1)},
		{name: "a peer holds a slot since before", with: func(in *Input) {
			s := waitingAt(2)
			s.Slot = &Slot{at(1), at(2)}
			in.Peers[idOf(1)] = s
		}, wait: WaitPast, on: []int{1}, run: "a", done: at(1)},
		{name: "a peer has lent its turn since before", with: func(in *Input) {
			s := waitingAt(2)
			s.Lent = &Loan{To: idOf(4), For: at(1)}
			in.Peers[idOf(1)] = s
		}, wait: WaitPast, on: []int{1}, run: "a", done: at(1)},
		{name: "the one before it is not done", with: func(in *Input) { self(in, 1) },
			wait: WaitTurn, on: []int{0}, says: "its turn comes after n0", run: "a", done: at(1)},
		{name: "and can't be reached: the way on is named", with: func(in *Input) { self(in, 1); in.Down = map[NodeID]bool{idOf(0): true} },
			wait: WaitTurn, on: []int{0}, says: "agentctl rollout skip web n0", run: "a", done: at(1)},
		{name: "the one before it is done", with: func(in *Input) { self(in, 1); in.Peers[idOf(0)] = doneAt(2) },
			run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "the one before it is down by an operator's word", with: func(in *Input) { self(in, 1); in.Words = map[NodeID]uint64{idOf(0): 1} },
			run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "canaries come first", with: func(in *Input) {
			in.Newest.Lanes = [][]NodeID{{idOf(0), idOf(1)}, {idOf(2)}}
			in.Newest.Canaries = []NodeID{idOf(2)}
		}, wait: WaitCanary, on: []int{2}, says: "after the canaries", run: "a", done: at(1)},
		{name: "a canary does not wait for canaries", with: func(in *Input) {
			in.Newest.Canaries = []NodeID{idOf(0), idOf(2)}
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "paused", with: func(in *Input) { in.Paused = "paused by carol" }, wait: WaitPaused, says: "carol", run: "a", done: at(1)},
		{name: "a conflict", with: func(in *Input) { in.Newest.Held = "written twice" }, wait: WaitHeld, says: "written twice", run: "a", done: at(1)},
		{name: "the runtime was not looked at", with: func(in *Input) { in.Here = Here{Placed: true} }, wait: WaitUnknown, run: "a", done: at(1)},
		{name: "cordoned", with: func(in *Input) { in.Here.Closed = "cordoned" }, wait: WaitClosed, says: "cordoned", run: "a", done: at(1)},
		{name: "cordoned, and nothing ever ran here", with: func(in *Input) {
			in.Here, in.State = Here{Known: true, Placed: true, Closed: "cordoned"}, State{}
		}, run: "b", done: at(2)},
		{name: "cordoned with the slot", with: func(in *Input) { holding(in); in.Here.Closed, in.Here.Alive = "cordoned", false },
			wait: WaitClosed, run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "on-delete, and nobody asked", with: func(in *Input) { in.Newest.Strategy = OnDelete }, wait: WaitTold, says: "agentctl restart web", run: "a", done: at(1)},
		{name: "on-delete, and an operator asked", with: func(in *Input) { in.Newest.Strategy, in.Here.Told = OnDelete, true },
			run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "all at once: no evidence, but a slot", with: func(in *Input) { in.Newest.Strategy, in.Peers = AllAtOnce, nil },
			run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "the first generation has no turns", with: func(in *Input) {
			in.Newest.First, in.Peers, in.State, in.Here = true, nil, State{}, Here{Known: true, Placed: true}
		}, run: "b"},
		{name: "nothing ran here: no turn", with: func(in *Input) { in.State, in.Here = State{}, Here{Known: true, Placed: true} }, run: "b"},
		{name: "started without a turn, and ready", with: func(in *Input) {
			in.State = State{Observed: at(2), Current: Current{at(2), "b"}}
			in.Here.Digest = "b"
		}, run: "b", done: at(2)},
		{name: "found running what is wanted", with: func(in *Input) { in.State, in.Here.Digest = State{}, "b" }, run: "b", done: at(2)},
		{name: "the same digest restarts nothing", with: func(in *Input) { in.Newest.Digest, in.Peers = "a", nil }, run: "a", done: at(2),
			also: func(t *testing.T, d Decision) {
				if d.Run.Version != at(2) {
					t.Errorf("runs %v", d.Run)
				}
			}},
		{name: "not meant for this node, and stopped", with: func(in *Input) { in.Here = Here{Known: true} }, run: "b", done: at(2)},
		{name: "not meant for this node, and still running", with: func(in *Input) { in.Here.Placed = false }, wait: WaitStops, run: "b", done: at(1)},
		{name: "not meant for this node, done, and found running again", with: func(in *Input) { in.Here.Placed, in.State = false, doneAt(2) }, run: "b", done: at(2)},
		{name: "meant for this node again after it was done", with: func(in *Input) { in.State, in.Here = doneAt(2), Here{Known: true, Placed: true} }, run: "b", done: at(2)},
		{name: "a holder that is ready is done", with: func(in *Input) { holding(in); in.Here.Ready, in.Here.ReadyFor = true, time.Second }, run: "b", done: at(2)},
		{name: "a holder that is not ready for long enough", with: func(in *Input) { holding(in); in.Here.Ready, in.Here.ReadyFor = true, time.Second-1 },
			run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "a canary bakes", with: func(in *Input) {
			holding(in)
			in.Here.Ready, in.Here.ReadyFor, in.Newest.Canaries = true, time.Minute, []NodeID{idOf(0)}
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "a holder goes on to a newer version in place, and keeps since", with: func(in *Input) {
			holding(in)
			in.Newest.Version, in.Newest.Digest, in.Peers = gen(3), "c", nil
		}, run: "c", slot: &Slot{at(2), at(3)}, done: at(1)},
		{name: "not while it is paused", with: func(in *Input) {
			holding(in)
			in.Newest.Version, in.Newest.Digest, in.Paused = gen(3), "c", "paused"
		}, wait: WaitPaused, run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "but what it holds the slot for may get ready meanwhile", with: func(in *Input) {
			holding(in)
			in.Here.Ready, in.Here.ReadyFor = true, time.Second
			in.Newest.Version, in.Newest.Digest, in.Paused = gen(3), "c", "paused"
		}, wait: WaitPaused, run: "b", done: at(2)},
		{name: "a deadline is missed", with: func(in *Input) { holding(in); in.Here.Tried = time.Hour }, run: "b", slot: &Slot{at(2), at(2)}, done: at(1), also: hasFailed(true)},
		{name: "a deadline is not missed yet", with: func(in *Input) { holding(in); in.Here.Tried = time.Hour - 1 }, run: "b", slot: &Slot{at(2), at(2)}, done: at(1), also: hasFailed(false)},
		{name: "who is ready has not missed it", with: func(in *Input) { holding(in); in.Here.Tried, in.Here.Ready = time.Hour, true }, run: "b", slot: &Slot{at(2), at(2)}, done: at(1), also: hasFailed(false)},
		{name: "the machine went down with the slot", with: func(in *Input) { holding(in); in.Here.Rebooted = true }, run: "b", slot: &Slot{at(2), at(2)}, done: at(1), also: hasFailed(true)},
		{name: "others failed, and it stops", with: func(in *Input) { in.Peers[idOf(2)] = State{Observed: at(2), Failed: gen(2)} },
			wait: WaitFailures, on: []int{2}, says: "n2 failed; agentctl rollout resume web", run: "a", done: at(1)},
		{name: "an operator forgave it", with: func(in *Input) {
			in.Peers[idOf(2)] = State{Observed: at(2), Failed: gen(2)}
			in.Forgiven = map[NodeID]bool{idOf(2): true}
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "a failure rolls back; what is still on the fallback is done", with: func(in *Input) {
			in.Newest.Rollback = true
			in.Peers[idOf(2)] = State{Observed: at(2), Failed: gen(2)}
		}, run: "a", done: vetoed(2)},
		{name: "a holder goes back in place", with: func(in *Input) {
			holding(in)
			in.Newest.Rollback, in.State.Failed = true, gen(2)
		}, run: "a", slot: &Slot{at(2), vetoed(2)}, done: at(1)},
		{name: "a veto stays when the failures are gone", with: func(in *Input) { in.Newest.Rollback, in.State.Observed = true, vetoed(2) }, run: "a", done: vetoed(2)},
		{name: "who is done with it takes a turn to go back", with: func(in *Input) {
			in.Newest.Rollback = true
			in.State = State{Observed: vetoed(2), Done: at(2), Current: Current{at(2), "b"}}
			in.Peers[idOf(1)], in.Peers[idOf(2)] = State{Observed: vetoed(2)}, State{Observed: vetoed(2)}
			in.Here.Digest = "b"
		}, run: "a", slot: &Slot{vetoed(2), vetoed(2)}, done: at(2)},
		{name: "the body to go back to is not here", with: func(in *Input) {
			in.State.Observed, in.Newest.FallbackDigest = vetoed(2), ""
		}, wait: WaitFallback, says: "not held here", run: "a", done: at(1)},
		{name: "the first generation is not rolled back", with: func(in *Input) {
			holding(in)
			in.Newest.First, in.Newest.Rollback, in.State.Failed = true, true, gen(2)
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "a delete stops at once", with: func(in *Input) { holding(in); in.Newest = Plan{Version: gen(3), Delete: true} }, done: at(3),
			also: func(t *testing.T, d Decision) {
				if !d.Delete {
					t.Error("no delete")
				}
			}},
		{name: "a node is away that began to start it", with: func(in *Input) {
			in.Peers[idOf(4)] = State{Observed: at(2), Started: at(2)}
			in.Down = map[NodeID]bool{idOf(4): true}
		}, wait: WaitDeath, on: []int{4}, says: "can't be reached since it started this revision", run: "a", done: at(1)},
		{name: "a node is away that did not start it", with: func(in *Input) {
			in.Peers[idOf(4)] = State{Observed: at(2), Started: at(1)}
			in.Down = map[NodeID]bool{idOf(4): true}
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "the way back does not wait for the dead", with: func(in *Input) {
			in.State = State{Observed: vetoed(2), Done: at(2), Current: Current{at(2), "b"}}
			in.Peers = map[NodeID]State{idOf(1): {Observed: vetoed(2)}, idOf(2): {Observed: vetoed(2), Started: at(2)}}
			in.Down = map[NodeID]bool{idOf(2): true}
		}, run: "a", slot: &Slot{vetoed(2), vetoed(2)}, done: at(2)},
		{name: "late, with nothing running", with: func(in *Input) { in.Self, in.Here.Alive = idOf(4), false }, run: "b", done: at(1)},
		{name: "late, with something running: asks", with: func(in *Input) { in.Self = idOf(4) },
			wait: WaitLate, on: []int{2}, says: "gets a turn from n2", run: "a", done: at(1), also: asks(2)},
		{name: "late by an operator's word", with: func(in *Input) { in.Words = map[NodeID]uint64{idOf(0): 1} },
			wait: WaitLate, on: []int{2}, run: "a", done: at(1), also: asks(2)},
		{name: "late, and the last of the lane is away", with: func(in *Input) { in.Self, in.Down = idOf(4), map[NodeID]bool{idOf(2): true} },
			wait: WaitLate, says: "apply again", run: "a", done: at(1)},
		{name: "late, and nobody has lanes", with: func(in *Input) { in.Self, in.Newest.Lanes = idOf(4), nil }, wait: WaitLate, says: "apply again", run: "a", done: at(1)},
		{name: "late, and asked already: stays with whom it asked", with: func(in *Input) {
			in.Self = idOf(4)
			in.Newest.Lanes = [][]NodeID{{idOf(0)}, {idOf(1)}, {idOf(2)}}
			in.State.Observed, in.State.Asks = at(2), idOf(1)
		}, wait: WaitLate, on: []int{1}, run: "a", done: at(1), also: asks(1)},
		{name: "late, and lent a turn", with: func(in *Input) {
			in.Self = idOf(4)
			in.Peers[idOf(2)] = State{Observed: at(2), Done: at(2), Lent: &Loan{To: idOf(4), For: at(2)}}
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1)},
		{name: "late, and lent a turn for an older version", with: func(in *Input) {
			in.Self = idOf(4)
			in.Peers[idOf(2)] = State{Observed: at(2), Done: at(2), Lent: &Loan{To: idOf(4), For: at(1)}}
		}, wait: WaitLate, on: []int{2}, run: "a", done: at(1), also: asks(2)},
		{name: "late, and a node is away that began to start it", with: func(in *Input) {
			in.Self = idOf(4)
			in.Peers[idOf(1)] = State{Observed: at(2), Started: at(2)}
			in.Down = map[NodeID]bool{idOf(1): true}
		}, wait: WaitDeath, on: []int{1}, run: "a", done: at(1)},
		{name: "its own turn is lent", with: func(in *Input) { in.State.Lent = &Loan{To: idOf(1), For: at(1)}; in.Peers[idOf(1)] = doneAt(0) },
			wait: WaitLent, on: []int{1}, says: "its turn is lent to n1", run: "a", done: at(1), also: lent(true)},
		{name: "a loan ends when the borrower is done", with: func(in *Input) {
			in.State.Lent = &Loan{To: idOf(1), For: at(1)}
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1), also: lent(false)},
		{name: "a loan ends when the borrower is called down by a later word", with: func(in *Input) {
			in.State.Lent, in.Words = &Loan{To: idOf(4), For: at(1), Word: 1}, map[NodeID]uint64{idOf(4): 2}
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1), also: lent(false)},
		{name: "but not by the word that was known before", with: func(in *Input) {
			in.State.Lent, in.Words = &Loan{To: idOf(4), For: at(1), Word: 1}, map[NodeID]uint64{idOf(4): 1}
		}, wait: WaitLent, on: []int{4}, run: "a", done: at(1), also: lent(true)},
		{name: "a loan ends when the borrower is past it and never took it", with: func(in *Input) {
			in.State.Lent = &Loan{To: idOf(4), For: at(1)}
			in.Peers[idOf(4)] = State{Observed: at(2)}
		}, run: "b", slot: &Slot{at(2), at(2)}, done: at(1), also: lent(false)},
		{name: "but not while the borrower holds it", with: func(in *Input) {
			in.State.Lent = &Loan{To: idOf(4), For: at(1)}
			in.Peers[idOf(4)] = State{Observed: at(2), Slot: &Slot{at(1), at(2)}}
		}, wait: WaitLent, on: []int{4}, run: "a", done: at(1), also: lent(true)},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := scene()
			c.with(&in)
			before := in.State.clone()
			d := Step(in)
			if !in.State.Equal(before) {
				t.Error("the input was changed")
			}
			if d.Wait.Code != c.wait || !strings.Contains(d.Wait.Reason, c.says) || d.Wait.Code != "" && d.Wait.Reason == "" {
				t.Errorf("waits %q (%s), want %q with %q", d.Wait.Code, d.Wait.Reason, c.wait, c.says)
			}
			var on []NodeID
			for _, n := range c.on {
				on = append(on, idOf(uint8(n)))
			}
			if c.on != nil && !slices.Equal(d.Wait.On, on) {
				t.Errorf("waits for %v, want %v", d.Wait.On, on)
			}
			if d.Run.Digest != c.run {
				t.Errorf("runs %q, want %q", d.Run.Digest, c.run)
			}
			if !d.State.Equal(State{Slot: c.slot, Observed: d.State.Observed, Done: c.done, Lent: d.State.Lent, Failed: d.State.Failed,
				Started: d.State.Started, Asks: d.State.Asks, Current: d.State.Current}) {
				t.Errorf("slot %+v, done %v, want %+v, %v", d.State.Slot, d.State.Done, c.slot, c.done)
			}
			if c.also != nil {
				c.also(t, d)
			}
		})
	}
}

func hasFailed(want bool) func(*testing.T, Decision) {
	return func(t *testing.T, d Decision) {
		if (d.State.Failed == gen(2)) != want {
			t.Errorf("failed %v", d.State.Failed)
		}
	}
}

func asks(n uint8) func(*testing.T, Decision) {
	return func(t *testing.T, d Decision) {
		if d.State.Asks != idOf(n) {
			t.Errorf("asks %v", d.State.Asks)
		}
	}
}

func lent(want bool) func(*testing.T, Decision) {
	return func(t *testing.T, d Decision) {
		if (d.State.Lent != nil) != want {
			t.Errorf("lent %+v", d.State.Lent)
		}
	}
}

// Lanes are dealt anew only after every node is through by its own word.
func TestFinished(t *testing.T) {
	for _, c := range []struct {
		name   string
		with   func(peers map[NodeID]State, words map[NodeID]uint64)
		vetoed bool
		want   bool
	}{
		{"all are done", func(map[NodeID]State, map[NodeID]uint64) {}, false, true},
		{"done, but not with the veto", func(map[NodeID]State, map[NodeID]uint64) {}, true, false},
		{"one is not heard of", func(p map[NodeID]State, _ map[NodeID]uint64) { delete(p, idOf(1)) }, false, false},
		{"one is not done", func(p map[NodeID]State, _ map[NodeID]uint64) { p[idOf(1)] = waitingAt(2) }, false, false},
		{"one holds a slot", func(p map[NodeID]State, _ map[NodeID]uint64) {
			p[idOf(1)] = State{Observed: at(2), Done: at(2), Slot: &Slot{at(1), at(2)}}
		}, false, false},
		{"one has lent its turn", func(p map[NodeID]State, _ map[NodeID]uint64) {
			p[idOf(1)] = State{Observed: at(2), Done: at(2), Lent: &Loan{To: idOf(4), For: at(2)}}
		}, false, false},
		{"one is skipped", func(_ map[NodeID]State, w map[NodeID]uint64) { w[idOf(1)] = 1 }, false, false},
		{"one left", func(p map[NodeID]State, w map[NodeID]uint64) { delete(p, idOf(1)); w[idOf(1)] = LeftWord }, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			peers := map[NodeID]State{idOf(0): doneAt(2), idOf(1): doneAt(2), idOf(2): doneAt(2)}
			words := map[NodeID]uint64{}
			c.with(peers, words)
			if got := Finished(scene().Newest, c.vetoed, peers, words); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// The threshold is max_failures, but never more than there are lanes, since a
// failed node keeps its lane.
func TestThreshold(t *testing.T) {
	for _, c := range []struct{ failures, lanes, want int }{{0, 3, 1}, {1, 3, 1}, {2, 3, 2}, {9, 3, 3}, {9, 0, 1}} {
		p := Plan{MaxFailures: c.failures, Lanes: make([][]NodeID, c.lanes)}
		if got := p.Threshold(); got != c.want {
			t.Errorf("max_failures %d, %d lanes: %d, want %d", c.failures, c.lanes, got, c.want)
		}
	}
}
