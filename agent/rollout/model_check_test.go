package rollout

import (
	"fmt"
	"math/bits"
)

// check returns what is wrong with a world, looking at its containers.
func (x *explorer) check(w *world) string {
	down, names, wrong := 0, "", w.wrong
	for i := range x.cfg.nodes {
		if m := &w.m[i]; x.cfg.right && !m.is(agentUp) && !m.is(alive) {
			wrong &^= 1 << i // the word that it is down is right
			continue
		}
		if w.m[i].is(taken) {
			down++
			names += fmt.Sprintf(" n%d", i)
		}
	}
	if limit := x.bound(w.exists) + bits.OnesCount8(wrong); down > limit {
		return fmt.Sprintf("%d nodes are down, at most %d may be:%s", down, limit, names)
	}
	if x.cfg.outside {
		return ""
	}
	// What a node said can't be unsaid by a crash.
	for i := range x.cfg.nodes {
		m := &w.m[i]
		for j := range w.ntold[m.id] {
			if bad := x.undone(w.told[m.id][j], m.disk); bad != "" {
				return fmt.Sprintf("n%d said what its disk does not say: %s", i, bad)
			}
		}
	}
	return ""
}

// bound is the largest k since the last finished rollout. Two operators who
// dealt lanes anew at the same moment may add up.
func (x *explorer) bound(exists uint64) int {
	if b, ok := x.bounds[exists]; ok {
		return b
	}
	top := 0
	for b := exists; b != 0; b &= b - 1 {
		r := x.records[bits.TrailingZeros64(b)]
		top = max(top, r.bound)
		for c := b & (b - 1); c != 0; c &= c - 1 {
			o := x.records[bits.TrailingZeros64(c)]
			if r.finished && o.finished && r.base == o.base && r.rec.Generation == o.rec.Generation &&
				fmt.Sprint(r.plan.Lanes) != fmt.Sprint(o.plan.Lanes) {
				top = max(top, r.body.Rollout.K+o.body.Rollout.K)
			}
		}
	}
	x.bounds[exists] = top
	return top
}

// stuck is called for a world in which nothing happens by itself any more. It
// returns which node waits without a root that can be named.
func (x *explorer) stuck(w *world) string {
	for i := range x.cfg.nodes {
		if why := x.root(w, i, 0); why != "" {
			return why
		}
	}
	return ""
}

// root follows what machine n waits for; "" when it is done, or when the end of
// the chain can be named.
func (x *explorer) root(w *world, n int, passed uint8) string {
	m := &w.m[n]
	if !m.is(agentUp) || m.is(gone) {
		return "" // a dead node, or one that left
	}
	if passed&(1<<n) != 0 {
		return fmt.Sprintf("n%d waits for itself", n)
	}
	passed |= 1 << n
	v, conflict := x.view(w, n, x.away(w), stepDone)
	o := x.step(v, conflict)
	if v.rec == 0 {
		return ""
	}
	plan := &x.records[v.rec-1].plan
	s := x.states[m.mem-1]
	g := s.Observed
	wait := o.d.Wait
	follow := func(ids []NodeID, fact func(State) bool) string {
		for _, id := range ids {
			if w.m[n].know[id[0]-1] > 0 && fact(x.states[w.known(n, id[0]-1)]) {
				return fmt.Sprintf("n%d waits for %s, which is through: %s", n, nodeName(id), wait.Reason)
			}
			owner := w.owner(x.cfg.nodes, id[0]-1)
			if owner < 0 {
				for i := range x.cfg.nodes {
					if w.m[i].past&(1<<(id[0]-1)) != 0 && w.m[i].is(agentUp) {
						return fmt.Sprintf("n%d waits for %s, which left", n, nodeName(id))
					}
				}
				continue // it has lost its disk
			}
			if why := x.root(w, owner, passed); why != "" {
				return fmt.Sprintf("n%d (%s) > %s", n, wait.Code, why)
			}
		}
		return ""
	}
	switch wait.Code {
	case "":
		return x.busy(w, n, s, plan)
	case WaitPaused, WaitHeld, WaitDeath, WaitClosed, WaitTold, WaitFallback, WaitFailures, WaitStops:
		if wait.Reason == "" || (wait.Code == WaitDeath || wait.Code == WaitFailures) && len(wait.On) == 0 {
			return fmt.Sprintf("n%d waits without a reason: %+v", n, wait)
		}
		return ""
	case WaitTurn, WaitCanary:
		return follow(wait.On, func(s State) bool { return s.IsDone(g) })
	case WaitPast:
		return follow(wait.On, func(s State) bool { return s.Past(g) })
	case WaitLent:
		return follow(wait.On, func(s State) bool { return s.IsDone(g) })
	case WaitLate:
		return x.borrowing(w, n, passed, plan, v, follow, wait)
	}
	return fmt.Sprintf("n%d waits: %+v", n, wait)
}

// busy is a node that waits for nobody: done, or with a container that does not
// get ready.
func (x *explorer) busy(w *world, n int, s State, plan *Plan) string {
	m := &w.m[n]
	never := x.never(n, m.want, x.cfg.bad+x.cfg.noImage)
	switch {
	case s.IsDone(s.Observed), never, m.is(cordoned):
		return ""
	}
	return fmt.Sprintf("n%d neither waits nor is done: %+v", n, s)
}

// borrowing is a late node. Its lender names no wait, since it is done itself;
// what it needs before it lends is what the late node waits for.
func (x *explorer) borrowing(w *world, n int, passed uint8, plan *Plan, v view, follow func([]NodeID, func(State) bool) string, wait Wait) string {
	if len(wait.On) == 0 {
		for _, lane := range plan.Lanes {
			last := lane[len(lane)-1]
			owner := w.owner(x.cfg.nodes, last[0]-1)
			if owner >= 0 && owner != n && w.m[owner].is(agentUp) && !w.m[owner].is(gone) && v.words[last[0]-1] == 0 {
				return fmt.Sprintf("n%d is late and could ask %s: %s", n, nodeName(last), wait.Reason)
			}
		}
		return ""
	}
	lender := wait.On[0]
	owner := w.owner(x.cfg.nodes, lender[0]-1)
	if owner < 0 || !w.m[owner].is(agentUp) {
		return ""
	}
	if why := x.root(w, owner, passed); why != "" {
		return fmt.Sprintf("n%d (late) > %s", n, why)
	}
	l := x.states[w.m[owner].mem-1]
	lv, lc := x.view(w, owner, x.away(w), stepDone)
	in := x.input(lv, lc)
	t := turn{in: in, s: l, g: l.Observed}
	switch {
	case t.blocked().Code != "", t.deaths().Code != "", l.Slot != nil, in.down(lender):
		return ""
	case !l.IsDone(l.Observed):
		return "" // its own root was followed
	case l.Lent != nil:
		if to := w.owner(x.cfg.nodes, l.Lent.To[0]-1); to >= 0 && to != n {
			return x.root(w, to, passed)
		} else if to < 0 {
			return ""
		}
	}
	lane, _ := in.Newest.lane(lender)
	if lane >= 0 {
		isDone := func(s State) bool { return s.IsDone(l.Observed) }
		if on := append(t.missing(in.Newest.Lanes[lane], isDone), t.missing(in.Newest.Canaries, isDone)...); len(on) > 0 {
			to := w.owner(x.cfg.nodes, on[0][0]-1)
			if to < 0 || !w.m[to].is(agentUp) {
				return ""
			}
			return x.root(w, to, passed)
		}
	}
	return fmt.Sprintf("n%d is late, and nothing keeps %s from lending", n, nodeName(lender))
}
