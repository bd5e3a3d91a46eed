package agent

import (
	"maps"
	"net"
	"slices"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// self is this node as selectors, values and taints see it: what its own
// agentd.toml says, and over it what operators signed for it from elsewhere.
type self struct {
	node               spec.Node
	taints             []string // as text, for statements
	cordoned, draining bool
	problem            string // why the newest node record is not followed
}

func (s self) equal(o self) bool {
	return s.node.Name == o.node.Name && s.node.Address == o.node.Address && maps.Equal(s.node.Labels, o.node.Labels) &&
		slices.Equal(s.taints, o.taints) && s.cordoned == o.cordoned && s.draining == o.draining && s.problem == o.problem
}

// ownSelf combines agentd.toml and the node's record. Pure.
func ownSelf(cfg config.Node, version, address string, body record.NodeBody) self {
	labels, taints := body.Over(cfg.Labels, cfg.Taints)
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	cfg.Labels = labels
	s := self{
		node:   spec.Node{Name: cfg.Name, Address: host, Labels: config.NodeLabels(cfg, version)},
		taints: taints, cordoned: body.Cordoned, draining: body.Draining,
	}
	for _, text := range taints {
		if t, err := spec.ParseTaint(text); err == nil { // both sources were checked
			s.node.Taints = append(s.node.Taints, t)
		}
	}
	return s
}

// nodeBody is what operators signed about this node. As with daemons, nothing is
// followed that is older than what was followed before, and what is followed is
// written down first.
func (a *Agent) nodeBody() (record.NodeBody, string) {
	key := record.NodeKey(a.cfg.Node.Name)
	e, ok := a.store.Get(key)
	if !ok {
		return record.NodeBody{}, ""
	}
	r := e.Winner()
	refuse := conflictOf(e)
	if refuse == "" {
		if ok, reason := a.store.Allowed(r); !ok {
			refuse = reason
		}
	}
	if refuse == "" {
		if err := a.store.Ratchet(key, r.Version()); err != nil {
			refuse = err.Error()
		}
	}
	if refuse != "" {
		if r, ok = a.store.Find(key, a.store.Accepted(key).Digest); !ok {
			return record.NodeBody{}, refuse
		}
	}
	if r.Delete {
		return record.NodeBody{}, refuse
	}
	body, err := record.DecodeNode(r.Body)
	if err != nil {
		return record.NodeBody{}, err.Error()
	}
	return body, refuse
}

// knowSelf looks at what this node is now, and tells the supervisor when that
// changed.
func (a *Agent) knowSelf() {
	body, problem := a.nodeBody()
	s := ownSelf(a.ownNode(), a.version, a.ring.Self().Addr, body)
	s.problem = problem
	a.mu.Lock()
	same := a.self.equal(s)
	was := a.self
	a.self = s
	a.mu.Unlock()
	if same {
		return
	}
	a.super.SetNode(s.node, s.cordoned, s.draining)
	if was.node.Name != "" {
		a.emit(api.Event{Type: api.EventNode, Reason: selfWords(s)})
	}
}

func selfWords(s self) string {
	switch {
	case s.problem != "":
		return "what operators say of this node is not followed: " + s.problem
	case s.draining:
		return "drained: daemons stop here"
	case s.cordoned:
		return "cordoned: what runs stays, nothing is added"
	}
	return "labels or taints changed"
}
