package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
)

// Results of apply and delete, a word per daemon.
const (
	resultCreated    = "created"
	resultConfigured = "configured"
	resultUnchanged  = "unchanged"
	resultDeleted    = "deleted"
	resultRestarted  = "restarted"
	resultUndone     = "undone"
	resultFailed     = "failed"
	resultNotSent    = "not-sent"
)

// change is what applying one daemon would do. It is computed from values only.
type change struct {
	name   string
	result string // created, configured, unchanged or deleted
	cur    current
	want   spec.Daemon // not for deleted
	keys   []spec.Change
	// settles is the conflict that ends with this change: it is written even
	// when it changes nothing else.
	settles string
	// deals are nodes that no lane can lend a turn to: it is written for them,
	// even when it changes nothing else.
	deals []string
	seen  seen
	next  next // not for deleted and unchanged
	// Nodes by what happens to the container there.
	starts, restarts, stops, stays []string
}

// planChange compares a daemon of a file with what the ring has.
func planChange(want spec.Daemon, cur current, ring ringView, s seen) (change, error) {
	// Applying a file again keeps a restart that was asked for.
	if cur.spec != nil {
		want.RestartNonce = cur.spec.RestartNonce
	}
	return planExactly(want, cur, ring, s)
}

// planExactly is planChange for a daemon whose nonce is its own.
func planExactly(want spec.Daemon, cur current, ring ringView, s seen) (change, error) {
	c := change{name: want.Name, cur: cur, want: want, settles: cur.entry.Conflict(), seen: s}
	var old *spec.Daemon
	if cur.live() {
		old = cur.spec
		c.deals = stranded(s.rollout)
	}
	switch {
	case old == nil:
		c.result = resultCreated
	case c.settles == "" && c.deals == nil && bytes.Equal(spec.Encode(*old), spec.Encode(want)):
		c.result = resultUnchanged
		c.where(old, &want, ring.roster)
		return c, nil
	default:
		c.result = resultConfigured
		c.keys = spec.Diff(*old, want)
	}
	c.where(old, &want, ring.roster)
	var err error
	c.next, err = succession(want, cur, ring, s)
	return c, err
}

// stranded lists the nodes that wait for a turn which nobody can lend them
// until turns are dealt anew.
func stranded(ro *api.Rollout) []string {
	if ro == nil {
		return nil
	}
	var out []string
	for _, n := range ro.Nodes {
		if n.State == api.TurnLate && n.Waits == api.WaitsLate && len(n.WaitsFor) == 0 && isAlive(n.Member) {
			out = append(out, n.Node)
		}
	}
	return out
}

// planDelete is what deleting a daemon would do.
func planDelete(name string, cur current, roster []api.RosterNode) change {
	c := change{name: name, cur: cur, result: resultDeleted}
	c.where(cur.spec, nil, roster)
	return c
}

// where sorts the nodes by what happens there.
func (c *change) where(old, want *spec.Daemon, roster []api.RosterNode) {
	for _, n := range roster {
		was, will := false, false
		if old != nil {
			_, stays := welcome(*old, n)
			here, reports := c.seen.nodes[n.Name]
			was = placed(*old, n) && stays && (!reports || here.Placed)
		}
		if want != nil {
			starts, stays := welcome(*want, n)
			will = placed(*want, n) && (starts || was && stays)
		}
		switch {
		case will && !was:
			c.starts = append(c.starts, n.Name)
		case was && !will:
			c.stops = append(c.stops, n.Name)
		case was && old.Digest() != want.Digest() && c.seen.nodes[n.Name].Digest != want.Digest():
			c.restarts = append(c.restarts, n.Name)
		case was:
			c.stays = append(c.stays, n.Name)
		}
	}
}

// changes counts those that would write anything.
func changes(plan []change) int {
	n := 0
	for _, c := range plan {
		if c.result != resultUnchanged {
			n++
		}
	}
	return n
}

// effect says in words what happens to containers.
func (c change) effect() string {
	var parts []string
	add := func(what string, nodes []string) {
		if len(nodes) > 0 {
			parts = append(parts, fmt.Sprintf("%s on %s (%s)", what, plural(len(nodes), "node"), someOf(nodes)))
		}
	}
	add("starts", c.starts)
	add("restarts", c.restarts)
	add("stops", c.stops)
	if len(c.stays) > 0 && len(c.restarts) == 0 {
		parts = append(parts, "restarts nothing")
	}
	if len(parts) == 0 {
		return "is meant for none of the nodes"
	}
	return strings.Join(parts, ", ")
}

// printDiff writes a change as people read it: a line for the daemon, then a
// line per key with - for the old value and + for the new one.
func printDiff(w io.Writer, c change) {
	if c.result == resultUnchanged {
		return
	}
	word := "changed"
	switch {
	case c.result == resultDeleted:
		word = "deleted"
	case !c.cur.live():
		word = "new"
	}
	for _, line := range wrap(fmt.Sprintf("daemon/%s %s: %s", c.name, word, c.effect()), lineWidth) {
		fmt.Fprintln(w, clean(line))
	}
	if c.settles != "" {
		fmt.Fprintf(w, "  settles a conflict: %s\n", clean(c.settles))
	}
	for _, k := range c.keys {
		fmt.Fprintf(w, "  %s:", clean(k.Path))
		switch {
		case k.Old == "":
			fmt.Fprintf(w, " + %s\n", clean(k.New))
		case k.New == "":
			fmt.Fprintf(w, " - %s\n", clean(k.Old))
		case utf8.RuneCountInString(k.Path+k.Old+k.New) < 60: // fits a line of 80
			fmt.Fprintf(w, " %s -> %s\n", clean(k.Old), clean(k.New))
		default:
			fmt.Fprintf(w, "\n    - %s\n    + %s\n", clean(k.Old), clean(k.New))
		}
	}
	for _, line := range c.turns() {
		fmt.Fprintf(w, "  %s\n", clean(line))
	}
}

// changeJSON is a change in the JSON of apply, diff and delete.
type changeJSON struct {
	Name       string    `json:"name"`
	Result     string    `json:"result"`
	Error      string    `json:"error,omitempty"`
	Hint       string    `json:"hint,omitempty"`
	Generation uint64    `json:"generation,omitempty"`
	Revision   int       `json:"revision,omitempty"`
	OnDisk     int       `json:"on_disk,omitempty"`
	Wanted     int       `json:"wanted,omitempty"`
	Settles    string    `json:"settles,omitempty"`
	Keys       []keyJSON `json:"changes"`
	Starts     []string  `json:"starts"`
	Restarts   []string  `json:"restarts"`
	Stops      []string  `json:"stops"`
	// Rollout is null when nothing new is signed.
	Rollout *turnsJSON `json:"rollout"`
}

type keyJSON struct {
	Path     string `json:"path"`
	Old      string `json:"old"`
	New      string `json:"new"`
	Restarts bool   `json:"restarts"`
}

// changesJSON is the document that apply, diff and delete print with -o json.
type changesJSON struct {
	Schema  int          `json:"schema"`
	DryRun  bool         `json:"dry_run"`
	Daemons []changeJSON `json:"daemons"`
}

func (c change) json() changeJSON {
	j := changeJSON{Name: c.name, Result: c.result, Settles: c.settles, Keys: []keyJSON{},
		Starts: orEmpty(c.starts), Restarts: orEmpty(c.restarts), Stops: orEmpty(c.stops)}
	for _, k := range c.keys {
		j.Keys = append(j.Keys, keyJSON{k.Path, k.Old, k.New, k.Running})
	}
	j.Rollout = c.turnsJSON()
	return j
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func newChangesJSON(dryRun bool) changesJSON {
	return changesJSON{Schema: api.Schema, DryRun: dryRun, Daemons: []changeJSON{}}
}
