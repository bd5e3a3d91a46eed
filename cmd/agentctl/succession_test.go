package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// idOf is the id of node n1, n2, …: ids are in the order of the numbers.
func idOf(i int) record.NodeID { return record.NodeID{0: byte(i), 7: byte(i)} }

// members are alive nodes n1, n2, ….
func members(many int, edit map[string]func(*api.RosterNode)) []api.RosterNode {
	var list []api.RosterNode
	for i := 1; i <= many; i++ {
		n := api.RosterNode{Name: fmt.Sprintf("n%d", i), ID: idOf(i).String(), State: "alive", Address: "10.0.0.1:7946",
			Labels: map[string]string{"n": fmt.Sprint(i)}}
		if f := edit[n.Name]; f != nil {
			f(&n)
		}
		list = append(list, n)
	}
	return list
}

// have is what the ring has: a daemon with lanes.
func have(k int, lanes ...[]int) current {
	d := daemon(nil)
	body := record.DaemonBody{Spec: spec.Encode(d), Revision: 3, Rollout: record.Rollout{K: k, Fallback: record.Version{Generation: 2, Digest: record.Digest{2}}}}
	for _, lane := range lanes {
		var ids []record.NodeID
		for _, n := range lane {
			ids = append(ids, idOf(n))
		}
		body.Rollout.Lanes = append(body.Rollout.Lanes, ids)
	}
	return current{spec: &d, body: &body, version: record.Version{Generation: 5, Digest: record.Digest{5}}}
}

// rolled is what agentd says of the rollout of have.
func rolled(finished bool, nodes ...api.RolloutNode) seen {
	ro := api.Rollout{Daemon: "a", Generation: 5, Revision: 3, Finished: finished, Total: 4, Done: 2}
	for _, n := range nodes {
		var i int
		fmt.Sscanf(n.Node, "n%d", &i)
		n.ID = idOf(i).String()
		ro.Nodes = append(ro.Nodes, n)
	}
	return seen{rollout: &ro, nodes: map[string]api.NodeDaemon{}}
}

func lanesText(n next) string {
	var lanes []string
	for _, lane := range n.lanes {
		var names []string
		for _, id := range lane {
			name := n.name(id)
			if slices.Contains(n.body.Rollout.Canaries, id) {
				name += "*"
			}
			names = append(names, name)
		}
		lanes = append(lanes, strings.Join(names, " "))
	}
	return strings.Join(lanes, " | ")
}

func TestSuccession(t *testing.T) {
	v2 := func(edit func(*spec.Daemon)) spec.Daemon {
		return daemon(func(d *spec.Daemon) {
			d.Image, d.Update.MaxUnavailable = "docker.io/library/a:2", "2"
			if edit != nil {
				edit(d)
			}
		})
	}
	down := func(n *api.RosterNode) { n.State = "failed" }
	cordoned := func(n *api.RosterNode) { n.Cordoned = true }
	runs := func(s seen, names ...string) seen {
		for _, n := range names {
			s.nodes[n] = api.NodeDaemon{Node: n, Placed: true, Ready: true, Container: "a"}
		}
		return s
	}
	type edits map[string]func(*api.RosterNode)
	cases := []struct {
		why      string
		want     spec.Daemon
		cur      current
		roster   []api.RosterNode
		seen     seen
		lanes    string
		outside  string
		dropped  string
		closed   string
		fallback uint64 // generation
	}{
		{why: "the first: dealt by id", want: v2(nil), roster: members(4, nil), lanes: "n1 n3 | n2 n4"},
		{why: "a node that is down at the apply has no turn", want: v2(nil), roster: members(4, edits{"n2": down}), lanes: "n1 n4 | n3", outside: "n2 (down)"},
		{why: "nor has one that starts nothing", want: v2(nil), lanes: "n4",
			roster:  members(4, edits{"n1": cordoned, "n2": func(n *api.RosterNode) { n.Draining = true }, "n3": func(n *api.RosterNode) { n.Taints = []string{"gpu=1:NoSchedule"} }}),
			outside: "n1 (cordoned) n2 (drained) n3 (taint gpu=1:NoSchedule)"},
		{why: "nor one without an id", want: v2(nil), roster: members(2, edits{"n2": func(n *api.RosterNode) { n.ID = "" }}), lanes: "n1", outside: "n2 (its id is not known yet)"},
		{why: "a percentage is of the nodes placed, those that are down too", want: v2(func(d *spec.Daemon) { d.Update.MaxUnavailable = "50%" }),
			roster: members(4, edits{"n1": down, "n2": down}), lanes: "n3 | n4", outside: "n1 (down) n2 (down)"},
		{why: "canaries by number: the first by id, in different lanes", want: v2(func(d *spec.Daemon) { d.Update.Canary = 2 }), roster: members(4, edits{"n1": down}), lanes: "n2* n4 | n3*", outside: "n1 (down)"},
		{why: "canaries by label", want: v2(func(d *spec.Daemon) { d.Update.CanarySelector = map[string]string{"n": "3"} }), roster: members(4, nil), lanes: "n3* n1 | n2 n4"},
		{why: "not ready goes first", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, nil),
			seen: seen{nodes: map[string]api.NodeDaemon{"n4": {Placed: true}}}, lanes: "n1 n3 | n4 n2", fallback: 2},
		{why: "an unfinished parent keeps its lanes", want: v2(nil), cur: have(2, []int{1, 2, 3}, []int{4}), roster: members(4, nil), seen: rolled(false),
			lanes: "n1 n2 n3 | n4", fallback: 2},
		{why: "a finished one deals anew, last ones stay, and it is what a rollback goes to", want: v2(nil), cur: have(2, []int{1, 2, 3}, []int{4}), roster: members(4, nil), seen: rolled(true),
			lanes: "n1 n3 | n2 n4", fallback: 5},
		{why: "one that was rolled back is nothing to go back to", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, nil),
			seen: func() seen { s := rolled(true); s.rollout.RolledBack = true; return s }(), lanes: "n1 n3 | n2 n4", fallback: 2},
		{why: "who is down in an unfinished one is dropped, and named", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, edits{"n1": down}), seen: rolled(false),
			lanes: "n3 | n2 n4", outside: "n1 (down)", dropped: "n1", fallback: 2},
		{why: "one that nobody knows any more is dropped too", want: v2(nil), cur: have(2, []int{1, 9}, []int{2}), roster: members(2, nil), seen: rolled(false, api.RolloutNode{Node: "n9"}),
			lanes: "n1 | n2", dropped: "n9", fallback: 2},
		{why: "who is down after a finished one falls out", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, edits{"n1": down}), seen: rolled(true),
			lanes: "n2 n3 | n4", outside: "n1 (down)", fallback: 5},
		{why: "even the last of a lane", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, edits{"n4": down}), seen: rolled(true),
			lanes: "n2 n3 | n1", outside: "n4 (down)", dropped: "n4", fallback: 5},
		{why: "skipped and down: the word is an operator's already", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, edits{"n1": down}),
			seen: rolled(false, api.RolloutNode{Node: "n1", Word: api.WordSkipped}), lanes: "n3 | n2 n4", outside: "n1 (down)", fallback: 2},
		{why: "skipped and back: it is asked for again", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, nil),
			seen: rolled(false, api.RolloutNode{Node: "n1", Word: api.WordSkipped}), lanes: "n1 n3 | n2 n4", fallback: 2},
		{why: "forgotten and left ones are gone", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(2, nil),
			seen: rolled(false, api.RolloutNode{Node: "n3", Word: api.WordForgotten}, api.RolloutNode{Node: "n4", Word: api.WordLeft}), lanes: "n1 | n2", fallback: 2},
		{why: "cordoned in the middle: it keeps its place", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, edits{"n1": cordoned}), seen: runs(rolled(false), "n1"),
			lanes: "n1 n3 | n2 n4", outside: "n1 (cordoned)", closed: "n1", fallback: 2},
		{why: "drained: it is through at once", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, edits{"n1": func(n *api.RosterNode) { n.Draining = true }}), seen: runs(rolled(false), "n1"),
			lanes: "n1 n3 | n2 n4", outside: "n1 (drained)", fallback: 2},
		{why: "cordoned after a finished one: it is left out", want: v2(nil), cur: have(2, []int{1, 3}, []int{2, 4}), roster: members(4, edits{"n3": cordoned}), seen: runs(rolled(true), "n3"),
			lanes: "n1 n2 | n4", outside: "n3 (cordoned)", fallback: 5},
		{why: "after a delete nothing is kept", want: v2(nil), cur: func() current { c := have(2, []int{1, 2, 3}, []int{4}); c.deleted = true; return c }(),
			roster: members(4, edits{"n1": down}), lanes: "n2 n4 | n3", outside: "n1 (down)"},
		{why: "without a word of the rollout: nothing is taken for finished", want: v2(nil), cur: have(2, []int{1, 2, 3}, []int{4}), roster: members(4, nil), lanes: "n1 n2 n3 | n4", fallback: 2},
	}
	for _, c := range cases {
		n, err := succession(c.want, c.cur, ringView{roster: c.roster}, c.seen)
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		var outside []string
		for _, o := range n.outside {
			outside = append(outside, o.Node+" ("+o.Reason+")")
		}
		got := fmt.Sprintf("lanes %s, outside %s, dropped %s, closed %s, fallback %d", lanesText(n), strings.Join(outside, " "),
			strings.Join(n.dropped, " "), strings.Join(n.closed, " "), n.body.Rollout.Fallback.Generation)
		want := fmt.Sprintf("lanes %s, outside %s, dropped %s, closed %s, fallback %d", c.lanes, c.outside, c.dropped, c.closed, c.fallback)
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.why, got, want)
		}
		if first := c.cur.body == nil || c.cur.deleted; n.body.Rollout.First != first {
			t.Errorf("%s: first is %t", c.why, n.body.Rollout.First)
		}
	}
}

// Nodes that left are in no lane, whatever the rollout says.
func TestLeftNodesHaveNoTurn(t *testing.T) {
	n, err := succession(daemon(nil), have(2, []int{1, 3}, []int{2}), ringView{roster: members(2, nil), gone: []record.NodeID{idOf(3)}}, seen{})
	if err != nil || lanesText(n) != "n1 n2" {
		t.Errorf("%s, %v", lanesText(n), err)
	}
}
