package lab

import (
	"context"
	"fmt"
	"time"
)

// Ring makes nodes with these names and starts their agents as one ring, each
// with the images of the archive ("" for none).
func (l *Lab) Ring(ctx context.Context, archive string, names ...string) error {
	if archive != "" {
		l.cfg.Archives = append(l.cfg.Archives, archive)
	}
	for _, name := range names {
		if _, err := l.AddNode(ctx, name); err != nil {
			return err
		}
	}
	for _, n := range l.Nodes {
		if err := l.Enter(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Enter configures a node, as the ring's first or with a token of the first,
// and starts its agent.
func (l *Lab) Enter(ctx context.Context, n *Node) error {
	if err := l.Prepare(ctx, n); err != nil {
		return err
	}
	return n.StartAgent(ctx)
}

// Prepare is Enter without starting the agent.
func (l *Lab) Prepare(ctx context.Context, n *Node) error {
	first := l.Nodes[0]
	if n == first {
		return n.Init(ctx)
	}
	token, err := first.Token(ctx)
	if err != nil {
		return err
	}
	return n.Join(ctx, token)
}

// Agree waits until every running agent counts all running agents as alive and
// as holding the same records.
func (l *Lab) Agree(ctx context.Context, limit time.Duration) error {
	return Within(ctx, limit, func(ctx context.Context) error {
		var running []*Node
		for _, n := range l.Nodes {
			if n.Agent != nil && n.Agent.Running() {
				running = append(running, n)
			}
		}
		for _, n := range running {
			st, err := n.Status(ctx)
			if err != nil {
				return err
			}
			if st.Ring.Nodes.Alive != len(running) || !st.Ring.InSync {
				return fmt.Errorf("%s sees %d of %d nodes alive, in sync: %t", n.Name, st.Ring.Nodes.Alive, len(running), st.Ring.InSync)
			}
		}
		return nil
	})
}
