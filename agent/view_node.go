package agent

import (
	"fmt"
	"net"
	"slices"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec"
)

// node says what is known of d on m. A node that left is not listed, unless
// it still holds a container.
func (v view) node(d daemonView, m gossip.Member) (api.NodeDaemon, bool) {
	said, heard := v.said[m.Name]
	row, has := said.row(d.name)
	n := row.node(m.Name, said.At)
	if m.State == gossip.Left || said.Left {
		n.Placed, n.Ready = false, false
		if row.Container == "" {
			return n, false
		}
		n.Reason = "the node left the ring"
		return n, true
	}
	if d.deleted {
		n.Placed, n.Ready = false, false
		return n, has && row.Container != ""
	}
	if !has || row.Observed < d.generation {
		// The node has not seen this generation yet: say where it belongs by
		// its labels, and keep what it last said of its container.
		placed, why := d.spec.Selects(v.asNode(m))
		n.Placed = placed
		switch {
		case !heard:
			n.State, n.Reason = api.StateUnknown, "has not reported yet"
		case placed && !has:
			n.State, n.Reason = api.StateWaiting, "has not reported on this daemon yet"
		case placed:
			n.Reason = fmt.Sprintf("generation %d has not reached it yet", d.generation)
		case row.Container == "":
			n.State, n.Reason = api.StateExcluded, why
		}
	}
	if m.State == gossip.Failed {
		n.State, n.Ready = api.StateUnknown, false
		n.Reason = "not reachable for " + age(v.now.Sub(m.Since))
	}
	return n, true
}

// asNode is a member as selectors and values see it.
func (v view) asNode(m gossip.Member) spec.Node {
	said := v.said[m.Name]
	addr := said.Address
	if addr == "" {
		addr = m.Addr
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return spec.Node{Name: m.Name, Address: host, Labels: said.Labels}
}

// renderedOn lists the values that are a node's own.
func (v view) renderedOn(d daemonView, node string) []api.RenderedValue {
	i := slices.IndexFunc(v.members, func(m gossip.Member) bool { return m.Name == node })
	if i < 0 || !d.varies {
		return nil
	}
	_, origins, err := d.spec.For(v.asNode(v.members[i]))
	if err != nil {
		return nil // the node's own reason says so
	}
	out := make([]api.RenderedValue, len(origins))
	for i, o := range origins {
		out[i] = api.RenderedValue(o)
	}
	return out
}
