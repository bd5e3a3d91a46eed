package rollout

import (
	"slices"
	"strings"
	"testing"
)

// The last node of a lane lends its turn when nobody of the lane needs it.
func TestLend(t *testing.T) {
	asking := State{Observed: at(2), Done: at(1), Asks: idOf(2)}
	for _, c := range []struct {
		name string
		with func(*Input)
		to   int // -1 for nobody
	}{
		{"to who asks", func(*Input) {}, 4},
		{"to the smallest of those who ask", func(in *Input) { in.Peers[idOf(3)] = asking }, 3},
		{"not while a node of its lane is not done", func(in *Input) { in.Peers[idOf(0)] = waitingAt(2) }, -1},
		{"but without one that is skipped", func(in *Input) {
			in.Peers[idOf(0)], in.Words = waitingAt(2), map[NodeID]uint64{idOf(0): 1}
		}, 4},
		{"not while a canary is not done", func(in *Input) {
			in.Newest.Lanes = append(in.Newest.Lanes, []NodeID{idOf(5)})
			in.Newest.Canaries = []NodeID{idOf(5)}
		}, -1},
		{"not when it is not the last", func(in *Input) { in.Newest.Lanes[0] = []NodeID{idOf(2), idOf(0), idOf(1)} }, -1},
		{"not when it is in no lane", func(in *Input) { in.Newest.Lanes[0] = in.Newest.Lanes[0][:2] }, -1},
		{"not when it is called down itself", func(in *Input) { in.Words = map[NodeID]uint64{idOf(2): 1} }, -1},
		{"not while it is paused", func(in *Input) { in.Paused = "paused" }, -1},
		{"not while a node is away that began to start it", func(in *Input) {
			in.Peers[idOf(5)], in.Down = State{Started: at(2)}, map[NodeID]bool{idOf(5): true}
		}, -1},
		{"not to one that asks about another version", func(in *Input) {
			in.Peers[idOf(4)] = State{Observed: at(1), Asks: idOf(2)}
		}, -1},
		{"not to one that is done", func(in *Input) { in.Peers[idOf(4)] = State{Observed: at(2), Done: at(2), Asks: idOf(2)} }, -1},
		{"not twice", func(in *Input) { in.State.Lent = &Loan{To: idOf(5), For: at(2)} }, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := scene()
			in.Self = idOf(2)
			in.State = State{Observed: at(2), Done: at(2), Current: Current{at(2), "b"}}
			in.Here.Digest = "b"
			in.Peers = map[NodeID]State{idOf(0): doneAt(2), idOf(1): doneAt(2), idOf(4): asking}
			c.with(&in)
			got := Step(in).State.Lent
			switch {
			case c.to < 0 && got != nil:
				t.Errorf("lent to %v", got.To)
			case c.to >= 0 && (got == nil || got.To != idOf(uint8(c.to))):
				t.Errorf("lent %+v, want to n%d", got, c.to)
			}
		})
	}
}

// Late nodes ask different lanes, so that one lane does not serve them all.
func TestLendersSpread(t *testing.T) {
	in := scene()
	in.Newest.Lanes = [][]NodeID{{idOf(0)}, {idOf(1)}, {idOf(2)}}
	in.Peers[idOf(0)] = waitingAt(2)
	asked := map[NodeID]bool{}
	for n := range uint8(3) {
		in.Self = idOf(10 + n)
		asked[Step(in).State.Asks] = true
	}
	if len(asked) != 3 {
		t.Errorf("three late nodes ask %d lenders", len(asked))
	}
}

// A long list of nodes is cut in reasons, and a node without a name is told by
// its id.
func TestReasonsNameAFew(t *testing.T) {
	in := scene()
	in.Names = nil
	in.Peers = nil
	in.Newest.Lanes = [][]NodeID{{idOf(0), idOf(1), idOf(2), idOf(3), idOf(4), idOf(5)}}
	got := Step(in).Wait.Reason
	if want := "node 02000000, node 03000000, node 04000000 and 2 more are not through"; !strings.Contains(got, want) {
		t.Errorf("%q, want %q in it", got, want)
	}
}

// Canaries come first, then place by place and lane by lane.
func TestOrder(t *testing.T) {
	p := Plan{Lanes: [][]NodeID{{idOf(0), idOf(2)}, {idOf(1), idOf(3)}}, Canaries: []NodeID{idOf(3)}}
	if got, want := p.Order(), []NodeID{idOf(3), idOf(0), idOf(1), idOf(2)}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
