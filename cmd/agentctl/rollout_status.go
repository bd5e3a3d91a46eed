package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
)

func (a *app) rolloutStatusCommand() *cobra.Command {
	watching := false
	cmd := &cobra.Command{
		Use: "status NAME", Short: "Show how far an update is, node by node",
		Long: `Shows the nodes in the order of their turns: the lane that each is in, whether
it is done, updating, failed, waiting, skipped, or late (it was not there at the
apply, and waits for a lent turn), and for whom it waits. With -w shows it anew
whenever it changes, until the update is finished, paused or rolled back.

With -w, exit code 0 says that every node that is up is done, and 1 that it was
paused or rolled back.`,
		Example: `  agentctl rollout status node-exporter
  agentctl rollout status node-exporter -w`,
		Annotations: formats("json"), Args: oneDaemon,
		RunE: func(cmd *cobra.Command, args []string) error {
			if watching {
				return a.watchRollout(cmd.Context(), args[0])
			}
			_, err := a.showRollout(cmd.Context(), args[0])
			return err
		},
	}
	cmd.Flags().BoolVarP(&watching, "watch", "w", false, "show it anew whenever it changes, until it ends")
	return cmd
}

func (a *app) watchRollout(ctx context.Context, name string) error {
	var last *api.Rollout
	err := a.watch(ctx, watched{
		show: func(b *app) error {
			ro, err := b.showRollout(ctx, name)
			last = ro
			return err
		},
		over: func() bool { return last != nil && (rolledOut(*last) || last.Paused || last.RolledBack) },
	})
	if err == nil && ctx.Err() == nil && last != nil && !rolledOut(*last) {
		return &exitError{code: exitFailed}
	}
	return err
}

// rolledOut reports whether every node that is up is done.
func rolledOut(ro api.Rollout) bool {
	if ro.Deleted {
		return true
	}
	for _, n := range ro.Nodes {
		if n.State != api.TurnDone && isAlive(n.Member) {
			return false
		}
	}
	return !ro.RolledBack
}

// advised adds what to type to a reason that does not say so itself.
func advised(reason, format string, args ...any) string {
	advice := fmt.Sprintf(format, args...)
	switch {
	case reason == "":
		return advice
	case strings.Contains(reason, "agentctl "):
		return reason
	}
	return reason + "; " + advice
}

func (a *app) showRollout(ctx context.Context, name string) (*api.Rollout, error) {
	c := a.client()
	defer c.Close()
	ro, err := c.Rollout(ctx, name)
	if isNotFound(err) {
		if missing := a.missing(ctx, c, []string{name}, a.daemonsOf(ctx, c)); len(missing) > 0 {
			return nil, &exitError{code: exitFailed, err: missing[0]}
		}
	}
	if err != nil {
		return nil, cannot("show the rollout of "+name, err)
	}
	if a.output == "json" {
		err = printJSON(a.stdout, ro)
	} else {
		a.printRollout(ro)
	}
	return &ro, err
}

// printRollout is a line per node and the notes.
func (a *app) printRollout(ro api.Rollout) {
	if ro.Deleted {
		a.note("%s is deleted; to bring it back: agentctl rollout undo %s", ro.Daemon, ro.Daemon)
		return
	}
	t := newTable("NODE", "LANE", "STATE", "READY", "REV", "AGE", "REASON")
	t.colors = map[int]bool{2: true}
	wide := a.output == "wide"
	if wide {
		t.header = []string{"NODE", "LANE", "STATE", "READY", "REV", "AGE", "MEMBER", "PHASE", "ID", "REASON"}
	}
	for _, n := range ro.Nodes {
		row := []string{n.Node, laneCell(n), n.State, readyCell(n), "", a.ageOf(n.Since)}
		if n.Revision > 0 {
			row[4] = strconv.Itoa(n.Revision)
		}
		if wide {
			row = append(row, n.Member, n.Phase, n.ID)
		}
		t.add(append(row, rolloutReason(n))...)
	}
	a.print(t)
	for _, line := range rolloutNotes(ro) {
		a.note("%s: %s", ro.Daemon, line)
	}
	if len(ro.Nodes) > 0 {
		a.note("%s: applied %s ago by %s, generation %d", ro.Daemon, age(a.now(), ro.AppliedAt), ro.AppliedBy, ro.Generation)
	}
}

func laneCell(n api.RolloutNode) string {
	switch {
	case n.Lane == 0:
		return ""
	case n.Canary:
		return strconv.Itoa(n.Lane) + ",canary"
	}
	return strconv.Itoa(n.Lane)
}

func readyCell(n api.RolloutNode) string {
	switch {
	case !isAlive(n.Member):
		return ""
	case n.Ready:
		return "yes"
	}
	return "no"
}

// rolloutReason is what a node does or waits for.
func rolloutReason(n api.RolloutNode) string {
	reason := quietReason(n.Reason, n.Revision)
	switch {
	case reason != "":
	case n.State == api.TurnUpdating:
		reason = standingRow{phase: n.Phase, pulled: n.Pulled, total: n.PullTotal}.doing()
	case len(n.WaitsFor) > 0:
		reason = "waits for " + firstOf(n.WaitsFor)
	case n.Word != "":
		reason = n.Word
	}
	if n.State == api.TurnUpdating && n.Pulled > 0 && n.Reason != "" {
		reason += ": " + standingRow{phase: api.StatePulling, pulled: n.Pulled, total: n.PullTotal}.doing()
	}
	if n.LentTo != "" {
		reason = strings.TrimPrefix(reason+"; its turn is lent to "+n.LentTo, "; ")
	}
	return reason
}

// rolloutNotes says how the whole is, who holds it up, and what to type next.
func rolloutNotes(ro api.Rollout) []string {
	if len(ro.Nodes) == 0 {
		return []string{"is meant for none of the nodes; see: agentctl why " + ro.Daemon}
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch most := plural(ro.MaxUnavailable, "node"); {
	case ro.First:
		add("revision %d starts on all nodes at once; %d of %d done", ro.Revision, ro.Done, ro.Total)
	case ro.Strategy == spec.StrategyRolling:
		add("revision %d, at most %s at once; %d of %d done", ro.Revision, most, ro.Done, ro.Total)
	default:
		add("revision %d, %s; %d of %d done", ro.Revision, ro.Strategy, ro.Done, ro.Total)
	}
	switch {
	case ro.RolledBack:
		add("rolled back: %s", advised(cmp.Or(ro.Reason, fmt.Sprintf("to revision %d", ro.FallbackRevision)), "see: agentctl rollout history %s", ro.Daemon))
	case ro.PausedBy != "":
		add("%s", advised(cmp.Or(ro.PausedReason, "paused by "+ro.PausedBy), "to go on: agentctl rollout resume %s", ro.Daemon))
	case ro.Paused:
		add("%s", advised(cmp.Or(ro.PausedReason, "stopped by failures"),
			"apply a fix, go back (agentctl rollout undo %s) or go on all the same (agentctl rollout resume %s)", ro.Daemon, ro.Daemon))
	}
	if len(ro.Failures) > 0 {
		text := fmt.Sprintf("failed: %s (%d stop it)", firstOf(ro.Failures), ro.Threshold)
		if len(ro.Forgiven) > 0 {
			text += "; forgiven: " + firstOf(ro.Forgiven)
		}
		add("%s; see: agentctl why %s %s", text, ro.Daemon, ro.Failures[0])
	}
	for _, n := range holdsUp(ro) {
		add("%s can't be reached, and others wait for it; to go on without it: agentctl rollout skip %s %s", n, ro.Daemon, n)
	}
	return lines
}

// holdsUp lists the nodes that are away and that others wait for.
func holdsUp(ro api.Rollout) []string {
	waited := map[string]bool{}
	for _, n := range ro.Nodes {
		for _, on := range n.WaitsFor {
			waited[on] = true
		}
	}
	var out []string
	for _, n := range ro.Nodes {
		if waited[n.Node] && n.Word == "" && !isAlive(n.Member) {
			out = append(out, n.Node)
		}
	}
	return out
}
