package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/strict"
)

type statusOptions struct {
	names []string
	node  string
	all   bool
	watch bool
}

func (a *app) statusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use: "status [NAME…]", GroupID: groupDaemons, Short: "Show the ring and its daemons",
		Long: `Shows each daemon of the ring: on how many nodes it is meant to run (DESIRED),
has a container (CURRENT), is ready, has the newest revision (UPDATED) and is
available. With a NAME, shows the daemon on each node, with the reason for its
state; with --node too, -o json and wide tell the values that an override or a
template gives it there. Lines that start with "# " say what is wrong and what
to type next.

The answer is what this node knows: a node that it can't reach is "unknown".

Exit code: 0; with NAME, 3 when a daemon is not ready everywhere it is placed,
and 4 when there is no such daemon.`,
		Example: `  agentctl status
  agentctl status node-exporter
  agentctl status --node web-3
  agentctl status node-exporter --node web-3 -o json
  agentctl status -o json | jq '.daemons[] | select(.state != "ok") | .name'`,
		Annotations: formats("json", "name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			if o.watch {
				return a.watch(cmd.Context(), watched{show: func(b *app) error { return b.showStatus(cmd.Context(), o) }})
			}
			return a.showStatus(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.node, "node", "", "only what `NODE` runs")
	cmd.Flags().BoolVar(&o.all, "all", false, "excluded nodes and deleted daemons too")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "show it anew whenever it changes")
	return cmd
}

// showStatus asks once and prints.
func (a *app) showStatus(ctx context.Context, o statusOptions) error {
	c := a.client()
	defer c.Close()
	if o.node != "" {
		if err := checkNode(ctx, c, o.node); err != nil {
			return cannot("show the status", err)
		}
	}
	st, err := c.Status(ctx, api.StatusQuery{Names: o.names, Node: o.node, All: o.all})
	var problem *api.Problem
	if err != nil && !(errors.As(err, &problem) && problem.Status == 404 && len(o.names) > 0) {
		return cannot("show the status", err)
	}
	missing := a.missing(ctx, c, o.names, st.Daemons)
	if err != nil && len(missing) == 0 { // agentd named something else that is not there
		return cannot("show the status", err)
	}
	if err == nil {
		if err := a.printStatus(ctx, c, o, st); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return &exitError{code: exitUnknown, err: errorList(missing)}
	}
	if len(o.names) > 0 && !readyEverywhere(st.Daemons) {
		return &exitError{code: exitNotReady}
	}
	return nil
}

// missing returns an error for each name that is not among the daemons.
func (a *app) missing(ctx context.Context, c *api.Client, names []string, daemons []api.DaemonStatus) []error {
	var errs []error
	var known []string
	for _, name := range names {
		if slices.ContainsFunc(daemons, func(d api.DaemonStatus) bool { return d.Name == name }) {
			continue
		}
		if known == nil {
			all, _ := c.Status(ctx, api.StatusQuery{})
			known = []string{}
			for _, d := range all.Daemons {
				known = append(known, d.Name)
			}
		}
		errs = append(errs, noDaemon(name, known))
	}
	return errs
}

// noDaemon says that a name is not one of the ring's daemons.
func noDaemon(name string, known []string) error {
	err := fmt.Errorf("there is no daemon %q in the ring", name)
	if near := strict.Suggest(name, known); near != "" {
		return withHint(err, "did you mean %s", near)
	}
	return withHint(err, "see: agentctl status")
}

func readyEverywhere(daemons []api.DaemonStatus) bool {
	for _, d := range daemons {
		if d.State == api.DaemonDeleted {
			continue
		}
		if d.Ready < d.Desired {
			return false
		}
		for _, n := range d.Nodes {
			if n.Placed && !n.Ready {
				return false
			}
		}
	}
	return true
}

func (a *app) printStatus(ctx context.Context, c *api.Client, o statusOptions, st api.Status) error {
	switch {
	case a.output == "json":
		return printJSON(a.stdout, st)
	case a.output == "name":
		for _, d := range st.Daemons {
			fmt.Fprintln(a.stdout, clean(d.Name))
		}
		return nil
	case o.node != "":
		return a.printOnNode(o, st)
	case len(o.names) > 0:
		a.printPerNode(o, st)
	default:
		a.printOverview(ctx, c, st)
	}
	return nil
}

// printOverview is a line per daemon and the notes.
func (a *app) printOverview(ctx context.Context, c *api.Client, st api.Status) {
	t := newTable("NAME", "DESIRED", "CURRENT", "READY", "UPDATED", "AVAILABLE", "REV", "STATE", "AGE")
	t.colors = map[int]bool{7: true}
	wide := a.output == "wide"
	if wide {
		t.header = append(t.header, "MISPLACED", "DIGEST", "BY", "IMAGE")
	}
	for _, d := range st.Daemons {
		row := []string{d.Name, strconv.Itoa(d.Desired), strconv.Itoa(d.Current), strconv.Itoa(d.Ready),
			strconv.Itoa(d.Updated), strconv.Itoa(d.Available), strconv.Itoa(d.Revision), stateWord(d), age(a.now(), d.AppliedAt)}
		if wide {
			row = append(row, strconv.Itoa(d.Misplaced), short(d.Digest), d.AppliedBy, d.Image)
		}
		t.add(row...)
	}
	a.print(t)
	a.printNotes(ctx, c, st)
}

// stateWord is a daemon's state; one that moves says how far it is.
func stateWord(d api.DaemonStatus) string {
	if d.State == api.DaemonRolling {
		return fmt.Sprintf("%s %d/%d", d.State, d.Updated, d.Desired)
	}
	return d.State
}

// printPerNode is a line per node; with several names, per daemon and node.
func (a *app) printPerNode(o statusOptions, st api.Status) {
	t := newTable("NODE", "STATE", "READY", "REV", "RESTARTS", "AGE", "REASON")
	several := len(o.names) > 1
	if several {
		t.header = append([]string{"NAME"}, t.header...)
	}
	a.nodeRows(t, o, st, func(d api.DaemonStatus, n api.NodeDaemon) []string {
		if several {
			return []string{d.Name, n.Node}
		}
		return []string{n.Node}
	})
	a.print(t)
	for _, d := range st.Daemons {
		if d.Conflict != "" {
			a.note("%s: %s", d.Name, d.Conflict)
		}
		if len(d.Nodes) == 0 && d.Desired == 0 && d.State != api.DaemonDeleted {
			a.note("%s is meant for none of the nodes; see: agentctl why %s", d.Name, d.Name)
		}
	}
}

// renderedNotes tells the values that are a node's own, where agentd told them.
func (a *app) renderedNotes(st api.Status) {
	for _, d := range st.Daemons {
		for _, n := range d.Nodes {
			for _, v := range n.Rendered {
				a.note("%s: %s = %s (%s)", d.Name, v.Path, v.Value, v.From)
			}
		}
	}
}

// printOnNode is a line per daemon, on one node.
func (a *app) printOnNode(o statusOptions, st api.Status) error {
	t := newTable("NAME", "STATE", "READY", "REV", "RESTARTS", "AGE", "REASON")
	a.nodeRows(t, o, st, func(d api.DaemonStatus, _ api.NodeDaemon) []string { return []string{d.Name} })
	a.print(t)
	if len(t.rows) == 0 {
		a.note("%s runs none of the ring's daemons", o.node)
	}
	if a.output == "wide" && len(o.names) > 0 {
		a.renderedNotes(st)
	}
	return nil
}

// nodeRows adds a row per daemon and node that is to be shown.
func (a *app) nodeRows(t *table, o statusOptions, st api.Status, first func(api.DaemonStatus, api.NodeDaemon) []string) {
	wide := a.output == "wide"
	if wide {
		// REASON has blanks and stays last.
		t.header = slices.Insert(t.header, len(t.header)-1, "CONTAINER", "PID", "EXIT", "DIGEST")
	}
	for _, d := range st.Daemons {
		for _, n := range d.Nodes {
			if o.node != "" && n.Node != o.node || !n.Placed && n.State == api.StateExcluded && !o.all {
				continue
			}
			row := first(d, n)
			t.colors = map[int]bool{len(row): true}
			row = append(row, a.nodeCells(n)...)
			if wide {
				row = slices.Insert(row, len(row)-1, n.Container, pid(n.PID), exitWord(n), short(n.Digest))
			}
			t.add(row...)
		}
	}
}

func (a *app) nodeCells(n api.NodeDaemon) []string {
	since, rev, restarts, ready := a.ageOf(n.Since), "-", "-", "-"
	if n.Revision > 0 {
		rev = strconv.Itoa(n.Revision)
	}
	if n.State != api.StateUnknown && n.State != api.StateExcluded {
		restarts, ready = strconv.Itoa(n.Restarts), "no"
		if n.Ready {
			ready = "yes"
		}
	} else {
		since = "-"
	}
	reason := n.Reason
	if n.State == api.StateRunning && n.Ready {
		reason = quietReason(reason, n.Revision)
	}
	return []string{n.State, ready, rev, restarts, since, reason}
}

// quietReason leaves out what the other columns say.
func quietReason(reason string, revision int) string {
	switch reason {
	case "running", "ready", fmt.Sprintf("runs revision %d", revision):
		return ""
	}
	return reason
}

func pid(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func exitWord(n api.NodeDaemon) string {
	switch {
	case n.ExitCode == nil:
		return "-"
	case n.OOM:
		return strconv.Itoa(*n.ExitCode) + ",oom"
	}
	return strconv.Itoa(*n.ExitCode)
}
