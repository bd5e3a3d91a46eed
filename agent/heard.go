package agent

import (
	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec/record"
)

// heard is what others signed about their part in rollouts, decoded once per
// statement. It belongs to the agent's loop.
type heard struct {
	nodes map[string]*heardNode // by name and key
	busy  map[string]bool       // daemons whose rollout is not over here
}

type heardNode struct {
	name      string
	ring      gossip.NodeID
	boot, seq uint64
	left      bool
	id        rollout.NodeID
	turns     map[string]rollout.State // by daemon
}

// listen takes over what is new, and reports whether any of it can matter to
// this node, which is self in lanes.
func (h *heard) listen(all []gossip.Statement, self rollout.NodeID, own string) (matters bool) {
	seen := make(map[string]bool, len(all))
	for _, st := range all {
		if st.Node == own {
			continue
		}
		key := st.Node + "\x00" + string(st.Key)
		seen[key] = true
		n := h.nodes[key]
		if n != nil && n.boot == st.Boot && n.seq == st.Seq {
			continue
		}
		if n == nil {
			n = &heardNode{name: st.Node, ring: gossip.MakeNodeID(st.Node, st.Key)}
			h.nodes[key] = n
		}
		was := *n
		n.boot, n.seq, n.left = st.Boot, st.Seq, st.Left
		said, err := decodeStatement(st.Body)
		if err != nil {
			continue // who talks nonsense has said nothing new
		}
		n.id, n.left = rollout.MakeID(record.NodeID(n.ring), said.Salt), st.Left || said.Left
		n.turns = said.Turns
		matters = matters || h.matter(was, *n, self)
	}
	for key := range h.nodes {
		if !seen[key] {
			delete(h.nodes, key)
			matters = true
		}
	}
	return matters
}

// matter reports whether a change of what n says can change a decision here.
func (h *heard) matter(was, n heardNode, self rollout.NodeID) bool {
	if was.left != n.left {
		return true
	}
	for name, s := range n.turns {
		if old, ok := was.turns[name]; ok && old.Equal(s) {
			continue
		}
		if h.busy[name] || s.Asks == self || !s.Failed.IsZero() {
			return true
		}
	}
	return false
}

// peers tells what is known of the others: their states by daemon, who is out
// of reach, who left by its own word, and their names.
func (h *heard) peers(members []gossip.Member) peers {
	p := peers{
		states: map[string]map[rollout.NodeID]rollout.State{}, down: map[rollout.NodeID]bool{},
		left: map[rollout.NodeID]uint64{}, names: map[rollout.NodeID]string{}, alive: map[rollout.NodeID]bool{},
	}
	up := make(map[string]bool, len(members))
	for _, m := range members {
		if m.State == gossip.Alive || m.State == gossip.Suspect {
			up[m.Name] = true
		}
	}
	for _, n := range h.nodes {
		if n.id == (rollout.NodeID{}) {
			continue
		}
		p.names[n.id] = n.name
		switch {
		case n.left:
			p.left[n.id] = rollout.LeftWord
		case up[n.name]:
			p.alive[n.id], p.alive[rollout.NodeID(n.ring)] = true, true
		default:
			p.down[n.id] = true
		}
		for daemon, s := range n.turns {
			if p.states[daemon] == nil {
				p.states[daemon] = make(map[rollout.NodeID]rollout.State, len(h.nodes))
			}
			p.states[daemon][n.id] = s
		}
	}
	return p
}

// peers is what a rollout's inputs know of other nodes, by their ids in lanes.
type peers struct {
	states map[string]map[rollout.NodeID]rollout.State // by daemon
	down   map[rollout.NodeID]bool
	left   map[rollout.NodeID]uint64
	names  map[rollout.NodeID]string
	alive  map[rollout.NodeID]bool // by either id
}
