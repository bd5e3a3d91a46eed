package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

// readyEvery is how often wait-ready looks; agentd answers from memory.
const readyEvery = 500 * time.Millisecond

// waitReadyCommand is what agentd-ready.service runs.
func (a *app) waitReadyCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait-ready", Hidden: true, Short: "Wait until every daemon placed on this machine is ready",
		Long: `Returns 0 once every daemon that is placed on this machine is ready, be there
none. An agentd that does not answer, or not yet, is waited for. This is what
agentd-ready.target waits for.`,
		Example: "  agentctl wait-ready --timeout 2m", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			return cannot("wait until all is ready", a.waitReady(ctx))
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after `DURATION` (default: never)")
	return cmd
}

// waitReady returns when nothing is missing; it says what it waits for whenever
// that changes.
func (a *app) waitReady(ctx context.Context) error {
	c := a.client()
	defer c.Close()
	said := ""
	for {
		ready, missing, err := a.notReady(ctx, c)
		var refused *api.Problem
		switch {
		case errors.As(err, &refused) && refused.Status < 500:
			return err // asking again would not help
		case err != nil:
			missing = err.Error()
		case missing == "":
			fmt.Fprintf(a.stdout, "%s placed here, all ready\n", plural(ready, "daemon"))
			return nil
		}
		if missing != said && ctx.Err() == nil {
			said = missing
			a.notef("waiting: %s", missing)
		}
		if !wait(ctx, readyEvery) {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return withHint(fmt.Errorf("still waiting: %s", said), "see: agentctl status, agentctl why NAME")
			}
			return ctx.Err()
		}
	}
}

// notReady counts the daemons that are ready on this node, and names those that
// are not.
func (a *app) notReady(ctx context.Context, c *api.Client) (ready int, missing string, err error) {
	info, err := c.Info(ctx)
	if err != nil {
		return 0, "", err
	}
	st, err := c.Status(ctx, api.StatusQuery{Node: info.Node})
	if err != nil {
		return 0, "", err
	}
	var names []string
	for _, d := range st.Daemons {
		for _, n := range d.Nodes {
			switch {
			case n.Node != info.Node || !n.Placed:
			case n.Ready:
				ready++
			default:
				text := d.Name + " " + n.State
				if n.Reason != "" {
					text += ": " + n.Reason
				}
				names = append(names, text)
			}
		}
	}
	return ready, strings.Join(names, "; "), nil
}
