package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec/record"
)

// progress is where a daemon's rollout stands, as this node knows it.
type progress struct {
	plan     rollout.Plan
	known    bool // this node follows a record of the daemon
	g        rollout.Version
	states   map[rollout.NodeID]rollout.State
	words    map[rollout.NodeID]uint64
	failed   []rollout.NodeID // all that failed
	forgiven map[rollout.NodeID]bool
	paused   string // by an operator's word
	finished bool
	seats    map[rollout.NodeID]seat
}

// seat is a node's lane and its place in it, from 1.
type seat struct{ lane, place int }

// progress gathers a daemon's rollout. Pure.
func (v view) progress(daemon string) progress {
	pr := progress{}
	if pr.plan, pr.known = v.plans[daemon]; !pr.known {
		return pr
	}
	pr.states = v.crowd.states[daemon]
	pr.words = v.steer.words(daemon, pr.plan.Version, v.crowd)
	pr.seats = map[rollout.NodeID]seat{}
	for i, lane := range pr.plan.Lanes {
		for j, n := range lane {
			pr.seats[n] = seat{i + 1, j + 1}
		}
	}
	pr.failed = rollout.Failures(pr.plan, pr.states)
	pr.forgiven = v.steer.forgiven(daemon, pr.plan.Version)
	pr.paused = v.steer.paused(daemon)
	pr.g = rollout.Of(pr.plan.Version)
	pr.g.Vetoed = pr.plan.Vetoed(len(pr.failed))
	for _, s := range pr.states {
		if s.Observed.Version == pr.plan.Version && s.Observed.Vetoed {
			pr.g.Vetoed = true
		}
	}
	pr.finished = rollout.Finished(pr.plan, pr.g.Vetoed, pr.states, pr.words)
	return pr
}

// stopped reports whether failures stopped the rollout.
func (pr progress) stopped() bool {
	n := 0
	for _, id := range pr.failed {
		if !pr.forgiven[id] {
			n++
		}
	}
	return pr.known && !pr.g.Vetoed && n >= pr.plan.Threshold()
}

// gather sums up what the statements say of rollouts, this node's own among
// them, once for all daemons.
func (v *view) gather() {
	v.crowd, v.member = newPeers(), make(map[string]gossip.Member, len(v.members))
	for _, m := range v.members {
		v.member[m.Name] = m
	}
	up := upOf(v.members)
	for name, said := range v.said {
		ring, ok := v.ids[name]
		if !ok {
			continue
		}
		id := rollout.MakeID(ring, said.Salt)
		v.crowd.learn(heardNode{name: name, id: id, left: said.Left, turns: said.Turns})
		v.crowd.see(id, gossip.NodeID(ring), said.Left, up[name])
	}
}

// rollout answers GET /v1/rollouts/{name}.
func (v view) rollout(d daemonView) api.Rollout {
	status, pr := v.daemon(d), v.progress(d.name)
	out := api.Rollout{
		Schema: api.Schema, Daemon: d.name, Generation: d.generation, Record: d.version.Digest.String(), Revision: d.revision,
		State: status.State, Reason: status.Reason, Strategy: d.spec.Update.Strategy, First: d.rollout.First,
		AppliedAt: d.created.UTC(), AppliedBy: d.author, Deleted: d.deleted,
		MaxUnavailable: d.rollout.K, Paused: status.Paused, PausedReason: pr.paused, RolledBack: pr.g.Vetoed, Finished: pr.finished,
		FallbackGeneration: d.rollout.Fallback.Generation, FallbackRevision: v.revisionOf(d.name, d.rollout.Fallback),
		Failures: []string{}, Forgiven: []string{}, Threshold: pr.plan.Threshold(), Lanes: len(pr.plan.Lanes), Nodes: []api.RolloutNode{},
	}
	if p := v.steer.pauses[d.name]; p.Paused {
		out.PausedBy = p.by
	}
	out.Finished = out.Finished && pr.known && pr.plan.Version == d.version
	names := v.crowd.names
	rows := make(map[string]api.NodeDaemon, len(status.Nodes))
	for _, r := range status.Nodes {
		rows[r.Node] = r
	}
	out.Failures = append(out.Failures, nodeNames(pr.failed, names)...)
	for _, id := range pr.failed {
		if pr.forgiven[id] {
			out.Forgiven = append(out.Forgiven, nodeName(id, names))
		}
	}
	if pr.paused == "" && pr.stopped() {
		out.PausedReason = "stopped because of " + strings.Join(out.Failures, ", ")
	}
	for _, id := range pr.plan.Order() {
		out.Nodes = append(out.Nodes, v.rolloutNode(d, pr, rows, id))
	}
	for _, id := range v.lateOnes(d, pr) {
		out.Nodes = append(out.Nodes, v.rolloutNode(d, pr, rows, id))
	}
	for _, n := range out.Nodes {
		if n.State == api.TurnSkipped {
			continue
		}
		out.Total++
		switch n.State {
		case api.TurnDone:
			out.Done++
		case api.TurnUpdating, api.TurnFailed:
			out.Updating++
		}
	}
	return out
}

// lateOnes are the nodes that the daemon is meant for and that are in no lane.
func (v view) lateOnes(d daemonView, pr progress) []rollout.NodeID {
	var out []rollout.NodeID
	for _, m := range v.members {
		said := v.said[m.Name]
		ring, ok := v.ids[m.Name]
		if !ok || m.State == gossip.Left || said.Left {
			continue
		}
		id := rollout.MakeID(ring, said.Salt)
		if pr.seats[id].lane > 0 {
			continue
		}
		if n, listed := v.node(d, m); listed && n.Placed {
			out = append(out, id)
		}
	}
	return out
}

// rolloutNode is one node's part.
func (v view) rolloutNode(d daemonView, pr progress, rows map[string]api.NodeDaemon, id rollout.NodeID) api.RolloutNode {
	names := v.crowd.names
	n := api.RolloutNode{
		Node: nodeName(id, names), ID: id.String(), Canary: slices.Contains(pr.plan.Canaries, id), WaitsFor: []string{},
	}
	n.Lane, n.Place = pr.seats[id].lane, pr.seats[id].place
	n.Member = string(v.member[n.Node].State)
	if r, ok := rows[n.Node]; ok {
		n.Reason, n.Ready, n.Phase, n.Revision, n.Since = r.Reason, r.Ready, r.State, r.Revision, r.Since
	}
	row, _ := v.said[n.Node].row(d.name)
	n.Pulled, n.PullTotal = row.Pulled, row.PullTotal
	s, known := pr.states[id]
	n.Failed = known && s.Failed == pr.plan.Version && !s.Failed.IsZero()
	if known && s.Lent != nil {
		n.LentTo = nodeName(s.Lent.To, names)
	}
	n.Word = v.wordOf(d.name, pr, id)
	switch {
	case n.Word != "" && n.Lane > 0 && !(known && s.IsDone(pr.g)):
		n.State = api.TurnSkipped
	case !known || s.Observed.Compare(pr.g) < 0 || pr.plan.Version != d.version:
		n.State = api.TurnUnknown // it, or this node itself, has not got that far
	case s.IsDone(pr.g) && s.Slot == nil:
		n.State = api.TurnDone
	case s.Slot != nil && n.Failed:
		n.State = api.TurnFailed
	case s.Slot != nil, row.Waits == "":
		n.State = api.TurnUpdating
	case n.Lane == 0:
		n.State = api.TurnLate
	default:
		n.State = api.TurnWaiting
	}
	if n.State != api.TurnDone {
		n.Waits = row.Waits
		if row.WaitsFor != nil {
			n.WaitsFor = row.WaitsFor
		}
	}
	return n
}

// wordOf names the kind of the word that calls a node down.
func (v view) wordOf(daemon string, pr progress, id rollout.NodeID) string {
	switch {
	case pr.words[id] == 0:
		return ""
	case pr.words[id] == rollout.LeftWord:
		return api.WordLeft
	}
	for _, sk := range v.steer.skips[daemon] {
		if sk.ID == id {
			return api.WordSkipped
		}
	}
	return api.WordForgotten
}

// revisionOf is the revision of a record that is held here; 0 when it is not.
func (v view) revisionOf(daemon string, version record.Version) int {
	return v.revisions[revisionKey{daemon, version.Digest}]
}

type revisionKey struct {
	daemon string
	digest record.Digest
}

// judgeRollout names the state of a daemon that is on its way to a record, or
// back from one; "" when the rollout has nothing to say.
func (v view) judgeRollout(d daemonView, s api.DaemonStatus, pr progress) (state, reason string) {
	if !pr.known {
		return "", ""
	}
	names := v.crowd.names
	who := joinNames(pr.failed, names)
	back := fmt.Sprintf("revision %d", v.revisionOf(d.name, d.rollout.Fallback))
	var moving, waiting, stuck []api.NodeDaemon
	behind := 0
	for _, n := range s.Nodes {
		if !n.Placed || n.State == api.StateUnknown {
			continue
		}
		row, _ := v.said[n.Node].row(d.name)
		st := pr.states[v.rolloutID(n.Node)]
		if !st.IsDone(pr.g) {
			behind++
		}
		switch {
		case row.Waits == "":
			if st.Slot != nil || !st.IsDone(pr.g) {
				moving = append(moving, n)
			}
		case v.isStuck(row):
			stuck = append(stuck, n)
		default:
			waiting = append(waiting, n)
		}
	}
	told := len(stuck)+len(waiting) > 0
	for _, n := range slices.Concat(stuck, waiting) {
		row, _ := v.said[n.Node].row(d.name)
		told = told && row.Waits == string(rollout.WaitTold)
	}
	switch {
	case pr.g.Vetoed && behind == 0:
		return api.DaemonRolledBack, fmt.Sprintf("%s failed with revision %d; back at %s", who, d.revision, back)
	case pr.g.Vetoed && len(moving)+len(waiting) > 0:
		return api.DaemonRolling, fmt.Sprintf("%s failed with revision %d; going back to %s", who, d.revision, back)
	case pr.paused != "" && behind > 0:
		return api.DaemonPaused, pr.paused
	case pr.stopped() && behind > 0:
		return api.DaemonPaused, fmt.Sprintf("%s failed with revision %d; agentctl rollout resume %s goes on, agentctl rollout undo %s goes back", who, d.revision, d.name, d.name)
	case len(moving) > 0 && s.Available == s.Desired && s.Updated == s.Desired:
		return api.DaemonRolling, "all are up; " + moving[0].Node + " keeps its turn for a moment"
	case len(moving) > 0:
		return "", "" // as the nodes' own states say
	case told:
		return api.DaemonOK, fmt.Sprintf("%d of %d wait for agentctl restart %s there; update.strategy is on-delete", len(stuck)+len(waiting), s.Desired, d.name)
	case len(stuck) > 0:
		return api.DaemonDegraded, quote(stuck[0], len(stuck)-1)
	case len(waiting) > 0:
		return api.DaemonRolling, quote(waiting[0], len(waiting)-1)
	}
	return "", ""
}

func (v view) rolloutID(node string) rollout.NodeID {
	return rollout.MakeID(v.ids[node], v.said[node].Salt)
}

// isStuck reports whether what a node waits for will not come by itself.
func (v view) isStuck(row statementDaemon) bool {
	switch rollout.Code(row.Waits) {
	case rollout.WaitDeath, rollout.WaitClosed, rollout.WaitFallback, rollout.WaitDisk, rollout.WaitHeld, rollout.WaitTold, rollout.WaitFailures, rollout.WaitPaused:
		return true
	case rollout.WaitLate:
		if len(row.WaitsFor) == 0 {
			return true
		}
	}
	for _, name := range row.WaitsFor {
		if m, ok := v.member[name]; !ok || m.State == gossip.Failed {
			return true
		}
	}
	return false
}

// chain follows whom a node waits for to the root: what each of them does.
func (v view) chain(daemon, node string) []string {
	var out []string
	seen := map[string]bool{node: true}
	for range 8 {
		row, _ := v.said[node].row(daemon)
		next := ""
		for _, n := range row.WaitsFor {
			if !seen[n] {
				next = n
				break
			}
		}
		if next == "" {
			return out
		}
		seen[next] = true
		out = append(out, v.standing(daemon, next))
		node = next
	}
	return out
}

// standing says in a line where a node is with a daemon.
func (v view) standing(daemon, node string) string {
	m, ok := v.member[node]
	if !ok {
		return node + " is not known here"
	}
	row, _ := v.said[node].row(daemon)
	if m.State == gossip.Failed {
		return fmt.Sprintf("%s is not reachable for %s", node, age(v.now.Sub(m.Since)))
	}
	if row.Reason == "" {
		return node + ": " + cmp.Or(row.State, "nothing known")
	}
	return fmt.Sprintf("%s: %s, %s", node, row.State, row.Reason)
}
