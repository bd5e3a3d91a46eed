package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) leaveCommand() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: "leave", GroupID: groupRing, Short: "Take this node out of the ring",
		Long: `Stops the daemons of this node, tells the ring that it left and returns when
both are done. agentd stays up and remembers it: it does not rejoin, not even
after a reboot, until agentctl join. Needs root.

Stopping or upgrading agentd never does any of this: its containers run on.`,
		Example: "  sudo agentctl leave", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.leave(cmd.Context(), yes) },
	}
	addYes(cmd, &yes)
	return cmd
}

// addYes adds the flag that answers every question.
func addYes(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

func (a *app) leave(ctx context.Context, yes bool) error {
	c := a.client()
	defer c.Close()
	info, err := c.Info(ctx)
	if err != nil {
		return cannot("leave", err)
	}
	if err := a.confirm(ctx, yes, "Stop all daemons on %s and leave ring %s?", info.Node, info.RingName); err != nil {
		return cannot("leave", err)
	}
	a.notef("stopping the daemons of %s; each has its own grace period", info.Node)
	report, err := c.Leave(ctx)
	if err != nil {
		return cannot("leave", err)
	}
	for _, d := range report.Stopped {
		fmt.Fprintf(a.stdout, "daemon/%s stopped\n", clean(d))
	}
	for _, w := range report.Warnings {
		a.warnf("%s", w)
	}
	if !report.Announced {
		a.warnf("no other node could be told; there this one will show as failed")
		a.hintf("on another node: agentctl forget %s", info.Node)
	}
	if len(report.Failed) > 0 {
		for _, f := range report.Failed {
			fmt.Fprintf(a.stdout, "daemon/%s\n", clean(f))
		}
		return withHint(fmt.Errorf("cannot stop everything: %s left", plural(len(report.Failed), "daemon")), "try again: sudo agentctl leave")
	}
	fmt.Fprintf(a.stdout, "node %s left ring %s\n", clean(info.Node), clean(info.RingName))
	return nil
}
