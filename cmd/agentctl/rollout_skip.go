package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
	"github.com/agentd/agentd/spec/strict"
)

func (a *app) rolloutSkipCommand() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: "skip NAME NODE", Short: "Go on without a node",
		Long: `Says, signed by you, that a node is down, so that the others go on with this
update without it. It takes its turn when it is back, after them. If it is in
fact up and updating, one node more than max_unavailable may be down: a node
that is alive is only skipped when somebody says yes, or with --yes.`,
		Example:     "  agentctl rollout skip node-exporter web-6",
		Annotations: formats("name"), Args: between(2, 2, "the names of a daemon and of a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cannot("skip "+args[1], a.skip(cmd.Context(), args[0], args[1], yes))
		},
	}
	addYes(cmd, &yes)
	return cmd
}

func (a *app) skip(ctx context.Context, name, node string, yes bool) error {
	c := a.client()
	defer c.Close()
	s, err := a.steer(ctx, c, name)
	if err != nil {
		return err
	}
	if err := s.known(name); err != nil {
		return err
	}
	n, err := nodeToSkip(*s.seen.rollout, node)
	if err != nil {
		return err
	}
	switch {
	case n.Word != "":
		a.toldDaemon(name, fmt.Sprintf("goes on without %s already (%s)", n.Node, n.Word))
		return nil
	case n.State == api.TurnDone && n.LentTo == "":
		a.toldDaemon(name, "waits for "+n.Node+" no more: it is done")
		return nil
	}
	if err := a.confirmSkip(ctx, name, n, s.seen.rollout.MaxUnavailable, yes); err != nil {
		return err
	}
	id, ok := nodeID(n.ID)
	if !ok {
		return fmt.Errorf("the id of %s is not known yet", n.Node)
	}
	k := record.SkipKey(name, id)
	entry, err := readEntry(ctx, c, s.ring.id, k)
	if err != nil {
		return err
	}
	body, err := record.EncodeSkip(record.Skip{Daemon: name, Node: n.Node, ID: id, Version: s.cur.version})
	if err != nil {
		return err
	}
	if err := a.putSteer(ctx, c, s.ring, k, entry, body, "skipping "+n.Node); err != nil {
		return err
	}
	a.toldDaemon(name, "goes on without "+n.Node)
	return nil
}

// nodeToSkip finds a node among those that have a part in the rollout. Of
// several machines under one name, it is the one that is waited for.
func nodeToSkip(ro api.Rollout, node string) (api.RolloutNode, error) {
	var found []api.RolloutNode
	var known []string
	for _, n := range ro.Nodes {
		known = append(known, n.Node)
		if n.Node == node || n.ID == node {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		err := fmt.Errorf("%s has no part in the rollout of %s", node, ro.Daemon)
		if near := strict.Suggest(node, known); near != "" {
			return api.RolloutNode{}, withHint(err, "did you mean %s", near)
		}
		return api.RolloutNode{}, withHint(err, "see: agentctl rollout status %s", ro.Daemon)
	}
	open := slices.IndexFunc(found, func(n api.RolloutNode) bool { return n.State != api.TurnDone && n.Word == "" })
	return found[max(0, open)], nil
}

// confirmSkip tells what it means, and asks when the node is alive: then
// nobody's silence is a yes.
func (a *app) confirmSkip(ctx context.Context, name string, n api.RolloutNode, most int, yes bool) error {
	if !isAlive(n.Member) {
		a.warnf("if %s is in fact up, one node more than max_unavailable (%d) may be down", n.Node, most)
		return nil
	}
	what := fmt.Sprintf("%s is %s: if it goes on updating, one node more than max_unavailable (%d) may be down", n.Node, n.Member, most)
	if !yes && (!isTerminal(a.stdin) || !isTerminal(a.stderr)) {
		return withHint(fmt.Errorf("%s", what), "if it has to be: agentctl rollout skip %s %s --yes", name, n.Node)
	}
	a.warnf("%s", what)
	return a.confirm(ctx, yes, "Go on with %s without %s?", name, n.Node)
}
