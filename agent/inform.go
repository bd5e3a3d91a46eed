package agent

import (
	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/gossip"
)

// waiters are the nodes that wait for just the word that this node has to say
// after a step in a daemon's rollout: at most two. The rest of the ring hears it
// soon enough; these would hold their lane up for as long as that takes. Pure.
func waiters(self rollout.NodeID, in rollout.Input, was, now rollout.State) []rollout.NodeID {
	var out []rollout.NodeID
	g := now.Observed
	lane := laneOf(in.Newest.Lanes, self)
	open := func(m rollout.NodeID) bool { return m != self && in.Words[m] == 0 && !in.Peers[m].IsDone(g) }
	if was.Observed != g {
		// Whoever begins needs everybody's word that older turns are over.
		out = appendFirst(out, lane, open)
	}
	if now.IsDone(g) && (!was.IsDone(g) || was.Slot != nil && now.Slot == nil) {
		for i, m := range lane {
			if m == self {
				out = appendFirst(out, lane[i+1:], open)
			}
		}
		if len(lane) == 0 { // a late node: whoever lent it the turn has it back
			for m, s := range in.Peers {
				if s.Lent != nil && s.Lent.To == self {
					out = append(out, m)
					break
				}
			}
		}
	}
	if now.Lent != nil && (was.Lent == nil || *was.Lent != *now.Lent) {
		out = append(out, now.Lent.To)
	}
	if now.Asks != was.Asks && now.Asks != (rollout.NodeID{}) {
		out = append(out, now.Asks)
	}
	return out[:min(len(out), 2)]
}

func laneOf(lanes [][]rollout.NodeID, n rollout.NodeID) []rollout.NodeID {
	for _, lane := range lanes {
		for _, m := range lane {
			if m == n {
				return lane
			}
		}
	}
	return nil
}

func appendFirst(out, of []rollout.NodeID, match func(rollout.NodeID) bool) []rollout.NodeID {
	for _, m := range of {
		if match(m) {
			return append(out, m)
		}
	}
	return out
}

// inform gives this node's word, once it was told, to those who wait for it.
func (a *Agent) inform() {
	if len(a.waiting) == 0 {
		return
	}
	ids := make([]gossip.NodeID, 0, len(a.waiting))
	for _, id := range a.waiting {
		if ring, ok := a.turns.heard.ring(id); ok {
			ids = append(ids, ring)
		}
	}
	a.waiting = a.waiting[:0]
	a.ring.Inform(ids...)
}

// ring returns the id in the ring of a node that is known by its id in lanes.
func (h *heard) ring(id rollout.NodeID) (gossip.NodeID, bool) {
	for _, n := range h.nodes {
		if n.id == id {
			return n.ring, true
		}
	}
	return gossip.NodeID{}, false
}
