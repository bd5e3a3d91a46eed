package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agentd/agentd/api"
)

// standing is how far one daemon is on its way to a generation, computed from
// what agentd said at one moment.
type standing struct {
	name     string
	known    bool // the generation is in agentd's view
	gone     bool // it is deleted
	left     int  // containers of a deleted daemon
	state    string
	reason   string
	revision int
	rollout  *api.Rollout // nil when agentd tells nothing of it

	// Alive nodes that it is placed on: how many count, and how many of them are
	// updated and available.
	want, have int
	closed     []string // do not count: cordoned
	told       []string // do not count: wait for an operator's restart
	away       []string // do not count: down
	moving     bool     // something is on its way
	rows       []standingRow
}

// turnAway is the turn of a node that is down.
const turnAway = "away"

// standingRow is one node that matters, in the order of turns.
type standingRow struct {
	node    string
	lane    int
	turn    string // as in api.RolloutNode.State
	phase   string
	reason  string
	on      []string // whom it waits for
	pulled  int64
	total   int64
	counted bool
}

func standingOf(d api.DaemonStatus, ro *api.Rollout, generation uint64, members []api.Node) standing {
	s := standing{name: d.Name, known: d.Generation >= generation, state: d.State, reason: d.Reason, revision: d.Revision,
		gone: d.State == api.DaemonDeleted || d.State == api.DaemonDeleting}
	if ro != nil {
		s.known = s.known && ro.Generation >= generation
		s.rollout = ro
	}
	member := map[string]api.Node{}
	for _, m := range members {
		member[m.Name] = m
	}
	turn := map[string]api.RolloutNode{}
	order := map[string]int{}
	if ro != nil {
		for i, n := range ro.Nodes {
			turn[n.Node], order[n.Node] = n, i
		}
	}
	for _, n := range d.Nodes {
		m := member[n.Node]
		if !isAlive(m.State) {
			if n.Placed && !s.gone {
				s.away = append(s.away, n.Node)
				s.rows = append(s.rows, standingRow{node: n.Node, lane: turn[n.Node].Lane, turn: turnAway})
			}
			continue
		}
		s.moving = s.moving || slices.Contains([]string{api.StateWaiting, api.StatePulling, api.StateStarting, api.StateStopping}, n.State)
		switch {
		case s.gone:
			if n.Container != "" {
				s.left++
			}
		case n.Placed:
			s.count(d, n, m, turn[n.Node])
		}
	}
	slices.SortStableFunc(s.rows, func(a, b standingRow) int { return order[a.node] - order[b.node] })
	return s
}

// count adds an alive node that the daemon is placed on.
func (s *standing) count(d api.DaemonStatus, n api.NodeDaemon, m api.Node, t api.RolloutNode) {
	row := standingRow{node: n.Node, lane: t.Lane, turn: t.State, phase: n.State, reason: t.Reason, on: t.WaitsFor,
		pulled: t.Pulled, total: t.PullTotal, counted: true}
	if row.reason == "" {
		row.reason = n.Reason
	}
	there := n.Ready && n.Digest == d.Digest && (t.State == "" || t.State == api.TurnDone)
	switch {
	case there:
		row.turn = api.TurnDone
		s.have++
		s.want++
	case m.Cordoned && slices.Contains([]string{"", api.TurnWaiting, api.TurnLate, api.TurnUnknown}, t.State):
		row.counted = false
		s.closed = append(s.closed, n.Node)
	case t.Waits == api.WaitsTold:
		row.counted = false
		s.told = append(s.told, n.Node)
	default:
		s.want++
		switch {
		case row.turn != "" && row.turn != api.TurnDone:
		case n.Ready && n.Digest != d.Digest: // agentd has not heard of its turn yet
			row.turn = api.TurnWaiting
		default: // through with its turn, and not ready
			row.turn = api.TurnUpdating
		}
	}
	s.rows = append(s.rows, row)
}

// done reports whether there is nothing more to wait for.
func (s standing) done() bool {
	return s.known && s.have == s.want && s.left == 0 && !s.rolledBack()
}

func (s standing) rolledBack() bool {
	return s.state == api.DaemonRolledBack || s.rollout != nil && s.rollout.RolledBack
}

// of returns the rows that count and are in a state.
func (s standing) of(turn string) []standingRow {
	var out []standingRow
	for _, r := range s.rows {
		if r.counted && r.turn == turn {
			out = append(out, r)
		}
	}
	return out
}

// stoppedError ends a wait before its time.
type stoppedError struct {
	name, state, reason string
}

func (e *stoppedError) Error() string {
	msg := fmt.Sprintf("daemon/%s is %s", e.name, e.state)
	if e.reason != "" {
		msg += ": " + e.reason
	}
	return msg
}

// stop returns an error when somebody or something has stopped the rollout.
func (s standing) stop() error {
	ro := s.rollout
	switch {
	case s.rolledBack():
		err := &stoppedError{s.name, "rolled back", s.cause()}
		if ro != nil && ro.FallbackRevision > 0 {
			return withHint(err, "its nodes go back to revision %d; see: agentctl rollout status %s", ro.FallbackRevision, s.name)
		}
		return withHint(err, "see: agentctl rollout status %s", s.name)
	case ro != nil && ro.Paused && ro.PausedBy != "":
		// The hint tells what to type; it need not be told twice.
		why, _, _ := strings.Cut(ro.PausedReason, "; agentctl ")
		return withHint(&stoppedError{s.name, "paused", why}, "to go on: agentctl rollout resume %s", s.name)
	case s.state == api.DaemonPaused || ro != nil && ro.Paused:
		return withHint(&stoppedError{s.name, "paused", s.cause()},
			"apply a fix, go back (agentctl rollout undo %s) or go on all the same (agentctl rollout resume %s)", s.name, s.name)
	}
	return nil
}

// why is the reason of a rollout that stopped.
func (s standing) why() string {
	if ro := s.rollout; ro != nil && ro.PausedReason != "" {
		return ro.PausedReason
	}
	for _, r := range s.of(api.TurnFailed) {
		if r.reason != "" && !strings.Contains(s.reason, r.node) {
			return r.node + ": " + r.reason
		}
	}
	return s.reason
}

// cause is why with what the first node that failed says of it.
func (s standing) cause() string {
	why, _, _ := strings.Cut(s.why(), "; agentctl ")
	for _, r := range s.of(api.TurnFailed) {
		if r.reason != "" && !strings.Contains(why, r.reason) {
			return why + " (" + r.node + ": " + r.reason + ")"
		}
	}
	return why
}

// stuck reports whether nothing is on its way: it is ready nowhere, or all that
// is missing failed or waits for others.
func (s standing) stuck() bool {
	if s.state == api.DaemonFailed {
		return !s.moving
	}
	open := false
	for _, r := range s.rows {
		if !r.counted || r.turn == api.TurnDone {
			continue
		}
		if r.turn == api.TurnUpdating || r.turn == api.TurnLate {
			return false
		}
		open = open || r.turn == api.TurnFailed
	}
	return open
}

// failure is the error of a daemon that is stuck.
func (s standing) failure() error {
	return withHint(&stoppedError{s.name, "failed", s.why()}, "see: agentctl why %s", s.name)
}

// text says in a line how far it is.
func (s standing) text() string {
	if s.gone {
		return fmt.Sprintf("daemon/%s: %s to stop", s.name, plural(s.left, "container"))
	}
	text := fmt.Sprintf("daemon/%s: %d of %d updated and available", s.name, s.have, s.want)
	if detail := s.detail(); detail != "" {
		text += " (" + detail + ")"
	}
	return text
}

// detail names who is updating and who failed, or else says what is known.
func (s standing) detail() string {
	if s.done() {
		return ""
	}
	var parts []string
	if list := s.of(api.TurnUpdating); s.rollout != nil && len(list) > 0 {
		var who []string
		for _, r := range list {
			who = append(who, fmt.Sprintf("%s %s", r.node, r.doing()))
		}
		parts = append(parts, someOf(who))
	}
	if list := s.of(api.TurnFailed); len(list) > 0 {
		parts = append(parts, "failed: "+someOf(nodesOf(list)))
	}
	if len(parts) == 0 {
		return s.reason
	}
	return strings.Join(parts, "; ")
}

// key is what has to change for a new line on a stream that is not redrawn.
// Ages and counters in reasons are no news.
func (s standing) key() string {
	updating, reason := nodesOf(s.of(api.TurnUpdating)), ""
	if s.rollout == nil || len(updating) == 0 {
		reason = strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, s.reason)
	}
	return fmt.Sprint(s.have, s.want, s.left, s.known, updating, nodesOf(s.of(api.TurnFailed)), reason)
}

func nodesOf(rows []standingRow) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.node
	}
	return out
}

// doing says what a node that has its turn does now.
func (r standingRow) doing() string {
	switch {
	case r.phase == api.StatePulling && r.total > 0:
		return fmt.Sprintf("pulling %s of %s", mib(r.pulled), mib(r.total)+" MiB")
	case r.phase == api.StatePulling && r.pulled > 0:
		return "pulling " + mib(r.pulled) + " MiB"
	case r.phase == api.StateRunning: // for min_ready, or bake
		return "not available yet"
	case r.phase == "":
		return "updating"
	}
	return r.phase
}

// mib is a size in MiB, to a tenth where that tells anything.
func mib(n int64) string {
	const one = 1 << 20
	if n < 10*one {
		return fmt.Sprintf("%.1f", float64(n)/one)
	}
	return fmt.Sprintf("%d", (n+one/2)/one)
}
