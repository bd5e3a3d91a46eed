package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// seen is what agentd tells of a daemon that the ring runs already. What it
// does not tell makes the next record more careful, never less.
type seen struct {
	rollout *api.Rollout              // of the record that is followed; nil when nothing is known of it
	nodes   map[string]api.NodeDaemon // the daemon on each node, by the node's name
}

// readSeen asks how far the rollout of cur is.
func readSeen(ctx context.Context, c *api.Client, name string, cur current) (seen, error) {
	s := seen{nodes: map[string]api.NodeDaemon{}}
	if !cur.live() {
		return s, nil
	}
	ro, err := readRollout(ctx, c, name)
	if err != nil {
		return s, err
	}
	if ro != nil && ro.Generation == cur.version.Generation && ro.Record == cur.version.Digest.String() {
		s.rollout = ro
	}
	st, err := c.Status(ctx, api.StatusQuery{Names: []string{name}})
	if isNotFound(err) {
		return s, nil
	}
	for _, d := range st.Daemons {
		if d.Name == name {
			for _, n := range d.Nodes {
				s.nodes[n.Node] = n
			}
		}
	}
	return s, err
}

// readRollout returns nil when agentd knows nothing of the daemon, or is too
// old to tell.
func readRollout(ctx context.Context, c *api.Client, name string) (*api.Rollout, error) {
	ro, err := c.Rollout(ctx, name)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &ro, nil
}

func isNotFound(err error) bool {
	var problem *api.Problem
	return errors.As(err, &problem) && (problem.Status == http.StatusNotFound || problem.Status == http.StatusNotImplemented)
}

// outsider is a node that the daemon is meant for and that has no turn.
type outsider struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`

	holds bool // something of the daemon runs there, and will not be updated
}

// next is the signed part of a change, and what it means for the nodes.
type next struct {
	body     record.DaemonBody
	blob     []byte // the lanes, when they are too many for the body
	lanes    [][]record.NodeID
	names    map[record.NodeID]string
	outside  []outsider
	dropped  []string // down, and left out though they may hold a turn
	closed   []string // cordoned, and kept in their lane
	finished bool     // the record that is followed was
}

// succession says how the record that follows cur deals its turns. It decides
// from values only.
func succession(want spec.Daemon, cur current, ring ringView, s seen) (next, error) {
	n := next{names: map[record.NodeID]string{}}
	succ := record.Succession{
		Spec: spec.Encode(want), Changed: cur.spec == nil || cur.spec.Digest() != want.Digest(),
		Parent: cur.body, ParentVersion: cur.version, ParentLanes: cur.lanes, Deleted: cur.deleted, Gone: slices.Clone(ring.gone),
	}
	if ro := s.rollout; ro != nil && !cur.deleted {
		succ.Finished, succ.Vetoed = ro.Finished, ro.RolledBack
		for _, m := range ro.Nodes {
			if id, ok := nodeID(m.ID); ok {
				n.names[id] = m.Node
			}
		}
	}
	n.finished = succ.Finished
	var placedOn int
	succ.Roster, placedOn = n.roster(want, ring.roster, s)
	succ.K = want.Update.Budget(placedOn)
	if cur.live() {
		succ.Gone = append(succ.Gone, n.gone(cur, ring.roster, s)...)
	}
	if want.Update.Canary > 0 {
		markCanaries(succ.Roster, succ.Gone, want.Update.Canary)
	}
	var err error
	if n.body, n.blob, err = record.NextDaemonBody(succ); err != nil {
		return n, err
	}
	n.lanes, err = record.LanesOf(n.body, n.blob)
	return n, err
}

// roster lists the nodes that get a turn, and notes those that do not though
// the daemon is meant for them. placedOn counts both.
func (n *next) roster(want spec.Daemon, all []api.RosterNode, s seen) (list []record.Candidate, placedOn int) {
	for _, m := range all {
		id, known := nodeID(m.ID)
		if known {
			n.names[id] = m.Name
		}
		if !placed(want, m) {
			continue
		}
		placedOn++
		here, reports := s.nodes[m.Name]
		switch why := absent(want, m); {
		case why != "":
			_, stays := welcome(want, m)
			n.outside = append(n.outside, outsider{m.Name, why, stays && here.Container != ""})
		case !known: // it joins a lane with a later record
			n.outside = append(n.outside, outsider{Node: m.Name, Reason: "its id is not known yet"})
		default:
			list = append(list, record.Candidate{ID: id, Canary: want.Update.CanaryFor(specNode(m)),
				Unhealthy: reports && here.Placed && !here.Ready})
		}
	}
	return list, placedOn
}

// absent says why a node that the daemon is meant for has no turn.
func absent(d spec.Daemon, n api.RosterNode) string {
	switch {
	case !isAlive(n.State):
		return "down"
	case n.Draining:
		return "drained"
	case n.Cordoned:
		return "cordoned"
	}
	for _, t := range d.Untolerated(config.NodeTaints(n.Taints)) {
		return "taint " + t.String()
	}
	return ""
}

func isAlive(state string) bool { return state == "alive" || state == "suspect" }

// gone lists the members of the present lanes that the next record leaves out,
// and notes which of them nobody but this signer calls down.
//
// A node that is up stays, skipped or not: to ask for its word is the careful
// way. After a finished rollout who is away falls out by itself, as it is not
// in the roster; but the last node of a lane would stay in it.
func (n *next) gone(cur current, all []api.RosterNode, s seen) []record.NodeID {
	up := map[record.NodeID]bool{}
	for _, m := range all {
		if id, ok := nodeID(m.ID); ok && isAlive(m.State) {
			up[id] = true
		}
	}
	closed := map[string]bool{}
	for _, o := range n.outside {
		closed[o.Node] = o.holds
	}
	word := map[record.NodeID]string{}
	if s.rollout != nil {
		for _, m := range s.rollout.Nodes {
			if id, ok := nodeID(m.ID); ok {
				word[id] = m.Word
			}
		}
	}
	var out []record.NodeID
	for _, lane := range presentLanes(cur) {
		for i, m := range lane {
			last := i == len(lane)-1
			switch {
			case word[m] == api.WordForgotten, word[m] == api.WordLeft, !up[m] && word[m] == api.WordSkipped:
				out = append(out, m)
			case up[m] && closed[n.names[m]] && n.finished:
				out = append(out, m) // through with everything, and starts nothing
			case up[m] && closed[n.names[m]]:
				n.closed = append(n.closed, n.name(m))
			case !up[m] && (last || !n.finished):
				out = append(out, m)
				n.dropped = append(n.dropped, n.name(m))
			}
		}
	}
	return out
}

// presentLanes returns the lanes of the record that is followed.
func presentLanes(cur current) [][]record.NodeID {
	switch {
	case cur.body == nil:
		return nil
	case cur.body.Rollout.LanesBlob != "":
		return cur.lanes
	}
	return cur.body.Rollout.Lanes
}

// markCanaries makes the first so many of the roster canaries. By id: that is
// the order in which nodes are dealt into lanes, so that they fall into
// different ones.
func markCanaries(roster []record.Candidate, gone []record.NodeID, many int) {
	slices.SortFunc(roster, func(a, b record.Candidate) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for i := range roster {
		if many > 0 && !slices.Contains(gone, roster[i].ID) {
			roster[i].Canary = true
			many--
		}
	}
}

// name is a node's name, or the beginning of an id that nobody knows any more.
func (n *next) name(id record.NodeID) string {
	if s := n.names[id]; s != "" {
		return s
	}
	return "node " + id.String()[:8]
}

func nodeID(text string) (record.NodeID, bool) {
	var id record.NodeID
	err := id.UnmarshalText([]byte(text))
	return id, err == nil
}

// warnings is what whoever signs this should know.
func (c change) warnings() []string {
	var list []string
	if many := c.next.dropped; len(many) > 3 {
		list = append(list, fmt.Sprintf("%s are down and left out of the rollout; for each that is in fact up, one node more than max_unavailable may be down",
			strings.Join(many, ", ")))
	} else {
		for _, name := range many {
			list = append(list, fmt.Sprintf("%s is down and left out of the rollout; if it is in fact up, one node more than max_unavailable may be down", name))
		}
	}
	for _, name := range c.next.closed {
		list = append(list, fmt.Sprintf("%s can't update (%s) and keeps its place, as the rollout before is not finished; the nodes after it wait", name, c.reasonOutside(name)))
	}
	if c.result == resultDeleted || c.result == resultUnchanged {
		return list
	}
	if ro := c.seen.rollout; ro != nil && ro.PausedBy != "" && len(c.restarts) > 0 {
		list = append(list, fmt.Sprintf("daemon/%s is paused by %s: no node updates until: agentctl rollout resume %s", c.name, ro.PausedBy, c.name))
	}
	if u := c.want.Update; u.Surge && c.want.Network == "host" && (c.cur.spec == nil || !c.cur.spec.Update.Surge || c.cur.spec.Network != "host") {
		list = append(list, fmt.Sprintf("daemon/%s: surge with network = \"host\": the new one can't listen where the old one still does", c.name))
	}
	return list
}

func (c change) reasonOutside(node string) string {
	for _, o := range c.next.outside {
		if o.Node == node {
			return o.Reason
		}
	}
	return "closed"
}
