package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// view is all that a status is made of: values, gathered at one moment. What
// follows from them is computed by pure functions, so that every table an
// operator sees can be tested without a ring.
type view struct {
	ring    string
	self    string
	left    bool
	root    string // hash over all records held here
	now     time.Time
	members []gossip.Member // sorted by name, self included
	said    map[string]statement
	daemons []daemonView // sorted by name, deleted ones included
	notes   []string

	ids       map[string]rollout.NodeID // by node, of everybody who said anything: the id in the ring
	plans     map[string]rollout.Plan   // by daemon, as this node follows them
	steer     steering
	revisions map[revisionKey]int // of records that rollouts go back to
	crowd     peers               // see gather
	member    map[string]gossip.Member
}

// daemonView is one entry of the record set, understood.
type daemonView struct {
	name       string
	spec       spec.Daemon
	digest     string
	generation uint64
	version    record.Version
	revision   int
	rollout    record.Rollout
	author     string
	created    time.Time
	deleted    bool
	varies     bool   // it has overrides or templates: nodes differ in what they run
	conflict   string // who wrote what, when two records compete
	problem    string // why this node can't read the newest record
}

// status answers GET /v1/status.
func (v view) status(q api.StatusQuery) api.Status {
	out := api.Status{Schema: api.Schema, Ring: v.ringStatus(), Daemons: []api.DaemonStatus{}}
	for _, d := range v.daemons {
		if len(q.Names) > 0 && !slices.Contains(q.Names, d.name) {
			continue
		}
		s := v.daemon(d)
		if d.deleted && s.State == api.DaemonDeleted && !q.All {
			continue
		}
		if q.Node != "" {
			s.Nodes = slices.DeleteFunc(s.Nodes, func(n api.NodeDaemon) bool { return n.Node != q.Node })
			for i := range s.Nodes {
				s.Nodes[i].Rendered = v.renderedOn(d, q.Node)
			}
		}
		out.Daemons = append(out.Daemons, s)
	}
	return out
}

func (v view) ringStatus() api.RingStatus {
	r := api.RingStatus{Name: v.ring, Self: v.self, SpecDigest: short(v.root), Left: v.left, Notes: v.notes}
	if skew := api.Skew(v.nodes().Nodes); skew != "" {
		r.Notes = append(slices.Clone(r.Notes), skew)
	}
	if r.Notes == nil {
		r.Notes = []string{}
	}
	r.InSync = true
	for _, m := range v.members {
		switch m.State {
		case gossip.Alive, gossip.Suspect:
			r.Nodes.Alive++
			if m.Name == v.self || v.said[m.Name].Root == v.root {
				r.Holding++
			} else {
				r.InSync = false
			}
		case gossip.Failed:
			r.Nodes.Failed++
		case gossip.Left:
			r.Nodes.Left++
		}
	}
	return r
}

// daemon gathers one daemon over all nodes.
func (v view) daemon(d daemonView) api.DaemonStatus {
	out := api.DaemonStatus{
		Name: d.name, Revision: d.revision, Generation: d.generation, Digest: d.digest, Image: d.spec.Image,
		AppliedAt: d.created.UTC(), AppliedBy: d.author, Conflict: d.conflict, Nodes: []api.NodeDaemon{},
	}
	var moving, failed []string // names
	var unread []string         // alive nodes that haven't said anything of it yet
	updated := map[string]bool{}
	for _, m := range v.members {
		n, listed := v.node(d, m)
		if !listed {
			continue
		}
		out.Nodes = append(out.Nodes, n)
		has := n.Container != ""
		switch {
		case !n.Placed && has && !d.deleted:
			out.Misplaced++
		case d.deleted:
			if has {
				out.Current++
				moving = append(moving, n.Node)
			}
			continue
		}
		if !n.Placed {
			continue
		}
		out.Desired++
		if m.State == gossip.Failed {
			failed = append(failed, n.Node)
			continue
		}
		if n.State == api.StateUnknown {
			unread = append(unread, n.Node)
		}
		if has {
			out.Current++
		}
		if (has || n.State == api.StateCompleted) && n.Digest == d.digest {
			updated[n.Node] = true
			out.Updated++
		}
		if n.Ready {
			out.Ready++
			if row, _ := v.said[m.Name].row(d.name); !row.Short {
				out.Available++
			}
		}
		if v.said[m.Name].Trouble != "" {
			continue // nothing moves there by itself
		}
		switch n.State {
		case api.StateWaiting, api.StatePulling, api.StateStarting, api.StateStopping:
			moving = append(moving, n.Node)
		case api.StateRunning:
			row, _ := v.said[m.Name].row(d.name)
			if d.spec.Job() && !n.Ready || row.Short {
				moving = append(moving, n.Node) // towards its end, or through min_ready
			}
		}
	}
	pr := v.progress(d.name)
	out.Paused = !d.deleted && (pr.paused != "" || pr.stopped())
	out.State, out.Reason = judge(d, out, updated, moving, unread, failed)
	if !d.deleted && d.conflict == "" && d.problem == "" && out.Desired > 0 {
		if state, reason := v.judgeRollout(d, out, pr); state != "" {
			out.State, out.Reason = state, reason
		}
	}
	return out
}

// judge names the daemon's state, and why.
func judge(d daemonView, s api.DaemonStatus, updated map[string]bool, moving, unread, failed []string) (state, reason string) {
	if d.deleted {
		if len(moving) > 0 {
			return api.DaemonDeleting, "still stopping on " + names(moving)
		}
		return api.DaemonDeleted, "deleted by " + d.author
	}
	switch {
	case d.conflict != "":
		return api.DaemonDegraded, d.conflict
	case d.problem != "":
		return api.DaemonDegraded, d.problem
	case s.Desired == 0:
		return api.DaemonOK, nowhere(s)
	case s.Available == s.Desired && s.Updated == s.Desired:
		if d.varies {
			return api.DaemonOK, "" // nodes may be meant to run different images
		}
		return api.DaemonOK, differentImages(s)
	case len(moving)+len(unread) > 0:
		return api.DaemonRolling, firstReason(s, append(moving, unread...))
	}
	bad := make([]string, 0, 4)
	for _, n := range s.Nodes {
		if n.Placed && (!n.Ready || !updated[n.Node]) {
			bad = append(bad, n.Node)
		}
	}
	// What is wrong on a node that answers comes before a node that does not.
	slices.SortStableFunc(bad, func(a, b string) int {
		return btoi(slices.Contains(failed, a)) - btoi(slices.Contains(failed, b))
	})
	if s.Ready == 0 {
		return api.DaemonFailed, firstReason(s, bad)
	}
	return api.DaemonDegraded, firstReason(s, bad)
}

// nodes answers GET /v1/nodes.
func (v view) nodes() api.Nodes {
	out := api.Nodes{Schema: api.Schema, Nodes: []api.Node{}}
	for _, m := range v.members {
		said := v.said[m.Name]
		n := api.Node{
			Name: m.Name, ID: rollout.MakeID(record.NodeID(m.ID), said.Salt).String(), State: string(m.State), Address: m.Addr, Version: m.Version,
			Labels: said.Labels, Taints: said.Taints, Cordoned: said.Cordoned, Draining: said.Draining, SpecDigest: short(said.Root), LastSeen: timePtr(m.LastSeen),
		}
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		if n.Taints == nil {
			n.Taints = []string{}
		}
		if said.Left && m.State != gossip.Failed {
			n.State = string(gossip.Left)
		}
		for _, d := range said.Daemons {
			if !d.Placed {
				continue
			}
			n.DaemonsPlaced++
			if d.Ready && m.State != gossip.Failed {
				n.DaemonsReady++
			}
		}
		out.Nodes = append(out.Nodes, n)
	}
	return out
}

// why answers GET /v1/why/{name}; ok is false when there is no such daemon,
// or no such node.
func (v view) why(name, node string) (w api.Why, ok bool) {
	i := slices.IndexFunc(v.daemons, func(d daemonView) bool { return d.name == name })
	if i < 0 {
		return api.Why{}, false
	}
	s := v.daemon(v.daemons[i])
	w = api.Why{Schema: api.Schema, Daemon: name, State: s.State, Reason: s.Reason, Nodes: []api.WhyNode{}}
	for _, n := range s.Nodes {
		if node != "" && n.Node != node {
			continue
		}
		row, _ := v.said[n.Node].row(name)
		wn := api.WhyNode{Node: n.Node, Placed: n.Placed, State: n.State, Ready: n.Ready, Reasons: []string{}}
		reasons := row.Reasons
		if n.Reason != row.Reason || len(reasons) == 0 {
			reasons = append([]string{n.Reason}, reasons...) // this node's view of that one
		}
		if row.Next != nil && row.Next.After(v.now) {
			reasons = append(slices.Clone(reasons), "the next attempt comes in "+age(row.Next.Sub(v.now)+time.Second-1))
		}
		for _, r := range reasons {
			if r != "" && !slices.Contains(wn.Reasons, r) {
				wn.Reasons = append(wn.Reasons, r)
			}
		}
		for _, r := range v.chain(name, n.Node) {
			if !slices.Contains(wn.Reasons, r) {
				wn.Reasons = append(wn.Reasons, r)
			}
		}
		if s.Conflict != "" && !slices.Contains(wn.Reasons, s.Conflict) {
			wn.Reasons = append(wn.Reasons, s.Conflict)
		}
		w.Nodes = append(w.Nodes, wn)
	}
	return w, node == "" || len(w.Nodes) > 0
}

// nowhere says why a daemon is meant for no node.
func nowhere(s api.DaemonStatus) string {
	for _, n := range s.Nodes {
		if n.Reason != "" {
			return "meant for no node; " + n.Node + ": " + n.Reason
		}
	}
	return "meant for no node"
}

// differentImages tells of nodes whose tag named another image than most: the
// same signed spec, and yet not the same program.
func differentImages(s api.DaemonStatus) string {
	count := map[string]int{}
	for _, n := range s.Nodes {
		if n.Placed && n.ImageDigest != "" {
			count[n.ImageDigest]++
		}
	}
	if len(count) < 2 {
		return ""
	}
	most := ""
	for d, c := range count {
		if most == "" || c > count[most] || c == count[most] && d < most {
			most = d
		}
	}
	var others []string
	for _, n := range s.Nodes {
		if n.Placed && n.ImageDigest != "" && n.ImageDigest != most {
			others = append(others, n.Node)
		}
	}
	return fmt.Sprintf("%s runs another image under the same tag %s; pin it by digest", names(others), s.Image)
}

// firstReason quotes the first of the named nodes and counts the rest.
func firstReason(s api.DaemonStatus, of []string) string {
	if len(of) == 0 {
		return ""
	}
	for _, n := range s.Nodes {
		if n.Node != of[0] {
			continue
		}
		return quote(n, len(of)-1)
	}
	return names(of)
}

// quote words one node's state, and counts those that are left out.
func quote(n api.NodeDaemon, more int) string {
	text := n.Node + " " + n.State
	if n.Reason != "" {
		text += ": " + n.Reason
	}
	if more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// names lists at most three names and counts the rest.
func names(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// age writes a duration as the tables do: its two greatest units.
func age(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func short(digest string) string { return digest[:min(7, len(digest))] }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
