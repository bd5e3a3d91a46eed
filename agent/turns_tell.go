package agent

import (
	"cmp"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/api"
)

// moving reports whether this node's own part in a rollout is not over, so that
// what its containers do matters.
func (t *turns) moving() bool {
	for _, busy := range t.heard.busy {
		if busy {
			return true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, min := range t.avail {
		if min > 0 {
			return true // available, other than ready, is a matter of time
		}
	}
	return false
}

// say is what a node tells about a daemon's turn in its status: whether it is
// ready and not available yet, and what it waits for.
func (t *turns) say(r supervise.Report) (short bool, waits string, on []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.waits[r.Name]
	short = r.Ready && !r.ReadySince.IsZero() && time.Since(r.ReadySince) < t.avail[r.Name]
	return short, string(w.Code), nodeNames(w.On[:min(len(w.On), maxReasons)], t.names)
}

// words is what others are told. What is deleted and over is not among it: names
// come and go for years, and what follows a delete has no turns.
func (t *turns) words() (rollout.Identity, map[string]rollout.State) {
	who, states := t.keeper.Words()
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, s := range states {
		if t.plans[name].Delete && s.Slot == nil && s.Lent == nil {
			delete(states, name)
		}
	}
	return who, states
}

// known returns the rollouts that this node follows.
func (t *turns) known() map[string]rollout.Plan {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.plans)
}

// idOf returns the id that a node has in lanes, as far as it said.
func (t *turns) idOf(node string) rollout.NodeID {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, name := range t.names {
		if name == node {
			return id
		}
	}
	return rollout.NodeID{}
}

// tellHere notes that an operator wants the newest revision here, see
// update.strategy on-delete. It reports whether that changes anything.
func (t *turns) tellHere(daemon string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waits[daemon].Code != rollout.WaitTold {
		return false
	}
	t.told[daemon] = t.plans[daemon].Version
	return true
}

func joinNames(ids []rollout.NodeID, names map[rollout.NodeID]string) string {
	return strings.Join(nodeNames(ids, names), ", ")
}

// nodeNames names nodes, those that nobody knows by the first digits of their ids.
func nodeNames(ids []rollout.NodeID, names map[rollout.NodeID]string) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, nodeName(id, names))
	}
	return out
}

func nodeName(id rollout.NodeID, names map[rollout.NodeID]string) string {
	return cmp.Or(names[id], id.String()[:8])
}

// turned finds what is worth telling between two states. Pure.
func turned(daemon string, was rollout.State, d rollout.Decision, revision int, names map[rollout.NodeID]string) []api.Event {
	s := d.State
	var out []api.Event
	add := func(format string, args ...any) {
		out = append(out, api.Event{Type: api.EventRollout, Daemon: daemon, Revision: revision, Reason: fmt.Sprintf(format, args...)})
	}
	if s.Observed.Vetoed && !was.Observed.Vetoed {
		add("revision %d is rolled back: too many nodes failed", revision)
	}
	if s.Slot != nil && (was.Slot == nil || was.Slot.Target != s.Slot.Target) {
		add("its turn has come: revision %d is taken here", revision)
	}
	if s.Slot == nil && was.Slot != nil && s.IsDone(s.Observed) {
		add("done with revision %d; the turn goes on", revision)
	}
	if s.Failed == s.Observed.Version && was.Failed != s.Failed && !s.Failed.IsZero() {
		add("failed to go on to revision %d in time", revision)
	}
	if s.Lent != nil && (was.Lent == nil || *was.Lent != *s.Lent) {
		add("lends its turn to %s", nodeName(s.Lent.To, names))
	}
	return out
}
