package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "why NAME [NODE]", GroupID: groupDaemons, Short: "Explain why a daemon runs or does not run on a node",
		Long: `Gives every reason why a daemon runs or does not run, on each node or on one:
the selector, the node's policy, its turn in an update, what it depends on, the
last exit, the image. The most decisive reason comes first.

Exit code: 0; 3 when it is not ready where it is placed; 4 when there is no
such daemon.`,
		Example: "  agentctl why node-exporter web-3", Annotations: formats("json"),
		Args: between(1, 2, "the name of a daemon"),
		RunE: func(cmd *cobra.Command, args []string) error {
			node := ""
			if len(args) == 2 {
				node = args[1]
			}
			return a.why(cmd.Context(), args[0], node)
		},
	}
}

func (a *app) why(ctx context.Context, name, node string) error {
	c := a.client()
	defer c.Close()
	w, err := c.Why(ctx, name, node)
	if err != nil {
		var problem *api.Problem
		if errors.As(err, &problem) && problem.Status == 404 {
			if missing := a.missing(ctx, c, []string{name}, a.daemonsOf(ctx, c)); len(missing) > 0 {
				return &exitError{code: exitUnknown, err: missing[0]}
			}
		}
		return cannot("explain "+name, err)
	}
	if a.output == "json" {
		if err := printJSON(a.stdout, w); err != nil {
			return err
		}
	} else {
		a.printWhy(w)
	}
	for _, n := range w.Nodes {
		if n.Placed && !n.Ready {
			return &exitError{code: exitNotReady}
		}
	}
	return nil
}

func (a *app) daemonsOf(ctx context.Context, c *api.Client) []api.DaemonStatus {
	st, _ := c.Status(ctx, api.StatusQuery{})
	return st.Daemons
}

// printWhy writes the daemon, then each node with its reasons under it.
func (a *app) printWhy(w api.Why) {
	state := w.State
	if a.colored() {
		state = paint(clean(state))
	} else {
		state = clean(state)
	}
	line := clean(w.Daemon) + ": " + state
	if w.Reason != "" {
		line += ": " + clean(w.Reason)
	}
	fmt.Fprintln(a.stdout, line)
	for _, n := range w.Nodes {
		state := clean(n.State)
		if a.colored() {
			state = paint(state)
		}
		if n.Placed && !n.Ready && n.State == api.StateRunning {
			state += ", not ready"
		}
		fmt.Fprintf(a.stdout, "\n%s: %s\n", clean(n.Node), state)
		for _, reason := range n.Reasons {
			fmt.Fprintf(a.stdout, "  - %s\n", clean(reason))
		}
	}
	if len(w.Nodes) == 0 {
		a.note("no node is known that it could run on")
	}
}
