package rollout

import (
	"cmp"
	"fmt"
	"slices"
)

// halted is why nobody changes anything now, not even who holds a slot.
func (t *turn) halted() Wait {
	switch {
	case t.in.Newest.Held != "":
		return Wait{Code: WaitHeld, Reason: t.in.Newest.Held}
	case t.in.Paused != "":
		return Wait{Code: WaitPaused, Reason: t.in.Paused}
	}
	return Wait{}
}

// blocked is why nobody begins with g now.
func (t *turn) blocked() Wait {
	if w := t.halted(); w.Code != "" {
		return w
	}
	if t.g.Vetoed {
		return Wait{} // the way back is not stopped by what it mends
	}
	failed := slices.DeleteFunc(t.failures(), func(n NodeID) bool { return t.in.Forgiven[n] })
	if len(failed) >= t.in.Newest.Threshold() {
		return Wait{Code: WaitFailures, On: failed, Reason: fmt.Sprintf("stopped because %s failed; agentctl rollout resume %s goes on all the same",
			t.names(failed), t.in.Daemon)}
	}
	return Wait{}
}

// awaits asks the evidence of a lane's member for its turn. Evidence that is
// missing only makes it wait.
func (t *turn) awaits() Wait {
	if !t.in.on(ruleEvidence) {
		return Wait{}
	}
	p := &t.in.Newest
	if w := t.deaths(); w.Code != "" {
		return w
	}
	if !t.g.Vetoed && !t.canary(t.in.Self) && t.in.on(ruleCanary) {
		if on := t.missing(p.Canaries, func(s State) bool { return t.done(s, t.g) }); len(on) > 0 {
			return t.wait(WaitCanary, on, "its turn comes after the canaries; %s %s not done")
		}
	}
	lane, place := p.lane(t.in.Self)
	if t.in.on(ruleBefore) {
		if on := t.missing(p.Lanes[lane][:place], func(s State) bool { return t.done(s, t.g) }); len(on) > 0 {
			// The nearest one says how far it is: the rest are its business.
			return t.wait(WaitTurn, on, "its turn comes after %s")
		}
	}
	if t.in.on(rulePast) {
		if on := t.missing(p.Lanes[lane], func(s State) bool { return t.past(s, t.g) }); len(on) > 0 {
			return t.wait(WaitPast, on, "%s %s not through with an older revision, or did not say so")
		}
	}
	return Wait{}
}

func (t *turn) past(s State, g Version) bool {
	if !t.in.on(ruleTotal) {
		return s.Observed.Generation >= g.Generation && (s.Slot == nil || s.Slot.Since.Generation >= g.Generation) &&
			(s.Lent == nil || s.Lent.For.Generation >= g.Generation)
	}
	if !t.in.on(ruleLoan) {
		s.Lent = nil
	}
	return s.Past(g)
}

func (t *turn) done(s State, g Version) bool {
	if !t.in.on(ruleTotal) {
		return s.Done.Generation >= g.Generation
	}
	return s.IsDone(g)
}

// missing returns those of list for whom there is no proof of fact, but for
// this node and those that are down by a signed word.
func (t *turn) missing(list []NodeID, fact func(State) bool) []NodeID {
	var out []NodeID
	for _, m := range list {
		if m == t.in.Self || t.in.down(m) {
			continue
		}
		if s, ok := t.in.Peers[m]; !ok || !fact(s) {
			out = append(out, m)
		}
	}
	return out
}

// deaths holds this node back while a node is away that went down after it
// began to start g: the version may be what brings machines down.
func (t *turn) deaths() Wait {
	if t.g.Vetoed {
		return Wait{}
	}
	var dead []NodeID
	for m, s := range t.in.Peers {
		if m != t.in.Self && t.in.Down[m] && !t.in.down(m) && s.Started.Version == t.g.Version {
			dead = append(dead, m)
		}
	}
	if len(dead) == 0 {
		return Wait{}
	}
	slices.SortFunc(dead, func(a, b NodeID) int { return slices.Compare(a[:], b[:]) })
	return Wait{Code: WaitDeath, On: dead, Reason: fmt.Sprintf("%s can't be reached since it started this revision; agentctl rollout skip %s %s goes on without it",
		t.names(dead), t.in.Daemon, t.in.name(dead[0]))}
}

// wait words a wait for nodes. The format takes the names and, if it has two
// verbs, is or are.
func (t *turn) wait(code Code, on []NodeID, format string) Wait {
	verb := "is"
	if len(on) > 1 {
		verb = "are"
	}
	var text string
	if code == WaitTurn {
		text = fmt.Sprintf(format, t.names(on))
	} else {
		text = fmt.Sprintf(format, t.names(on), verb)
	}
	for _, m := range on {
		if t.in.Down[m] {
			text += fmt.Sprintf("; %s can't be reached: agentctl rollout skip %s %s goes on without it", t.in.name(m), t.in.Daemon, t.in.name(m))
			break
		}
	}
	return Wait{Code: code, On: on, Reason: text}
}

// borrow is how a late node with something running gets a turn: it asks the
// last node of a lane, and waits until that node signed that it lends.
func (t *turn) borrow() Wait {
	if !t.in.on(ruleLate) || !t.in.on(ruleEvidence) {
		return Wait{}
	}
	p := &t.in.Newest
	if w := t.deaths(); w.Code != "" {
		return w
	}
	for _, lane := range p.Lanes {
		last := lane[len(lane)-1]
		if l := t.in.Peers[last].Lent; l != nil && l.To == t.in.Self && l.For == t.g {
			return Wait{}
		}
	}
	lender, ok := t.lender()
	if !ok {
		t.s.Asks = NodeID{}
		return Wait{Code: WaitLate, Reason: "this node was not there at the apply, and no lane's last node can lend it a turn: apply again"}
	}
	t.s.Asks = lender
	return Wait{Code: WaitLate, On: []NodeID{lender}, Reason: fmt.Sprintf(
		"this node was not there at the apply; it gets a turn from %s when the lane of that node is done", t.in.name(lender))}
}

// lender picks whom to ask: the last node of a lane that is not away, from the
// lane on that this node's id falls to, so that late nodes spread over lanes.
func (t *turn) lender() (NodeID, bool) {
	lanes := t.in.Newest.Lanes
	lends := func(m NodeID) bool { return m != t.in.Self && !t.in.down(m) && !t.in.Down[m] }
	if len(lanes) == 0 {
		return NodeID{}, false
	}
	for _, lane := range lanes {
		if last := lane[len(lane)-1]; last == t.s.Asks && lends(last) {
			return last, true // whoever was asked may have lent already
		}
	}
	home := int(t.in.Self[15]) % len(lanes)
	for i := range lanes {
		lane := lanes[(home+i)%len(lanes)]
		if last := lane[len(lane)-1]; lends(last) {
			return last, true
		}
	}
	return NodeID{}, false
}

// lend gives this node's turn to a late one that asks for it. It is the last of
// its lane, the lane is through, and so are the canaries; until the borrower is
// done the loan is this node's slot. A cordoned node lends nothing: the next
// record may leave it out.
func (t *turn) lend() {
	p := &t.in.Newest
	lane, place := p.lane(t.in.Self)
	if lane < 0 || place != len(p.Lanes[lane])-1 || t.s.Slot != nil || t.s.Lent != nil || !t.s.IsDone(t.g) ||
		t.in.down(t.in.Self) || t.in.Here.Closed != "" || t.blocked().Code != "" || t.deaths().Code != "" {
		return
	}
	isDone := func(s State) bool { return s.IsDone(t.g) }
	if t.in.on(ruleOldest) && len(t.missing(p.Lanes[lane], isDone)) > 0 || len(t.missing(p.Canaries, isDone)) > 0 {
		return
	}
	var asking []NodeID
	for m, s := range t.in.Peers {
		if s.Asks == t.in.Self && s.Observed == t.g && !s.IsDone(t.g) && m != t.in.Self {
			asking = append(asking, m)
		}
	}
	if len(asking) == 0 {
		return
	}
	to := slices.MinFunc(asking, func(a, b NodeID) int { return slices.Compare(a[:], b[:]) })
	t.s.Lent = &Loan{To: to, For: t.g, Word: t.in.Words[to]}
}

// returned ends a loan whose borrower is done, is past it without the slot, or
// was called down since.
func (t *turn) returned() {
	l := t.s.Lent
	if l == nil {
		return
	}
	s, ok := t.in.Peers[l.To]
	switch {
	case t.in.Words[l.To] > l.Word:
	case ok && s.IsDone(l.For):
	case ok && s.Observed.Compare(l.For) > 0 && (s.Slot == nil || s.Slot.Since.Compare(l.For) > 0):
	default:
		return
	}
	t.s.Lent = nil
}

// Order sorts nodes of lanes as their turns come: canaries, then place by
// place, lane by lane.
func (p Plan) Order() []NodeID {
	type turn struct {
		canary      int
		place, lane int
		node        NodeID
	}
	var all []turn
	for i, lane := range p.Lanes {
		for j, n := range lane {
			c := 1
			if slices.Contains(p.Canaries, n) {
				c = 0
			}
			all = append(all, turn{c, j, i, n})
		}
	}
	slices.SortFunc(all, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.canary, b.canary), cmp.Compare(a.place, b.place), cmp.Compare(a.lane, b.lane))
	})
	out := make([]NodeID, len(all))
	for i, t := range all {
		out[i] = t.node
	}
	return out
}
