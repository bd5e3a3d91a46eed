package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

func (a *app) rolloutPauseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pause NAME", Short: "Let no further node update",
		Long: `Lets no further node update until resume; those that have begun finish. It
holds for later applies too. Crashed containers are restarted as ever.`,
		Example:     "  agentctl rollout pause node-exporter",
		Annotations: formats("name"), Args: oneDaemon,
		RunE: func(cmd *cobra.Command, args []string) error {
			return cannot("pause "+args[0], a.pause(cmd.Context(), args[0]))
		},
	}
}

func (a *app) rolloutResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume NAME", Short: "Go on with a paused update",
		Long: `Goes on with an update that an operator or failures paused. The failures that
are known now are forgiven, and named; further ones count anew. Nodes that
failed keep their turn until they are ready, so that their lanes wait for them.`,
		Example:     "  agentctl rollout resume node-exporter",
		Annotations: formats("name"), Args: oneDaemon,
		RunE: func(cmd *cobra.Command, args []string) error {
			return cannot("resume "+args[0], a.resume(cmd.Context(), args[0]))
		},
	}
}

// pauseOf returns what operators said of pausing a daemon; zero when nobody
// said anything.
func pauseOf(ctx context.Context, c *api.Client, ring record.RingID, name string) (record.Entry, record.Pause, error) {
	k := record.PauseKey(name)
	entry, err := readEntry(ctx, c, ring, k)
	if err != nil || entry.Empty() || entry.Winner().Delete {
		return entry, record.Pause{}, err
	}
	p, err := record.DecodePause(entry.Winner().Body)
	if err != nil {
		return entry, p, newer(k, err)
	}
	return entry, p, nil
}

func (a *app) pause(ctx context.Context, name string) error {
	c := a.client()
	defer c.Close()
	s, err := a.steer(ctx, c, name)
	if err != nil {
		return err
	}
	entry, have, err := pauseOf(ctx, c, s.ring.id, name)
	if err != nil {
		return err
	}
	if have.Paused && entry.Conflict() == "" {
		a.toldDaemon(name, "already paused")
		return nil
	}
	// What was forgiven stays forgiven.
	body, err := record.EncodePause(record.Pause{Daemon: name, Paused: true, Version: s.cur.version, Forgiven: forgivenOf(have, s.cur.version)})
	if err != nil {
		return err
	}
	if err := a.putSteer(ctx, c, s.ring, record.PauseKey(name), entry, body, "pausing "+name); err != nil {
		return err
	}
	a.toldDaemon(name, "paused")
	if ro := s.seen.rollout; ro != nil && ro.Finished {
		a.notef("no update is under way; the next one waits for: agentctl rollout resume %s", name)
	}
	return nil
}

// forgivenOf are the failures of a version that a pause record forgives.
func forgivenOf(p record.Pause, v record.Version) []record.NodeID {
	if p.Version != v {
		return nil
	}
	return p.Forgiven
}

func (a *app) resume(ctx context.Context, name string) error {
	c := a.client()
	defer c.Close()
	s, err := a.steer(ctx, c, name)
	if err != nil {
		return err
	}
	if err := s.known(name); err != nil {
		return err
	}
	ro := s.seen.rollout
	if ro.RolledBack {
		return withHint(fmt.Errorf("revision %d was rolled back, which is for good", ro.Revision),
			"apply a fix, or try it again: agentctl rollout restart %s", name)
	}
	entry, have, err := pauseOf(ctx, c, s.ring.id, name)
	if err != nil {
		return err
	}
	before := forgivenOf(have, s.cur.version)
	forgiven, names := before, []string(nil)
	for _, n := range ro.Nodes {
		if id, ok := nodeID(n.ID); ok && n.Failed && !slices.Contains(before, id) {
			forgiven, names = append(forgiven, id), append(names, n.Node)
		}
	}
	if !have.Paused && len(names) == 0 && entry.Conflict() == "" {
		if ro.Paused {
			return withHint(errors.New("agentd does not say yet which nodes failed"), "try again in a moment")
		}
		a.toldDaemon(name, "not paused")
		return nil
	}
	body, err := record.EncodePause(record.Pause{Daemon: name, Version: s.cur.version, Forgiven: forgiven})
	if err != nil {
		return err
	}
	if err := a.putSteer(ctx, c, s.ring, record.PauseKey(name), entry, body, "resuming "+name); err != nil {
		return err
	}
	a.toldDaemon(name, "resumed")
	if len(names) > 0 {
		a.notef("%s of revision %d forgiven: %s", plural(len(names), "failure"), ro.Revision, firstOf(names))
	}
	return nil
}
