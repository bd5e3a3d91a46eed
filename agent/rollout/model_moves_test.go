package rollout

import (
	"math/bits"
	"slices"
	"strings"
)

// event is one thing that happens to machine n.
type event struct {
	kind evKind
	n, x uint8
	y    uint8
}

type evKind uint8

const (
	evStep      evKind = iota // x: how it ends; y: who is not reached
	evStatement               // x: whose; y: which
	evRecord                  // x: which
	evHear                    // x: which operation
	evReady
	evTried
	evExit
	evCrash
	evReboot
	evLoss
	evStart
	evLook
	evRelabel
	evCordon
	evTold
	evTurn
	evSwitch
	evLeave
	evRejoin
	evOp // x: which operation
)

// moves calls emit with every world that may follow, and whether the move is
// one that happens by itself sooner or later.
func (x *explorer) moves(w *world, emit func(e event, next *world, progress bool)) {
	for i := range x.cfg.nodes {
		n := uint8(i)
		m := &w.m[i]
		try := func(e event, progress bool, change func(w *world, m *machine)) {
			next := *w
			x.bad = ""
			change(&next, &next.m[i])
			if !x.cfg.twice && !x.cfg.backwards {
				next.trim(x.cfg.nodes, x.cfg.older)
			}
			emit(e, &next, progress)
		}
		x.faults(w, i, try)
		if !m.is(agentUp) {
			try(event{kind: evStart, n: n}, false, func(w *world, m *machine) {
				m.set(agentUp, true)
				m.set(looked, !x.cfg.unknown)
				m.mem = m.disk + 1
			})
			continue
		}
		if !m.is(looked) {
			try(event{kind: evLook, n: n}, true, func(w *world, m *machine) { m.set(looked, true) })
		}
		if m.box > 0 && m.is(alive) && !m.is(ready) && !x.never(i, m.box, x.cfg.bad) {
			try(event{kind: evReady, n: n}, true, func(w *world, m *machine) {
				m.set(ready, true)
				m.set(taken, false)
				m.set(tried, m.is(tried) && m.want != m.box)
			})
		}
		x.supervising(w, i, try)
		x.messages(w, i, try)
		if m.is(gone) {
			try(event{kind: evRejoin, n: n}, false, func(w *world, m *machine) {
				m.set(gone, false)
				if !x.cfg.sameID { // see Keeper.Rejoined
					m.past |= 1 << m.id
					m.left |= m.past
					m.id, m.disk, m.mem = w.ids, 0, 1
					w.ids++
				}
			})
			continue
		}
		x.operators(w, i, try)
		x.stepping(w, i, try)
	}
}

// supervising is a supervisor that reads what is wanted, and replaces the
// container some time later. What it reports in between is that it is not
// ready; see Here.Ready.
func (x *explorer) supervising(w *world, i int, try tryFunc) {
	m := &w.m[i]
	if !x.cfg.slowly || m.want == 0 {
		return
	}
	if m.doing == 0 && (!m.is(fresh) || m.box != m.want) {
		try(event{kind: evTurn, n: uint8(i)}, true, func(w *world, m *machine) {
			if m.set(fresh, true); m.box != m.want {
				m.doing = m.want
				m.set(fresh, false)
			}
		})
	}
	if m.doing != 0 {
		try(event{kind: evSwitch, n: uint8(i)}, true, func(w *world, m *machine) {
			if m.is(alive) && !x.records[m.accepted-1].plan.First {
				if m.set(taken, true); x.states[m.disk].Slot == nil && !x.cfg.outside {
					x.bad = "a container that runs is replaced, and no turn is on the disk"
				}
			}
			m.box, m.doing = m.doing, 0
			m.set(alive, true)
			m.set(ready|tried, false)
			m.set(fresh, m.box == m.want)
		})
	}
}

// never reports whether a digest is one of those given, on machine i.
func (x *explorer) never(i int, digest uint8, of string) bool {
	return digest > 0 && strings.IndexByte(of, digest) >= 0 && (x.cfg.badOn == 0 || x.cfg.badOn&(1<<i) != 0)
}

type tryFunc = func(e event, progress bool, change func(w *world, m *machine))

func (x *explorer) stepping(w *world, i int, try tryFunc) {
	m := &w.m[i]
	actual := x.away(w)
	downs := []uint8{actual}
	if actual != 0 || x.cfg.unreachable {
		downs = append(downs, 0)
	}
	if x.cfg.unreachable {
		for j := range w.ids {
			downs = append(downs, 1<<j)
		}
		downs = append(downs, 1<<w.ids-1)
	}
	for j, down := range downs {
		if slices.Contains(downs[:j], down) {
			continue
		}
		ends := []uint8{stepDone}
		if x.cfg.fullDisk {
			ends = append(ends, stepFails)
		}
		if w.left.crash > 0 {
			ends = append(ends, stepDiesBefore, stepDiesAfter)
		}
		for _, end := range ends {
			v, conflict := x.view(w, i, down, end)
			o := x.step(v, conflict)
			if end != stepDone && o.disk == m.disk && !o.died && o.mem == m.mem {
				continue // nothing had to be written
			}
			next := *w
			next.m[i].accepted = v.rec
			x.bad = ""
			x.after(&next, i, o, v, m)
			if next == *w && x.bad == "" {
				continue
			}
			bad := x.bad
			try(event{evStep, uint8(i), end, down}, end == stepDone && down == actual, func(w *world, _ *machine) { *w, x.bad = next, bad })
		}
	}
}

// after takes the outcome of a step into the world.
func (x *explorer) after(w *world, i int, o *outcome, v view, before *machine) {
	m := &w.m[i]
	if o.bad != "" && !x.cfg.outside {
		x.bad = o.bad
	}
	if o.disk != m.disk {
		m.set(rebooted, false)
	}
	m.disk = o.disk
	if now := x.states[m.disk]; now.Current.IsZero() && now.Slot == nil && !now.Done.IsZero() && now.IsDone(now.Observed) {
		m.set(taken, false) // deleted, or not meant for this node: an operator's word, and no rollout, keeps it down
	}
	if o.died {
		w.left.crash--
		m.mem, m.want, m.doing = 0, 0, 0
		m.set(agentUp|looked|fresh, false)
		return
	}
	m.mem = o.mem
	if x.cfg.older && m.mem != before.mem {
		w.tell(m.id, x.word(m.mem))
	}
	x.act(w, i, o.d, v.rec, before)
}

// away are the ids that nobody answers for.
func (x *explorer) away(w *world) uint8 {
	var down uint8
	for id := range w.ids {
		if o := w.owner(x.cfg.nodes, id); o < 0 || !w.m[o].is(agentUp) {
			down |= 1 << id
		}
	}
	return down
}

func (x *explorer) messages(w *world, i int, try tryFunc) {
	n, m := uint8(i), &w.m[i]
	for id := range w.ids {
		if id == m.id {
			continue
		}
		k, last := m.know[id], w.ntold[id]
		owner := w.owner(x.cfg.nodes, id)
		if !x.cfg.older && owner >= 0 && w.m[owner].is(agentUp) {
			word := x.word(w.m[owner].mem)
			left := m.left&^(1<<id) | w.m[owner].past
			if w.m[owner].is(gone) {
				left |= 1 << id
			}
			if word != w.known(i, id) || left != m.left {
				try(event{evStatement, n, id, 255}, true, func(w *world, m *machine) {
					m.left = left
					if word != 0 {
						m.know[id] = w.tell(id, word)
					}
				})
			}
			continue
		}
		for s := k + 1; s <= last; s++ {
			try(event{evStatement, n, id, s}, true, func(w *world, m *machine) { m.know[id] = s })
		}
		for s := uint8(1); x.cfg.backwards && s < k; s++ {
			try(event{evStatement, n, id, s}, false, func(w *world, m *machine) { m.know[id] = s })
		}
	}
	for b := w.exists &^ m.records; b != 0; b &= b - 1 {
		r := bits.TrailingZeros64(b)
		try(event{evRecord, n, uint8(r), 0}, true, func(w *world, m *machine) { m.records |= 1 << r })
	}
	for j := range x.cfg.ops {
		if w.signed[j].on > 0 && m.heard&(1<<j) == 0 {
			try(event{evHear, n, uint8(j), 0}, true, func(w *world, m *machine) { m.heard |= 1 << j })
		}
	}
}

func (x *explorer) faults(w *world, i int, try tryFunc) {
	n, m := uint8(i), &w.m[i]
	stop := func(m *machine) {
		m.mem, m.want, m.doing = 0, 0, 0
		m.set(agentUp|looked|fresh, false)
	}
	if w.left.crash > 0 && m.is(agentUp) {
		try(event{kind: evCrash, n: n}, false, func(w *world, m *machine) { w.left.crash--; stop(m) })
	}
	if w.left.reboot > 0 {
		try(event{kind: evReboot, n: n}, false, func(w *world, m *machine) {
			w.left.reboot--
			stop(m)
			m.set(alive|ready|tried, false)
			m.set(rebooted, true)
		})
	}
	if w.left.loss > 0 && !m.is(agentUp) && w.ids < maxIDs {
		try(event{kind: evLoss, n: n}, false, func(w *world, m *machine) {
			w.left.loss--
			m.disk, m.accepted = 0, 0
			m.set(rebooted, false)
			if !x.cfg.sameID {
				m.id = w.ids
				w.ids++
			}
		})
	}
	if w.left.exit > 0 && m.is(alive) {
		try(event{kind: evExit, n: n}, false, func(w *world, m *machine) { w.left.exit--; m.set(alive|ready, false) })
	}
	if w.left.relabel > 0 {
		try(event{kind: evRelabel, n: n}, false, func(w *world, m *machine) { w.left.relabel--; m.set(relabelled, !m.is(relabelled)) })
	}
	if w.left.cordon > 0 {
		try(event{kind: evCordon, n: n}, false, func(w *world, m *machine) { w.left.cordon--; m.set(cordoned, !m.is(cordoned)) })
	}
	if w.left.leave > 0 && m.is(agentUp) && !m.is(gone) {
		try(event{kind: evLeave, n: n}, false, func(w *world, m *machine) { x.leave(w, m) })
	}
	never := x.never(i, m.want, x.cfg.bad+x.cfg.noImage)
	if x.cfg.deadline && m.want > 0 && !m.is(tried) && m.is(agentUp) && (m.box != m.want || !m.is(ready)) && (never || x.cfg.slow) {
		try(event{kind: evTried, n: n}, never, func(w *world, m *machine) { m.set(tried, true) })
	}
	if x.cfg.tell && !m.is(told) && m.is(agentUp) {
		try(event{kind: evTold, n: n}, false, func(w *world, m *machine) {
			m.set(told, true)
			w.wrong |= 1 << n // takes this node down by an operator's word
		})
	}
}

// leave stops everything on a node and tells the others, as agentctl leave does.
func (x *explorer) leave(w *world, m *machine) {
	w.left.leave--
	d := &disk{}
	k := NewKeeper(Identity{Node: idOf(m.id)}, map[string]State{daemonKey.Name: x.states[m.mem-1]}, d)
	if err := k.Left(); err != nil {
		panic(err)
	}
	m.disk = x.intern(d.states[daemonKey.Name])
	m.mem = m.disk + 1
	m.box, m.want = 0, 0
	m.set(alive|ready|tried|taken|rebooted, false)
	m.set(gone, true)
}

func (x *explorer) operators(w *world, i int, try tryFunc) {
	m := &w.m[i]
	for j := range x.cfg.ops {
		o := &x.cfg.ops[j]
		if w.fired&(1<<j) != 0 || w.fired&o.after != o.after {
			continue
		}
		r, conflict := x.newest(m.records)
		if on := -1; r < 0 && o.on != on || r >= 0 && (x.records[r].op != o.on || m.accepted != uint8(r+1)) || conflict != "" && !x.cfg.settles {
			continue
		}
		try(event{evOp, uint8(i), uint8(j), 0}, false, func(w *world, m *machine) {
			w.fired |= 1 << j
			switch o.kind {
			case opApply, opDelete:
				s := x.sign(w, i, j)
				w.exists |= 1 << s
				m.records |= 1 << s
				if !x.records[s].finished {
					w.wrong |= o.drop
				}
				return
			case opSkip:
				w.signed[j].ids = w.m[o.node].id
				w.wrong |= 1 << o.node
			case opResume:
				in := x.gather(w, i, 0)
				in.Peers[idOf(m.id)] = x.states[m.mem-1]
				for _, f := range Failures(in.Newest, in.Peers) {
					w.signed[j].ids |= 1 << (f[0] - 1)
				}
			}
			w.signed[j].on = uint8(r + 1)
			m.heard |= 1 << j
		})
	}
}
