package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
)

func onNodes(ro *api.Rollout, nodes ...api.NodeDaemon) standing {
	d := api.DaemonStatus{Name: "a", Generation: 5, Revision: 8, Digest: "new", State: api.DaemonRolling, Reason: "its own", Nodes: nodes}
	members := []api.Node{{Name: "dead", State: "failed"}, {Name: "shut", State: "alive", Cordoned: true}}
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		members = append(members, api.Node{Name: name, State: "alive"})
	}
	return standingOf(d, ro, 5, members)
}

func runsOn(node, digest string) api.NodeDaemon {
	return api.NodeDaemon{Node: node, Placed: true, Ready: true, State: api.StateRunning, Digest: digest, Container: "a"}
}

func rolling(nodes ...api.RolloutNode) *api.Rollout {
	return &api.Rollout{Daemon: "a", Generation: 5, Revision: 8, Lanes: 2, Strategy: "rolling", Nodes: nodes}
}

func TestStanding(t *testing.T) {
	waiting := api.NodeDaemon{Node: "n2", Placed: true, State: api.StateStarting, Digest: "new", Container: "a"}
	cases := []struct {
		why  string
		s    standing
		done bool
		text string
	}{
		{"an old one is left; one that is down does not count", onNodes(nil, runsOn("n1", "new"), runsOn("n2", "old"), runsOn("dead", "old")), false, "daemon/a: 1 of 2 updated and available (its own)"},
		{"all alive ones have it", onNodes(nil, runsOn("n1", "new"), runsOn("n2", "new"), runsOn("dead", "old")), true, "daemon/a: 2 of 2 updated and available"},
		{"an excluded node does not count", onNodes(nil, runsOn("n1", "new"), api.NodeDaemon{Node: "n2", State: api.StateExcluded}), true, "daemon/a: 1 of 1 updated and available"},
		{"ready, and not yet for long enough", onNodes(rolling(api.RolloutNode{Node: "n1", State: api.TurnUpdating, Lane: 1}), runsOn("n1", "new")), false, "daemon/a: 0 of 1 updated and available (n1 not available yet)"},
		{"who updates, and who failed", onNodes(rolling(api.RolloutNode{Node: "n1", State: api.TurnFailed, Lane: 1}, api.RolloutNode{Node: "n2", State: api.TurnUpdating, Lane: 2}), runsOn("n1", "old"), waiting),
			false, "daemon/a: 0 of 2 updated and available (n2 starting; failed: n1)"},
		{"a pull in bytes", onNodes(rolling(api.RolloutNode{Node: "n2", State: api.TurnUpdating, Pulled: 5 << 20, PullTotal: 80 << 20}), api.NodeDaemon{Node: "n2", Placed: true, State: api.StatePulling}),
			false, "daemon/a: 0 of 1 updated and available (n2 pulling 5.0 of 80 MiB)"},
		{"cordoned ones are not waited for", onNodes(rolling(api.RolloutNode{Node: "shut", State: api.TurnWaiting}), runsOn("n1", "new"), runsOn("shut", "old")), true, "daemon/a: 1 of 1 updated and available"},
		{"agentd does not know the generation yet", onNodes(&api.Rollout{Generation: 4}, runsOn("n1", "new")), false, "daemon/a: 1 of 1 updated and available (its own)"},
		{"rolled back: never done", onNodes(&api.Rollout{Generation: 5, RolledBack: true}, runsOn("n1", "new")), false, "daemon/a: 1 of 1 updated and available (its own)"},
		{"on-delete: they wait for an operator", onNodes(&api.Rollout{Generation: 5, Strategy: "on-delete", Nodes: []api.RolloutNode{{Node: "n2", State: api.TurnWaiting, Waits: api.WaitsTold}}}, runsOn("n1", "new"), runsOn("n2", "old")),
			true, "daemon/a: 1 of 1 updated and available"},
	}
	for _, c := range cases {
		if c.s.done() != c.done || c.s.text() != c.text {
			t.Errorf("%s: done %t, %q", c.why, c.s.done(), c.s.text())
		}
	}
}

func TestStandingOfADelete(t *testing.T) {
	d := api.DaemonStatus{Name: "a", Generation: 5, State: api.DaemonDeleting, Nodes: []api.NodeDaemon{{Node: "n1", Container: "a"}}}
	members := []api.Node{{Name: "n1", State: "alive"}}
	if s := standingOf(d, nil, 5, members); s.done() || s.text() != "daemon/a: 1 container to stop" {
		t.Errorf("a container is left: %q", s.text())
	}
	d.Nodes[0].Container = ""
	if s := standingOf(d, nil, 5, members); !s.done() {
		t.Errorf("deleted everywhere: %q", s.text())
	}
}

func TestStop(t *testing.T) {
	cases := []struct {
		why   string
		s     standing
		err   string // "": it may still come
		hint  string
		stuck bool
	}{
		{"on its way", onNodes(rolling(api.RolloutNode{Node: "n1", State: api.TurnUpdating}), runsOn("n1", "old")), "", "", false},
		{"an operator paused it", onNodes(&api.Rollout{Generation: 5, Paused: true, PausedBy: "bob", PausedReason: "paused by bob"}, runsOn("n1", "old")),
			"daemon/a is paused: paused by bob", "to go on: agentctl rollout resume a", false},
		{"failures paused it", onNodes(&api.Rollout{Generation: 5, Paused: true, PausedReason: "n1 failed"}, runsOn("n1", "old")), "daemon/a is paused: n1 failed",
			"apply a fix, go back (agentctl rollout undo a) or go on all the same (agentctl rollout resume a)", false},
		{"with what failed", onNodes(&api.Rollout{Generation: 5, Paused: true, PausedReason: "n1 failed", Nodes: []api.RolloutNode{{Node: "n1", State: api.TurnFailed, Reason: "exited with code 1"}}}, runsOn("n1", "old")),
			"daemon/a is paused: n1 failed (n1: exited with code 1)", "apply a fix, go back (agentctl rollout undo a) or go on all the same (agentctl rollout resume a)", true},
		{"rolled back", onNodes(&api.Rollout{Generation: 5, RolledBack: true, FallbackRevision: 7}, runsOn("n1", "old")), "daemon/a is rolled back: its own",
			"its nodes go back to revision 7; see: agentctl rollout status a", false},
		{"one failed, the rest waits for it", onNodes(rolling(api.RolloutNode{Node: "n1", State: api.TurnFailed}, api.RolloutNode{Node: "n2", State: api.TurnWaiting}), runsOn("n1", "old"), runsOn("n2", "old")), "", "", true},
		{"one failed, others go on", onNodes(rolling(api.RolloutNode{Node: "n1", State: api.TurnFailed}, api.RolloutNode{Node: "n2", State: api.TurnUpdating}), runsOn("n1", "old"), runsOn("n2", "old")), "", "", false},
		{"waiting for one that is down", onNodes(rolling(api.RolloutNode{Node: "n2", State: api.TurnWaiting}), runsOn("n2", "old")), "", "", false},
	}
	for _, c := range cases {
		err, text, hint := c.s.stop(), "", ""
		if err != nil {
			text = err.Error()
		}
		var h *hinted
		if errors.As(err, &h) {
			hint = h.hint
		}
		if text != c.err || hint != c.hint || c.s.stuck() != c.stuck {
			t.Errorf("%s: %q, hint %q, stuck %t", c.why, text, hint, c.s.stuck())
		}
	}
}

// The screen is drawn in place and fits, whatever it has to say.
func TestProgressScreen(t *testing.T) {
	var b bytes.Buffer
	now := t0
	width, height := 80, 24
	p := &progressScreen{w: &b, size: func() (int, int) { return width, height }, now: func() time.Time { return now }, began: t0}
	s := onNodes(rolling(
		api.RolloutNode{Node: "n1", State: api.TurnDone, Lane: 1}, api.RolloutNode{Node: "n2", State: api.TurnUpdating, Lane: 2},
		api.RolloutNode{Node: "n3", State: api.TurnFailed, Lane: 1, Reason: "liveness GET http://127.0.0.1:9100/-/healthy refused 3 times\x1b[2J"},
		api.RolloutNode{Node: "n4", State: api.TurnWaiting, Lane: 2}),
		runsOn("n1", "new"), api.NodeDaemon{Node: "n2", Placed: true, State: api.StateStarting}, runsOn("n3", "old"), runsOn("n4", "old"))
	now = now.Add(72 * time.Second)
	p.update([]standing{s})
	want := "\r\x1b[J" + `a  revision 8  [######>>>>>>!!!!!!......]  1/4  1m12s
  lanes     #! >.
  updating  n2 starting
  failed    n3: liveness GET http://127.0.0.1:9100/-/healthy refused 3 times?[…
`
	if b.String() != want {
		t.Errorf("got:\n%q\nwant:\n%q", b.String(), want)
	}
	b.Reset()
	p.update([]standing{onNodes(nil, runsOn("n1", "new"))})
	if want := "\x1b[4A\r\x1b[Ja  revision 8  [########################]  1/1  1m12s\n"; b.String() != want {
		t.Errorf("got:\n%q", b.String())
	}

	// A small screen gets a line for each daemon at least.
	b.Reset()
	p.drawn, width, height = 0, 20, 4
	p.update([]standing{s, s, s})
	lines := strings.Split(strings.TrimSuffix(strings.TrimPrefix(b.String(), "\r\x1b[J"), "\n"), "\n")
	if len(lines) != 3 {
		t.Errorf("%d lines on a screen of 4: %q", len(lines), lines)
	}
	for _, l := range lines {
		if len([]rune(l)) > 19 {
			t.Errorf("too wide: %q", l)
		}
	}

	b.Reset()
	p.colored, p.drawn, width, height = true, 0, 80, 24
	if p.update([]standing{s}); !strings.Contains(b.String(), "  \x1b[31mfailed\x1b[0m    n3: ") {
		t.Errorf("no colour:\n%q", b.String())
	}
}

func TestBarKeepsSmallShares(t *testing.T) {
	s := standing{want: 1000, have: 998, rows: []standingRow{
		{node: "x", turn: api.TurnFailed, counted: true}, {node: "y", turn: api.TurnUpdating, counted: true}}}
	if got := s.bar(); got != strings.Repeat("#", 22)+">!" {
		t.Errorf("got %s", got)
	}
	if got := (standing{}).bar(); got != strings.Repeat("#", barWidth) {
		t.Errorf("nothing to do: %s", got)
	}
}

// Many lanes are counted, not drawn.
func TestManyLanes(t *testing.T) {
	ro := &api.Rollout{Generation: 5, Lanes: 50}
	s := standing{rollout: ro}
	for i := range 50 {
		turn := api.TurnDone
		if i > 30 {
			turn = api.TurnWaiting
		}
		if i == 49 {
			turn = api.TurnFailed
		}
		s.rows = append(s.rows, standingRow{node: "x", lane: i + 1, turn: turn, counted: true})
	}
	if got := s.lanes(); got != "31 of 50 through, 1 held up by a failed node" {
		t.Errorf("got %q", got)
	}
}
