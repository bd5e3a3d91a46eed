package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
	"github.com/agentd/agentd/spec/strict"
)

type forgetOptions struct {
	id  string
	yes bool
}

func (a *app) forgetCommand() *cobra.Command {
	var o forgetOptions
	cmd := &cobra.Command{
		Use: "forget NODE", GroupID: groupNodes, Short: "Say that a node is gone for good",
		Long: `Says, signed by you, that a node is gone for good: it drops out of all counts at
once, and its name may be used by another machine, such as the same one after it
was installed anew. On a node that is in fact alive nothing is stopped.`,
		Example:     "  agentctl forget web-6",
		Annotations: formats("name"), Args: between(1, 1, "the name of a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cannot("forget "+args[0], a.forget(cmd.Context(), args[0], o))
		},
	}
	cmd.Flags().StringVar(&o.id, "id", "", "only the machine with this node `ID`, as nodes -o wide shows it")
	addYes(cmd, &o.yes)
	return cmd
}

func (a *app) forget(ctx context.Context, name string, o forgetOptions) error {
	if !spec.ValidNodeName(name) {
		return fmt.Errorf("%q is not the name of a node", name)
	}
	var id record.NodeID
	if o.id != "" && id.UnmarshalText([]byte(o.id)) != nil {
		return usagef("see: agentctl nodes -o wide", "%q is not a node id", o.id)
	}
	key, err := a.operatorKey()
	if err != nil {
		return err
	}
	c := a.client()
	defer c.Close()
	ring, err := readRing(ctx, c)
	if err != nil {
		return err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	if err := a.warnForget(name, nodes.Nodes); err != nil {
		return err
	}
	if err := a.confirm(ctx, o.yes, "Forget node %s of ring %s?", name, ring.name); err != nil {
		return err
	}
	k := record.ForgetKey(name)
	entry, err := readEntry(ctx, c, ring.id, k)
	if err != nil {
		return err
	}
	body := record.EncodeForget(record.Forget{Node: name, ID: o.id})
	envelope, err := record.Sign(record.Next(entry, ring.id, k, a.author(key), a.now()), body, key)
	if err != nil {
		return err
	}
	acc, err := c.PutRecord(ctx, string(k.Kind), k.Name, envelope)
	if err != nil {
		return err
	}
	a.warnAccepted("forgetting "+name, acc)
	if a.output == "name" {
		fmt.Fprintf(a.stdout, "node/%s\n", name)
	} else {
		fmt.Fprintf(a.stdout, "node/%s forgotten\n", name)
	}
	return nil
}

// warnForget says what is odd about the wish. A name that was never heard of
// may still be bound to a key: failed nodes drop out of the list after a day.
func (a *app) warnForget(name string, nodes []api.Node) error {
	i := slices.IndexFunc(nodes, func(n api.Node) bool { return n.Name == name })
	if i >= 0 {
		if state := nodes[i].State; state == "alive" || state == "suspect" {
			a.warnf("%s is %s; forget is meant for machines that are gone, and leave for those that are to go", name, state)
		}
		return nil
	}
	var known []string
	for _, n := range nodes {
		known = append(known, n.Name)
	}
	if near := strict.Suggest(name, known); near != "" {
		a.warnf("%s is not in the list of nodes; did you mean %s?", name, near)
	} else {
		a.warnf("%s is not in the list of nodes", name)
	}
	return nil
}
