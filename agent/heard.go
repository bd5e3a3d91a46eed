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
	known peers                 // as said; who is up is filled in by peers
	// cursor is up to where the book was followed.
	cursor uint64
}

type heardNode struct {
	name      string
	ring      gossip.NodeID
	boot, seq uint64
	left      bool
	id        rollout.NodeID
	past      []rollout.NodeID         // under which it left before
	turns     map[string]rollout.State // by daemon
}

func newHeard() heard {
	return heard{nodes: map[string]*heardNode{}, busy: map[string]bool{}, known: newPeers()}
}

// listen takes over all that is known, and reports whether any of what is new
// can matter to this node, which is self in lanes.
func (h *heard) listen(all []gossip.Statement, self rollout.NodeID, own string) (matters bool) {
	seen := make(map[*heardNode]bool, len(all))
	for _, st := range all {
		if st.Node == own {
			continue
		}
		n, m := h.take(st, self)
		seen[n] = true
		matters = m || matters
	}
	for key, n := range h.nodes {
		if !seen[n] {
			h.known.forget(*n)
			delete(h.nodes, key)
			matters = true
		}
	}
	return matters
}

// follow is listen for what came since it was called last.
func (h *heard) follow(book *gossip.Book, self rollout.NodeID, own string) (matters bool) {
	news, next, whole := book.News(h.cursor)
	h.cursor = next
	if whole {
		return h.listen(news, self, own)
	}
	for _, st := range news {
		if st.Node != own {
			_, m := h.take(st, self)
			matters = m || matters
		}
	}
	return matters
}

// take takes over one statement.
func (h *heard) take(st gossip.Statement, self rollout.NodeID) (n *heardNode, matters bool) {
	key := st.Node + "\x00" + string(st.Key)
	if n = h.nodes[key]; n == nil {
		n = &heardNode{name: st.Node, ring: gossip.MakeNodeID(st.Node, st.Key)}
		h.nodes[key] = n
	}
	if n.boot == st.Boot && n.seq == st.Seq {
		return n, false
	}
	n.boot, n.seq = st.Boot, st.Seq
	said, err := decodeStatement(st.Body)
	if err != nil {
		n.left = st.Left
		return n, false // who talks nonsense has said nothing new of its turns
	}
	was := *n
	n.id, n.left = rollout.MakeID(record.NodeID(n.ring), said.Salt), st.Left || said.Left
	n.turns, n.past = said.Turns, nil
	for _, salt := range said.Past {
		n.past = append(n.past, rollout.MakeID(record.NodeID(n.ring), salt))
	}
	h.known.forget(was)
	h.known.learn(*n)
	return n, h.matter(was, *n, self)
}

// matter reports whether a change of what n says can change a decision here.
func (h *heard) matter(was, n heardNode, self rollout.NodeID) bool {
	if was.left != n.left || was.id != n.id {
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

// peers tells what is known of the others, and who of them is up. The maps are
// good until the next listen, and are not to be changed.
func (h *heard) peers(members []gossip.Member) peers {
	p := h.known
	p.down, p.alive = map[rollout.NodeID]bool{}, map[rollout.NodeID]bool{}
	up := upOf(members)
	for _, n := range h.nodes {
		p.see(n.id, n.ring, n.left, up[n.name])
	}
	return p
}

func upOf(members []gossip.Member) map[string]bool {
	up := make(map[string]bool, len(members))
	for _, m := range members {
		up[m.Name] = m.State == gossip.Alive || m.State == gossip.Suspect
	}
	return up
}

// peers is what a rollout's inputs know of other nodes, by their ids in lanes.
type peers struct {
	states map[string]map[rollout.NodeID]rollout.State // by daemon
	left   map[rollout.NodeID]uint64                   // words of those who left
	names  map[rollout.NodeID]string
	down   map[rollout.NodeID]bool // out of reach
	alive  map[rollout.NodeID]bool // by either id
}

func newPeers() peers {
	return peers{
		states: map[string]map[rollout.NodeID]rollout.State{}, left: map[rollout.NodeID]uint64{}, names: map[rollout.NodeID]string{},
		down: map[rollout.NodeID]bool{}, alive: map[rollout.NodeID]bool{},
	}
}

func (p peers) learn(n heardNode) {
	p.names[n.id] = n.name
	if n.left {
		p.left[n.id] = rollout.LeftWord
	}
	for _, id := range n.past {
		p.left[id] = rollout.LeftWord
	}
	for daemon, s := range n.turns {
		if p.states[daemon] == nil {
			p.states[daemon] = map[rollout.NodeID]rollout.State{}
		}
		p.states[daemon][n.id] = s
	}
}

func (p peers) forget(n heardNode) {
	delete(p.names, n.id)
	delete(p.left, n.id)
	for _, id := range n.past {
		delete(p.left, id)
	}
	for daemon := range n.turns {
		if delete(p.states[daemon], n.id); len(p.states[daemon]) == 0 {
			delete(p.states, daemon)
		}
	}
}

// see notes whether a node is up.
func (p peers) see(id rollout.NodeID, ring gossip.NodeID, left, up bool) {
	switch {
	case id == (rollout.NodeID{}) || left:
	case up:
		p.alive[id], p.alive[rollout.NodeID(ring)] = true, true
	default:
		p.down[id] = true
	}
}
