package agent

import (
	"slices"
	"testing"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/spec/record"
)

func TestWaiters(t *testing.T) {
	id := func(n byte) rollout.NodeID { return rollout.NodeID{n} }
	g1, g2 := rollout.Of(record.Version{Generation: 1}), rollout.Of(record.Version{Generation: 2})
	plan := rollout.Plan{Version: g2.Version, Lanes: [][]rollout.NodeID{{id(1), id(2), id(3), id(4)}, {id(5), id(6)}}}
	done := rollout.State{Observed: g2, Done: g2}
	todo := rollout.State{Observed: g2, Done: g1}
	held := rollout.State{Observed: g2, Done: g1, Slot: &rollout.Slot{Since: g2, Target: g2}}
	lent := rollout.State{Observed: g2, Done: g2, Lent: &rollout.Loan{To: id(9), For: g2}}
	asks := rollout.State{Observed: g2, Done: g1, Asks: id(6)}
	cases := []struct {
		name     string
		self     rollout.NodeID
		was, now rollout.State
		peers    map[rollout.NodeID]rollout.State
		words    map[rollout.NodeID]uint64
		want     []rollout.NodeID
	}{
		{name: "nothing changed", self: id(2), was: held, now: held},
		{name: "a turn that begins is nobody's news", self: id(2), was: todo, now: held},
		{name: "done: the next of its lane", self: id(2), was: held, now: done, want: []rollout.NodeID{id(3)}},
		{
			name: "the next one is called down: the one after it", self: id(2), was: held, now: done,
			words: map[rollout.NodeID]uint64{id(3): 1}, want: []rollout.NodeID{id(4)},
		},
		{name: "the last of its lane", self: id(4), was: held, now: done},
		{
			name: "a new record: the first of its lane that is not done", self: id(3), was: rollout.State{Observed: g1, Done: g1}, now: todo,
			peers: map[rollout.NodeID]rollout.State{id(1): done}, want: []rollout.NodeID{id(2)},
		},
		{name: "done at once", self: id(2), was: rollout.State{Observed: g1, Done: g1}, now: done, want: []rollout.NodeID{id(1), id(3)}},
		{name: "a loan", self: id(6), was: done, now: lent, want: []rollout.NodeID{id(9)}},
		{name: "the same loan", self: id(6), was: lent, now: lent},
		{name: "a late node asks", self: id(9), was: todo, now: asks, want: []rollout.NodeID{id(6)}},
		{
			name: "a late node is done", self: id(9), was: held, now: done,
			peers: map[rollout.NodeID]rollout.State{id(6): lent}, want: []rollout.NodeID{id(6)},
		},
	}
	for _, c := range cases {
		got := waiters(c.self, rollout.Input{Newest: plan, Peers: c.peers, Words: c.words}, c.was, c.now)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
