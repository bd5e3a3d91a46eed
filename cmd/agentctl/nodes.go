package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/strict"
)

func (a *app) nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "nodes", GroupID: groupNodes, Short: "List the nodes of the ring",
		Long: `Lists the nodes of the ring as this node sees them: alive, suspect (does not
answer at the moment), failed or left, and whether they are cordoned or
draining; how many of its daemons are ready; and the digest over the records
that it holds, which is the same on all nodes once they agree. -o wide adds
labels and taints.`,
		Example: "  agentctl nodes -o wide", Args: noArgs, Annotations: formats("json", "name"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.nodes(cmd.Context()) },
	}
}

func (a *app) nodes(ctx context.Context) error {
	c := a.client()
	defer c.Close()
	list, err := c.Nodes(ctx)
	if err != nil {
		return cannot("list the nodes", err)
	}
	switch a.output {
	case "json":
		return printJSON(a.stdout, list)
	case "name":
		for _, n := range list.Nodes {
			fmt.Fprintln(a.stdout, clean(n.Name))
		}
		return nil
	}
	t := newTable("NAME", "STATE", "ADDRESS", "VERSION", "DAEMONS", "RECORDS", "SEEN")
	t.colors = map[int]bool{1: true}
	wide := a.output == "wide"
	if wide {
		t.header = append(t.header, "ID", "TAINTS", "LABELS")
	}
	for _, n := range list.Nodes {
		row := []string{n.Name, nodeState(n), n.Address, n.Version,
			fmt.Sprintf("%d/%d", n.DaemonsReady, n.DaemonsPlaced), short(n.SpecDigest), a.seen(n)}
		if n.State == "left" || n.State == "failed" {
			row[4] = "-"
		}
		if wide {
			row = append(row, n.ID, strings.Join(n.Taints, ","), labelList(n.Labels))
		}
		t.add(row...)
	}
	a.print(t)
	for _, line := range nodeNotes(list.Nodes) {
		a.note("%s", line)
	}
	return nil
}

func nodeState(n api.Node) string {
	s := n.State
	if n.Draining {
		return s + ",draining"
	}
	if n.Cordoned {
		return s + ",cordoned"
	}
	return s
}

// seen is "now" for a node that answers.
func (a *app) seen(n api.Node) string {
	if n.State == "alive" {
		return "now"
	}
	return a.ageOf(n.LastSeen)
}

func labelList(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, ",")
}

// nodeNotes says what to do about nodes that are gone.
func nodeNotes(nodes []api.Node) []string {
	var lines, failed, closed []string
	for _, n := range nodes {
		if n.State == "failed" {
			failed = append(failed, n.Name)
		}
		if n.Cordoned || n.Draining {
			closed = append(closed, n.Name)
		}
	}
	if len(closed) > 0 {
		lines = append(lines, fmt.Sprintf("nothing new starts on %s; to take that back: agentctl uncordon %s", someOf(closed), closed[0]))
	}
	if len(failed) > 0 {
		lines = append(lines, fmt.Sprintf("%s can't be reached; one that is gone for good: agentctl forget %s", someOf(failed), failed[0]))
	}
	return lines
}

// checkNode makes sure that a name is one of the ring's nodes.
func checkNode(ctx context.Context, c *api.Client, name string) error {
	list, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list.Nodes, func(n api.Node) bool { return n.Name == name }) {
		return nil
	}
	return noNode(name, list.Nodes)
}

// noNode says that a name is not one of the ring's nodes.
func noNode(name string, nodes []api.Node) error {
	var known []string
	for _, n := range nodes {
		known = append(known, n.Name)
	}
	err := fmt.Errorf("there is no node %q in the ring", name)
	if near := strict.Suggest(name, known); near != "" {
		return withHint(err, "did you mean %s", near)
	}
	return withHint(err, "see: agentctl nodes")
}
