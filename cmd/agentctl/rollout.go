package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

func (a *app) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rollout", GroupID: groupDaemons, Short: "See and steer rolling updates",
		Long: `Shows, pauses, resumes and takes back rolling updates.

The nodes of a ring take an update one after another, at most max_unavailable
at once, in lanes: one node of each lane has its turn, and hands it on when it
is ready. Nobody in the middle steers it: what is said here is a signed word
that each node follows.`,
		Example: `  agentctl rollout status node-exporter -w
  agentctl rollout undo node-exporter`,
		Args: cobra.ArbitraryArgs, RunE: groupHelp,
	}
	cmd.AddCommand(a.rolloutStatusCommand(), a.rolloutHistoryCommand(), a.rolloutUndoCommand(), a.rolloutPauseCommand(),
		a.rolloutResumeCommand(), a.rolloutRestartCommand(), a.rolloutSkipCommand())
	return cmd
}

// oneDaemon checks that the arguments are the name of a daemon.
var oneDaemon = between(1, 1, "the name of a daemon")

// steered is a daemon that is about to be steered, as the ring has it.
type steered struct {
	ring ringView
	cur  current
	seen seen
}

// steer reads what steering a daemon's rollout needs. One that is deleted, or
// was never there, is an error.
func (a *app) steer(ctx context.Context, c *api.Client, name string) (steered, error) {
	var s steered
	if !spec.ValidName(name) {
		return s, noDaemon(name, a.names(ctx, c))
	}
	var err error
	if s.ring, err = readRing(ctx, c); err != nil {
		return s, err
	}
	if s.cur, err = readDaemon(ctx, c, s.ring.id, name); err != nil {
		return s, err
	}
	switch {
	case s.cur.spec == nil:
		return s, noDaemon(name, a.names(ctx, c))
	case s.cur.deleted:
		return s, withHint(fmt.Errorf("daemon %q is deleted", name), "to bring it back: agentctl rollout undo %s", name)
	}
	s.seen, err = readSeen(ctx, c, name, s.cur)
	return s, err
}

// known is steer for what can't be done without agentd's view of the rollout.
func (s steered) known(name string) error {
	if s.seen.rollout == nil {
		return withHint(fmt.Errorf("agentd does not know the rollout of %s yet", name), "try again in a moment; agentd has to be as new as agentctl")
	}
	return nil
}

// putSteer signs a control record, brings it, and prints what became of what.
func (a *app) putSteer(ctx context.Context, c *api.Client, ring ringView, k record.Key, entry record.Entry, body []byte, about string) error {
	key, err := a.operatorKey()
	if err != nil {
		return err
	}
	envelope, err := record.Sign(record.Next(entry, ring.id, k, a.author(key), a.now()), body, key)
	if err != nil {
		return err
	}
	acc, err := c.PutRecord(ctx, string(k.Kind), k.Name, envelope)
	if err != nil {
		var problem *api.Problem
		if errors.As(err, &problem) && problem.Status == 409 && problem.Hint == "" {
			err = withHint(err, "somebody else steered it meanwhile; look, and try again")
		}
		return err
	}
	a.warnAccepted(about, acc)
	return nil
}

// toldDaemon prints what became of a daemon, a word as kubectl has them.
func (a *app) toldDaemon(name, word string) {
	if a.output == "name" {
		word = ""
	} else {
		word = " " + word
	}
	fmt.Fprintf(a.stdout, "daemon/%s%s\n", clean(name), clean(word))
}
