package rollout

import (
	"fmt"
	"strings"

	"github.com/agentd/agentd/spec/record"
)

// Step is one node's next move in one daemon's rollout. It is pure. The state
// that it returns has to be on the disk before anything of the decision is done
// or told.
func Step(in Input) Decision {
	t := turn{in: in, s: in.State.clone()}
	d := t.decide()
	d.State = t.s
	if d.Run.IsZero() && !d.Delete {
		d.Run = t.s.Current
	}
	return d
}

// turn is the decision under way.
type turn struct {
	in Input
	s  State
	g  Version // the newest version, with its veto
	to Current // what g means here
}

func (t *turn) decide() Decision {
	p := &t.in.Newest
	switch {
	case p.Version.IsZero():
		return Decision{}
	case p.Version.Compare(t.s.Observed.Version) < 0:
		// Merging never goes back, so this is a store that lost something. What
		// is older than what was observed is never taken.
		return t.waits(Wait{Code: WaitHeld, Reason: fmt.Sprintf("%s was seen here before, and only %s is held now",
			t.s.Observed, Of(p.Version))})
	}
	t.observe()
	t.rebooted()
	t.returned()
	if p.Delete {
		t.s.Slot, t.s.Done, t.s.Current, t.s.Asks = nil, t.g, Current{}, NodeID{}
		return Decision{Delete: true}
	}
	if t.to.Digest == "" {
		return t.waits(Wait{Code: WaitFallback, Reason: fmt.Sprintf("it was rolled back, and %s to go back to is not held here", Of(p.Fallback))})
	}
	d := t.place()
	t.failed()
	t.lend()
	return d
}

// observe takes note of the newest version, and of its veto: holding the
// signed failures is observing it.
func (t *turn) observe() {
	p := &t.in.Newest
	t.g = Of(p.Version)
	if t.s.Observed.Version == p.Version {
		t.g = t.s.Observed // a veto stays, whatever is known of the failures now
	}
	if !t.g.Vetoed && p.Vetoed(len(t.failures())) {
		t.g.Vetoed = true
	}
	t.to = Current{Version: t.g, Digest: p.Digest}
	if t.g.Vetoed {
		t.to.Digest = p.FallbackDigest
	}
	if t.g.Compare(t.s.Observed) > 0 {
		t.s.Observed, t.s.Asks = t.g, NodeID{}
		if t.s.Failed != p.Version {
			t.s.Failed = record.Version{}
		}
	}
}

// failures are those known, this node's own included.
func (t *turn) failures() []NodeID {
	peers := t.in.Peers
	if t.s.Failed == t.in.Newest.Version {
		peers = make(map[NodeID]State, len(t.in.Peers)+1)
		for n, s := range t.in.Peers {
			peers[n] = s
		}
		peers[t.in.Self] = t.s
	}
	return Failures(t.in.Newest, peers)
}

// place goes from what needs no turn to what does.
func (t *turn) place() Decision {
	h := &t.in.Here
	switch {
	case !h.Placed && (h.Alive || !h.Known):
		// It stops because it is not meant for this node any more, which is no
		// update. But it is through with g only when it has stopped: what still
		// runs may be meant for this node again before that.
		if t.s.IsDone(t.g) {
			return Decision{Run: t.to}
		}
		return Decision{Run: t.to, Wait: Wait{Code: WaitStops, Reason: "it is not meant for this node any more, and has not stopped yet"}}
	case !h.Placed, h.Closed != "" && t.s.Slot == nil && t.s.Current.IsZero() && h.Known && !h.Alive:
		// Nothing of it runs here, nor is started.
		t.s.Slot, t.s.Done, t.s.Current, t.s.Asks = nil, t.g, Current{}, NodeID{}
		return Decision{Run: t.to}
	case t.s.Slot != nil:
		return t.hold()
	case (t.s.Current.IsZero() || !t.g.Vetoed) && t.s.Current.Digest != t.to.Digest && h.Known && h.Alive && h.Digest == t.to.Digest:
		// Found running, by a node that forgot what it runs, or that was brought
		// along by an agentd that knew no turns.
		t.s.Done, t.s.Current, t.s.Asks = t.g, t.to, NodeID{}
		return Decision{}
	case t.s.IsDone(t.g) && t.s.Current.Digest == t.to.Digest:
		t.s.Current = t.to
		return Decision{}
	case t.s.Current.Digest == t.to.Digest && t.s.Current.Version != t.g:
		// Nothing restarts. A turnless start that is not ready yet has the same
		// digest and the same version, and is done when it is ready.
		t.s.Done, t.s.Current, t.s.Asks = t.g, t.to, NodeID{}
		return Decision{}
	case t.s.Current.Version == t.g:
		if t.ready() {
			t.s.Done = t.g
		}
		return Decision{}
	case t.s.IsDone(t.g):
		// Done while it was not meant for this node, so that nothing runs.
		t.begin()
		return Decision{}
	}
	return t.move()
}

// move decides how this node, which holds no slot, goes on to another digest.
func (t *turn) move() Decision {
	p, h := &t.in.Newest, &t.in.Here
	late := t.late()
	switch {
	case !h.Known:
		return t.waits(Wait{Code: WaitUnknown, Reason: "the container runtime has not been looked at yet"})
	case p.First, !h.Alive && t.s.Current.IsZero():
		t.begin()
		return Decision{}
	}
	if w := t.blocked(); w.Code != "" {
		return t.waits(w)
	}
	switch {
	case late && !h.Alive && p.Strategy != OnDelete:
		t.begin()
		return Decision{}
	case t.s.Lent != nil && t.in.on(ruleLoan):
		return t.waits(Wait{Code: WaitLent, On: []NodeID{t.s.Lent.To},
			Reason: fmt.Sprintf("its turn is lent to %s, which was not there at the apply", t.in.name(t.s.Lent.To))})
	case h.Closed != "":
		return t.waits(Wait{Code: WaitClosed, Reason: h.Closed})
	case p.Strategy == OnDelete && !h.Told:
		return t.waits(Wait{Code: WaitTold, Reason: "update.strategy is on-delete: agentctl restart " + t.in.Daemon + " on this node takes it"})
	case p.Strategy == Rolling:
		var w Wait
		if late {
			w = t.borrow()
		} else {
			t.s.Asks = NodeID{}
			w = t.awaits()
		}
		if w.Code != "" {
			return t.waits(w)
		}
	}
	t.s.Slot = &Slot{Since: t.g, Target: t.g}
	t.begin()
	return Decision{}
}

// hold goes on with the slot that this node has.
func (t *turn) hold() Decision {
	if t.s.Slot.Target.Compare(t.g) < 0 {
		if w := t.halted(); w.Code != "" {
			if t.s.Current.Version == t.s.Slot.Target && t.readyFor(t.s.Current.Digest) {
				t.free(t.s.Slot.Target)
			}
			return t.waits(w)
		}
		t.s.Slot.Target = t.g
		if !t.in.on(ruleSince) {
			t.s.Slot.Since = t.g
		}
		t.begin()
	}
	if t.ready() {
		t.free(t.g)
	} else if t.in.Here.Closed != "" {
		return t.waits(Wait{Code: WaitClosed, Reason: t.in.Here.Closed})
	}
	return Decision{}
}

func (t *turn) free(v Version) {
	t.s.Slot, t.s.Asks = nil, NodeID{}
	if v.Compare(t.s.Done) > 0 {
		t.s.Done = v
	}
}

// begin makes g what is wanted here.
func (t *turn) begin() {
	if t.s.Current.Digest != t.to.Digest {
		t.s.Started = t.g
	}
	t.s.Current, t.s.Asks = t.to, NodeID{}
}

func (t *turn) ready() bool { return t.readyFor(t.to.Digest) }

// readyFor reports whether that digest counts as available here.
func (t *turn) readyFor(digest string) bool {
	p, h := &t.in.Newest, &t.in.Here
	need := p.MinReady
	if t.s.Slot != nil {
		need = max(need, p.HandOver)
	}
	if !t.g.Vetoed && t.canary(t.in.Self) {
		need += p.Bake
	}
	return h.Known && h.Ready && h.Digest == digest && h.ReadyFor >= need
}

func (t *turn) canary(n NodeID) bool {
	for _, c := range t.in.Newest.Canaries {
		if c == n {
			return true
		}
	}
	return false
}

// late reports whether this node is in no lane, or was called down.
func (t *turn) late() bool {
	lane, _ := t.in.Newest.lane(t.in.Self)
	return lane < 0 || t.in.down(t.in.Self)
}

// failed signs that this node was not ready in time. One that is ready and waits
// for min_ready, or bakes, is not late.
func (t *turn) failed() {
	p := &t.in.Newest
	if t.g.Vetoed || t.s.IsDone(t.g) || t.s.Current.Version != t.g || p.Deadline <= 0 || t.late() {
		return
	}
	if t.in.State.Current.Version != t.g {
		return // what is known of trying is about what was wanted before
	}
	if h := t.in.Here; h.Tried >= p.Deadline && !(h.Ready && h.Digest == t.to.Digest) {
		t.s.Failed = p.Version
		if !t.in.on(ruleFree) {
			t.s.Slot = nil
		}
	}
}

// rebooted counts a machine that went down while it changed as failed: a
// version that brings machines down would otherwise go through them all.
func (t *turn) rebooted() {
	if t.in.Here.Rebooted && t.s.Slot != nil && !t.g.Vetoed && t.s.Slot.Target == t.g && !t.late() {
		t.s.Failed = t.in.Newest.Version
	}
}

func (t *turn) waits(w Wait) Decision { return Decision{Wait: w, Run: t.s.Current} }

// names lists at most three nodes and counts the rest.
func (t *turn) names(list []NodeID) string {
	const most = 3
	var out []string
	for i, n := range list {
		if i == most {
			return fmt.Sprintf("%s and %d more", strings.Join(out, ", "), len(list)-most)
		}
		out = append(out, t.in.name(n))
	}
	return strings.Join(out, ", ")
}
