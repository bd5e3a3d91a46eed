package agent

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/peer"
)

const (
	// maxReach bounds how many peers are tried for one question, in parallel.
	maxReach = 32
	// dialWithin is how long a connection may take to be made.
	dialWithin = 3 * time.Second
)

// Reach tries the ways to other nodes, and has them try the way back.
func (a *Agent) Reach(ctx context.Context) (api.Reach, error) {
	out := api.Reach{Schema: api.Schema, Node: a.cfg.Node.Name, Peers: []api.ReachPeer{}}
	others := slices.DeleteFunc(a.ring.Members(), func(m gossip.Member) bool {
		return m.Name == a.cfg.Node.Name || m.State == gossip.Left
	})
	// What does not work is looked at first.
	slices.SortStableFunc(others, func(x, y gossip.Member) int {
		return btoi(x.State == gossip.Alive) - btoi(y.State == gossip.Alive)
	})
	out.Untried = max(0, len(others)-maxReach)
	others = others[:min(len(others), maxReach)]
	out.Peers = make([]api.ReachPeer, len(others))
	var wg sync.WaitGroup
	for i, m := range others {
		wg.Go(func() { out.Peers[i] = a.reach(ctx, m) })
	}
	wg.Wait()
	slices.SortFunc(out.Peers, func(x, y api.ReachPeer) int { return strings.Compare(x.Node, y.Node) })
	return out, nil
}

func (a *Agent) reach(ctx context.Context, m gossip.Member) api.ReachPeer {
	out := api.ReachPeer{Node: m.Name, State: string(m.State), Address: m.Addr}
	if m.Addr == "" {
		out.Out = "its address is not known since this agentd started"
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, dialWithin+mirrorWithin)
	defer cancel()
	if err := a.knock(ctx, m); err != nil {
		out.Out = "gossip (TCP): " + err.Error()
		return out
	}
	begin := time.Now()
	seen, err := a.client.Mirror(ctx, m)
	switch {
	case errors.Is(err, peer.ErrNotFound):
		return out // an older agentd: reached, and that is all
	case err != nil:
		out.Out = "node-to-node requests: " + err.Error()
		return out
	}
	out.Known, out.Sees, out.In = true, string(seen.Sees), seen.Back
	out.Skew = skew(begin, time.Now(), seen.At)
	return out
}

// mirrorWithin is how long a peer may take to try the way back.
const mirrorWithin = 6 * time.Second

// skew estimates by how many seconds another clock is ahead, from when it was
// asked and answered by ours; what the way may have taken does not count. Pure.
func skew(asked, answered, there time.Time) float64 {
	asked, answered = asked.Round(0), answered.Round(0) // wall clocks
	switch {
	case there.After(answered):
		return seconds(there.Sub(answered))
	case there.Before(asked):
		return -seconds(asked.Sub(there))
	}
	return 0
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// mirror tells a peer how it looks from here, and tries the way to it: to the
// addresses that the ring knows of it and no others.
func (a *Agent) mirror(ctx context.Context, p peer.Peer) peer.Mirror {
	for _, m := range a.ring.Members() {
		if m.Name != p.Name || m.ID != p.ID {
			continue
		}
		out := peer.Mirror{Sees: m.State}
		if m.Addr == "" {
			out.Back = a.cfg.Node.Name + " does not know its address"
			return out
		}
		if err := a.knock(ctx, m); err != nil {
			out.Back = "gossip (TCP): " + err.Error()
		} else if _, err := a.client.Hello(ctx, m.PeerAddr); err != nil {
			out.Back = "node-to-node requests: " + err.Error()
		}
		return out
	}
	return peer.Mirror{Back: "it is no member as " + a.cfg.Node.Name + " sees it"}
}

func (a *Agent) knock(ctx context.Context, m gossip.Member) error {
	return gossip.Knock(ctx, m.Addr, a.ringKey.ID.String(), dialWithin)
}
