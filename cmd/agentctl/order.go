package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

const (
	lineWidth  = 80 // of what is printed, but for tables that -o wide was asked for
	mostNodes  = 4  // that are named of one round, or of those outside
	mostRounds = 4  // that are told one by one
)

// round is nodes that may go at the same time: one of each lane.
type round struct {
	nodes  []string
	canary bool
}

// rounds is the order in which the nodes go that have to: canaries, then place
// by place. Lanes do not wait for each other, so that the rounds are what comes
// of it when all nodes take equally long.
func (c change) rounds() []round {
	canary := map[record.NodeID]bool{}
	for _, id := range c.next.body.Rollout.Canaries {
		canary[id] = true
	}
	restarts := map[string]bool{}
	for _, name := range c.restarts {
		restarts[name] = true
	}
	var out []round
	for _, first := range []bool{true, false} {
		from := len(out)
		for _, lane := range c.next.lanes {
			place := from
			for _, id := range lane {
				name := c.next.name(id)
				if canary[id] != first || !restarts[name] {
					continue
				}
				if place == len(out) {
					out = append(out, round{canary: first})
				}
				out[place].nodes = append(out[place].nodes, name)
				place++
			}
		}
	}
	for _, r := range out {
		slices.Sort(r.nodes)
	}
	return out
}

// turns says under a change in which order nodes take it, which of them have
// no turn, and what becomes of a rollout that is under way.
func (c change) turns() []string {
	if c.result == resultDeleted || c.result == resultUnchanged {
		return nil
	}
	var lines []string
	if len(c.deals) > 0 {
		lines = append(lines, wrap("deals turns anew for "+firstOf(c.deals)+", which nobody could lend one", lineWidth-2)...)
	}
	if s := c.supersedes(); s != "" {
		lines = append(lines, wrap(s, lineWidth-2)...)
	}
	if s := c.order(); s != "" {
		lines = append(lines, wrap(s, lineWidth-2)...)
	}
	if len(c.next.outside) > 0 {
		var list []string
		for _, o := range c.next.outside {
			list = append(list, o.Node+" ("+o.Reason+")")
		}
		lines = append(lines, wrap("outside the roster: "+firstOf(list), lineWidth-2)...)
	}
	return lines
}

// supersedes says what happens to the rollout before.
func (c change) supersedes() string {
	ro := c.seen.rollout
	switch {
	case ro == nil || ro.Finished || ro.Deleted || c.cur.deleted:
		return ""
	case ro.RolledBack:
		return fmt.Sprintf("follows revision %d, which was rolled back", ro.Revision)
	}
	return fmt.Sprintf("supersedes revision %d, which %d of %s have", ro.Revision, ro.Done, plural(ro.Total, "node"))
}

// order is "order, at most 2 at once: web-1 (canary); then web-2, web-4".
func (c change) order() string {
	if len(c.restarts) == 0 || c.next.body.Rollout.First {
		return ""
	}
	u := c.want.Update
	switch u.Strategy {
	case spec.StrategyAllAtOnce:
		return "order: all at once"
	case spec.StrategyOnDelete:
		return "order: each node when an operator says so there: sudo agentctl restart " + c.name
	}
	head := "order, one at a time"
	if k := min(c.next.body.Rollout.K, len(c.next.lanes)); k > 1 {
		head = fmt.Sprintf("order, at most %d at once", k)
	}
	if u.Surge {
		head += ", the new one beside the old one"
	}
	if k := c.next.body.Rollout.K; k > len(c.next.lanes) && len(c.restarts) > len(c.next.lanes) {
		head += fmt.Sprintf(" (%d after this update, which keeps the turns of an unfinished one)", k)
	}
	return head + ": " + roundsText(c.rounds(), time.Duration(u.Bake))
}

func roundsText(rounds []round, bake time.Duration) string {
	var b strings.Builder
	for i, r := range rounds {
		rest := len(rounds) - i
		switch {
		case i > 0 && bake > 0 && rounds[i-1].canary && !r.canary:
			b.WriteString("; " + shortDuration(bake) + " later ")
		case i > 0:
			b.WriteString("; then ")
		}
		if i >= mostRounds-1 && rest > 1 {
			nodes := 0
			for _, r := range rounds[i:] {
				nodes += len(r.nodes)
			}
			if nodes == rest {
				fmt.Fprintf(&b, "%s, one by one", plural(nodes, "more node"))
			} else {
				fmt.Fprintf(&b, "%s in %d rounds", plural(nodes, "more node"), rest)
			}
			break
		}
		text := firstOf(r.nodes)
		switch {
		case r.canary && len(r.nodes) == 1:
			text += " (canary)"
		case r.canary:
			text += " (canaries)"
		}
		b.WriteString(text)
	}
	return b.String()
}

// firstOf names some of a list and counts the rest.
func firstOf(list []string) string {
	if len(list) <= mostNodes {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:mostNodes-1], ", "), len(list)-mostNodes+1)
}

// shortDuration is 10m, not 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}

// wrap breaks a text into lines of at most so many columns; the later ones are
// indented by two.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		indent := "  "
		if line == "" {
			line = word
			continue
		}
		if len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), indent+word
			continue
		}
		line += " " + word
	}
	return append(lines, line)
}

// turnsJSON is the rollout of a change in the JSON of apply and diff.
type turnsJSON struct {
	Strategy       string `json:"strategy"`
	First          bool   `json:"first"` // nothing runs yet: all nodes at once
	MaxUnavailable int    `json:"max_unavailable"`
	Surge          bool   `json:"surge"`
	Lanes          int    `json:"lanes"`
	// Order are the nodes that restart, those first that go first; those of one
	// element may go at once.
	Order      [][]string `json:"order"`
	Canaries   []string   `json:"canaries"`
	Outside    []outsider `json:"outside"`
	Dropped    []string   `json:"dropped"`    // down, and left out by this change
	Supersedes int        `json:"supersedes"` // an unfinished revision; 0: none
}

func (c change) turnsJSON() *turnsJSON {
	if c.result == resultDeleted || c.result == resultUnchanged {
		return nil
	}
	r := c.next.body.Rollout
	j := &turnsJSON{Strategy: c.want.Update.Strategy, First: r.First, MaxUnavailable: r.K, Surge: c.want.Update.Surge,
		Lanes: len(c.next.lanes), Order: [][]string{}, Canaries: []string{}, Outside: c.next.outside, Dropped: orEmpty(c.next.dropped)}
	switch {
	case r.First || j.Strategy == spec.StrategyOnDelete || len(c.restarts) == 0:
	case j.Strategy == spec.StrategyAllAtOnce:
		j.Order = append(j.Order, c.restarts)
	default:
		for _, round := range c.rounds() {
			j.Order = append(j.Order, round.nodes)
		}
	}
	for _, id := range r.Canaries {
		j.Canaries = append(j.Canaries, c.next.name(id))
	}
	slices.Sort(j.Canaries)
	if j.Outside == nil {
		j.Outside = []outsider{}
	}
	if c.supersedes() != "" {
		j.Supersedes = c.seen.rollout.Revision
	}
	return j
}
