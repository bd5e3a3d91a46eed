package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/agentd/agentd/api"
)

// printNotes says under the overview how the ring is, what is wrong, and what
// to type next.
func (a *app) printNotes(ctx context.Context, c *api.Client, st api.Status) {
	a.note("%s", a.ringNote(ctx, c, st.Ring))
	if st.Ring.Left {
		a.note("this node left the ring; to take it back: sudo agentctl join")
	}
	for _, n := range st.Ring.Notes {
		a.note("%s", n)
	}
	if len(st.Daemons) == 0 {
		a.note("no daemons yet; to run one: agentctl apply -f FILE")
	}
	for _, d := range st.Daemons {
		for _, line := range daemonNotes(d) {
			a.note("%s", line)
		}
	}
}

// ringNote is "ring prod: 5 alive, 1 failed (web-6, 2m); 5 of 5 hold the same
// records".
func (a *app) ringNote(ctx context.Context, c *api.Client, r api.RingStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ring %s: %d alive", r.Name, r.Nodes.Alive)
	if r.Nodes.Failed+r.Nodes.Left > 0 {
		// Without the list the counts still tell enough.
		nodes, _ := c.Nodes(ctx)
		for _, s := range []struct {
			state string
			count int
		}{{"failed", r.Nodes.Failed}, {"left", r.Nodes.Left}} {
			if s.count == 0 {
				continue
			}
			fmt.Fprintf(&b, ", %d %s", s.count, s.state)
			if who := a.whoIs(nodes.Nodes, s.state); len(who) > 0 {
				fmt.Fprintf(&b, " (%s)", someOf(who))
			}
		}
	}
	fmt.Fprintf(&b, "; %d of %d hold the same records", r.Holding, r.Nodes.Alive)
	return b.String()
}

// whoIs lists the nodes of a state, with how long ago they were last seen.
func (a *app) whoIs(nodes []api.Node, state string) []string {
	var who []string
	for _, n := range nodes {
		if n.State != state {
			continue
		}
		if n.LastSeen == nil || state == "left" {
			who = append(who, n.Name)
			continue
		}
		who = append(who, n.Name+", "+a.ageOf(n.LastSeen))
	}
	return who
}

// troubled are node states that won't end by themselves, or not soon.
func troubled(n api.NodeDaemon) bool {
	return n.Placed && !n.Ready && slices.Contains([]string{api.StateUnhealthy, api.StateBackoff,
		api.StateBlocked, api.StateUnknown, api.StateStopped}, n.State)
}

// daemonNotes explains a daemon that is not well: why its rollout stopped, then
// at most three of its nodes, or else its own reason.
func daemonNotes(d api.DaemonStatus) []string {
	switch {
	case d.State == api.DaemonDeleted, d.State == api.DaemonOK && d.Reason == "":
		return nil
	case d.State == api.DaemonOK:
		return []string{d.Name + ": " + d.Reason}
	}
	var lines []string
	if d.Conflict != "" {
		lines = append(lines, fmt.Sprintf("%s: %s", d.Name, d.Conflict))
	}
	stopped := d.State == api.DaemonPaused || d.State == api.DaemonRolledBack
	if stopped && d.Reason != "" {
		lines = append(lines, fmt.Sprintf("%s: %s", d.Name, advised(d.Reason, "see: agentctl rollout status %s", d.Name)))
	}
	const most = 3
	more := 0
	nodes := 0
	for _, n := range d.Nodes {
		if !troubled(n) {
			continue
		}
		if nodes++; nodes > most {
			more++
			continue
		}
		what := n.State
		if n.Reason != "" {
			what += ": " + n.Reason
		}
		lines = append(lines, fmt.Sprintf("%s: %s %s; see: agentctl why %s %s", d.Name, n.Node, what, d.Name, n.Node))
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("%s: and %s; see: agentctl status %s", d.Name, plural(more, "more node"), d.Name))
	}
	switch {
	case nodes > 0 || d.Reason == "" || stopped:
	case d.State == api.DaemonRolling:
		lines = append(lines, fmt.Sprintf("%s: %s; see: agentctl rollout status %s", d.Name, d.Reason, d.Name))
	default:
		lines = append(lines, fmt.Sprintf("%s: %s; see: agentctl why %s", d.Name, d.Reason, d.Name))
	}
	return lines
}
