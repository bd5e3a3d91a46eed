package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

func (a *app) cordonCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cordon NODE", GroupID: groupNodes, Short: "Let no new daemon onto a node",
		Long: `Lets no further daemon start on a node, and no update happen there; what runs
stays, and is restarted when it crashes. Signed by you, from any node, until
uncordon.`,
		Example:     "  agentctl cordon web-1",
		Annotations: formats("name"), Args: between(1, 1, "the name of a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			defer c.Close()
			return a.setCordon(cmd.Context(), c, args[0], "cordon", "cordoned", func(b *record.NodeBody) { b.Cordoned = true })
		},
	}
}

func (a *app) uncordonCommand() *cobra.Command {
	return &cobra.Command{
		Use: "uncordon NODE", GroupID: groupNodes, Short: "Take back cordon and drain",
		Long: `Takes back cordon and drain: the daemons that are meant for the node start
again. Signed by you, from any node.`,
		Example:     "  agentctl uncordon web-1",
		Annotations: formats("name"), Args: between(1, 1, "the name of a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			defer c.Close()
			return a.setCordon(cmd.Context(), c, args[0], "uncordon", "uncordoned", func(b *record.NodeBody) { b.Cordoned, b.Draining = false, false })
		},
	}
}

type drainOptions struct {
	yes  bool
	wait time.Duration // 0: don't
}

func (a *app) drainCommand() *cobra.Command {
	var o drainOptions
	cmd := &cobra.Command{
		Use: "drain NODE", GroupID: groupNodes, Short: "Stop the daemons of a node",
		Long: `Stops all daemons of a node, whatever they tolerate, those that others depend on
last, and lets none start there until uncordon, not even after a reboot. Signed
by you, from any node. The node stays in the ring; to take it out for good:
agentctl leave.

With --wait it returns when nothing runs there any more; exit code 1 when that
takes too long.`,
		Example: `  agentctl drain web-1 --wait
  agentctl uncordon web-1`,
		Annotations: formats("name"), Args: between(1, 1, "the name of a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.wait < 0 {
				return usagef("", "--wait is negative")
			}
			return a.drain(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().DurationVar(&o.wait, "wait", 0, "wait until nothing runs there, at most this long")
	cmd.Flags().Lookup("wait").NoOptDefVal = "5m"
	addYes(cmd, &o.yes)
	return cmd
}

// setCordon changes the two marks of a node.
func (a *app) setCordon(ctx context.Context, c *api.Client, name, wish, done string, set func(*record.NodeBody)) error {
	changed, err := a.changeNode(ctx, c, name, func(body record.NodeBody, _ api.Node) (record.NodeBody, error) {
		set(&body)
		return body, nil
	})
	if err != nil {
		return cannot(wish+" "+name, err)
	}
	if !changed {
		done = "already " + done
	}
	a.toldNode(name, done)
	return nil
}

func (a *app) drain(ctx context.Context, name string, o drainOptions) error {
	c := a.client()
	defer c.Close()
	node, err := findNode(ctx, c, name)
	if err != nil {
		return cannot("drain "+name, err)
	}
	if !node.Draining {
		if err := a.confirm(ctx, o.yes, "Stop all daemons (%d) of node %s until uncordon?", node.DaemonsPlaced, name); err != nil {
			return cannot("drain "+name, err)
		}
	}
	if node.State == "failed" || node.State == "left" {
		a.warnf("%s is %s; it follows when it is back", name, node.State)
	}
	set := func(b *record.NodeBody) { b.Cordoned, b.Draining = true, true }
	if err := a.setCordon(ctx, c, name, "drain", "draining", set); err != nil || o.wait == 0 {
		return err
	}
	if err := a.waitDrained(ctx, c, name, o.wait); err != nil {
		return cannot("drain "+name, err)
	}
	a.toldNode(name, "drained")
	return nil
}

// waitDrained waits until a node has no container of ours.
func (a *app) waitDrained(ctx context.Context, c *api.Client, name string, atMost time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	var left remains // as it was seen last; time may be up amidst a look
	for {
		st, err := c.Status(limited, api.StatusQuery{Node: name, All: true})
		if err != nil && ctx.Err() == nil && limited.Err() == nil {
			return err
		}
		if err == nil {
			left = containersOn(st, name)
		}
		switch {
		case err == nil && left.count() == 0 && !left.unknown:
			return nil
		case wait(limited, waitEvery):
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		}
		return withHint(fmt.Errorf("not within %s: %s", atMost, left), "it goes on; see: agentctl status --node %s", name)
	}
}

// remains is what a node that is drained still has.
type remains struct {
	daemons []string
	unknown bool // the node can't be asked
}

func (r remains) count() int { return len(r.daemons) }

func (r remains) String() string {
	if r.unknown {
		return "the node can't be reached"
	}
	return fmt.Sprintf("%s left (%s)", plural(r.count(), "container"), someOf(r.daemons))
}

func containersOn(st api.Status, node string) remains {
	var r remains
	for _, d := range st.Daemons {
		for _, n := range d.Nodes {
			if n.Node != node {
				continue
			}
			r.unknown = r.unknown || n.State == api.StateUnknown
			if n.Container != "" && n.State != api.StateStopped && n.State != api.StateCompleted {
				r.daemons = append(r.daemons, d.Name)
			}
		}
	}
	return r
}
