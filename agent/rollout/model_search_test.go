package rollout

import (
	"fmt"
	"strings"
	"time"
)

// config is a ring, what operators do in it, and which faults strike.
type config struct {
	name  string
	nodes int
	ops   []op
	// settled is how many operations are through everywhere before anything else
	// happens; the machines in apart are cut off after the first of them.
	settled int
	apart   uint8
	rejoin  bool // and then things go on until nothing happens by itself
	faults  budget

	bad     string // digests that never get ready,
	badOn   uint8  // on these machines; 0 for all
	noImage string // digests that can't be prepared: the old container stays
	// deadline: rollouts have one, and what never gets ready misses it; slow:
	// so may everything else.
	deadline, slow bool
	older          bool // statements come in any order, not only the newest
	unknown        bool // after a start the runtime is not known at once
	unreachable    bool // any node may seem away at any time
	fullDisk       bool // any write may fail
	tell           bool // operators restart on nodes (on-delete)
	settles        bool // operators write over a conflict
	backwards      bool // older statements replace newer ones
	slowly         bool // the supervisor takes its time to do what it was told
	stale          bool // and what it reports may be from before that
	deep           bool // only in make model
	right          bool // machines that are off are not down by a rollout, and whoever calls them down is right
	outside        bool // only the containers are looked at, not what agents say or write

	// What the protocol forbids, to see what for.
	off    rule
	twice  bool // evidence is asked for in two parts, at two times
	sameID bool // a node that lost its state keeps its id
}

// result is what a search found.
type result struct {
	states   int
	quiet    int // in which nothing happens by itself
	depth    int
	complete bool
	bad      string   // the first violation, breadth first
	trace    []string // how it comes about
	took     time.Duration
}

func (r result) String() string {
	text := fmt.Sprintf("%d states, %d of them quiet, depth %d, %.1fs", r.states, r.quiet, r.depth, r.took.Seconds())
	if !r.complete {
		text += ", not all of them"
	}
	return text
}

// start returns the world in which the search begins.
func (x *explorer) start() *world {
	w := &world{ids: uint8(x.cfg.nodes)}
	for i := range x.cfg.nodes {
		w.m[i].id = uint8(i)
		w.m[i].flags = agentUp | looked
		w.m[i].mem = 1
	}
	for i := range x.cfg.settled {
		x.operators(w, 0, func(e event, _ bool, change func(*world, *machine)) {
			if int(e.x) == i {
				next := *w
				change(&next, &next.m[0])
				*w = next
			}
		})
		if i > 0 {
			x.cut(w, false)
		}
		x.settle(w)
		x.cut(w, true)
	}
	if x.cfg.rejoin {
		x.settle(w)
	}
	w.left = x.cfg.faults
	return w
}

// cut stops or starts the agents of the machines that are apart.
func (x *explorer) cut(w *world, up bool) {
	for i := range x.cfg.nodes {
		if m := &w.m[i]; x.cfg.apart&(1<<i) != 0 {
			m.set(agentUp|looked, up)
			if m.mem = 0; up {
				m.mem = m.disk + 1
			}
		}
	}
}

// settle lets happen what happens by itself until nothing does.
func (x *explorer) settle(w *world) (steps int) {
	for {
		var next *world
		x.moves(w, func(_ event, n *world, progress bool) {
			if progress && next == nil {
				c := *n
				next = &c
			}
		})
		if next == nil {
			return steps
		}
		*w = *next
		if steps++; steps > 10_000 {
			panic("model: it never settles")
		}
	}
}

// explore searches breadth first until it has seen everything, found a
// violation, or reached a limit (0: none).
func explore(cfg *config, maxStates int, until time.Time) result {
	begun := time.Now()
	x := newExplorer(cfg)
	var r result
	first := x.start()
	visited := newSeen()
	key := first.appendKey(nil, cfg.nodes)
	visited.add(key)
	type step struct {
		parent uint32
		e      event
	}
	how := []step{{}}
	level, index := []world{*first}, []uint32{0}
	fail := func(at uint32, bad string) {
		r.bad = bad
		var path []event
		for ; at != 0; at = how[at].parent {
			path = append(path, how[at].e)
		}
		r.trace = x.replay(path)
	}
	finish := func() result {
		r.states, r.took = visited.n, time.Since(begun)
		return r
	}
	for ; len(level) > 0; r.depth++ {
		var nextLevel []world
		var nextIndex []uint32
		for i := range level {
			w, at := &level[i], index[i]
			if i%1024 == 0 && !until.IsZero() && time.Now().After(until) || maxStates > 0 && visited.n > maxStates {
				return finish()
			}
			quiet := true
			x.moves(w, func(e event, next *world, progress bool) {
				quiet = quiet && !progress
				if r.bad != "" {
					return
				}
				key = next.appendKey(key[:0], cfg.nodes)
				isNew := visited.add(key)
				if !isNew && x.bad == "" {
					return
				}
				how = append(how, step{at, e})
				bad := x.bad
				if bad == "" {
					bad = x.check(next)
				}
				if bad != "" {
					fail(uint32(len(how)-1), bad)
					return
				}
				nextLevel = append(nextLevel, *next)
				nextIndex = append(nextIndex, uint32(len(how)-1))
			})
			if r.bad == "" && quiet && !cfg.outside {
				r.quiet++
				if bad := x.stuck(w); bad != "" {
					fail(at, "stuck: "+bad)
				}
			}
			if r.bad != "" {
				return finish()
			}
		}
		level, index = nextLevel, nextIndex
	}
	r.complete = true
	return finish()
}

// visit calls f with the first worlds, breadth first.
func visit(cfg *config, limit int, f func(x *explorer, w world)) {
	x := newExplorer(cfg)
	visited := newSeen()
	var key []byte
	for level := []world{*x.start()}; len(level) > 0 && visited.n < limit; {
		var next []world
		for i := range level {
			f(x, level[i])
			x.moves(&level[i], func(_ event, w *world, _ bool) {
				if key = w.appendKey(key[:0], cfg.nodes); visited.add(key) {
					next = append(next, *w)
				}
			})
		}
		level = next
	}
}

// replay goes the path (last event first) again and tells it in words.
func (x *explorer) replay(path []event) []string {
	w := x.start()
	var out []string
	for i, r := range x.records {
		if w.exists&(1<<i) != 0 {
			out = append(out, "through before: "+r.String())
		}
	}
	for i := len(path) - 1; i >= 0; i-- {
		var next *world
		x.moves(w, func(e event, n *world, _ bool) {
			if next == nil && e == path[i] {
				c := *n
				next = &c
			}
		})
		if next == nil {
			return append(out, fmt.Sprintf("%+v is not possible: the model is not deterministic", path[i]))
		}
		out = append(out, x.say(path[i], w, next))
		w = next
	}
	return out
}

// say says an event in words.
func (x *explorer) say(e event, before, after *world) string {
	who := fmt.Sprintf("n%d ", e.n)
	switch e.kind {
	case evStep:
		return who + x.tellStep(e, before, after)
	case evStatement:
		return who + "hears " + nodeName(idOf(e.x)) + " say: " + x.tellState(x.states[after.known(int(e.n), e.x)])
	case evRecord:
		return who + "gets " + x.records[e.x].String()
	case evHear:
		return who + "hears the operator: " + x.tellOp(after, int(e.x))
	case evOp:
		o := x.cfg.ops[e.x]
		if o.kind == opApply || o.kind == opDelete {
			made := after.exists &^ before.exists
			for i, r := range x.records {
				if made&(1<<i) != 0 {
					return who + "has an operator who signs " + r.String()
				}
			}
		}
		return who + "has an operator: " + x.tellOp(after, int(e.x))
	}
	return who + map[evKind]string{
		evReady: "has its container ready", evTried: "misses the deadline", evExit: "has its container exit",
		evCrash: "has its agent killed", evReboot: "has a power cut", evLoss: "loses its disk and gets a new id",
		evStart: "has its agent start", evLook: "looks at its container runtime", evRelabel: "gets other labels",
		evCordon: "is cordoned or uncordoned", evTold: "is told to take the newest", evLeave: "leaves the ring", evRejoin: "joins again",
		evTurn: "has its supervisor look at what is wanted", evSwitch: "has its supervisor do what it began",
	}[e.kind]
}

func (x *explorer) tellOp(w *world, i int) string {
	s := w.signed[i]
	g := x.records[s.on-1].rec.Generation
	switch x.cfg.ops[i].kind {
	case opPause:
		return fmt.Sprintf("pause, at generation %d", g)
	case opResume:
		return fmt.Sprintf("resume, at generation %d, forgiving %s", g, x.idNames(s.ids))
	}
	return fmt.Sprintf("skip %s, at generation %d", nodeName(idOf(s.ids)), g)
}

func (x *explorer) idNames(mask uint8) string {
	var names []string
	for i := range uint8(maxIDs) {
		if mask&(1<<i) != 0 {
			names = append(names, nodeName(idOf(i)))
		}
	}
	if names == nil {
		return "nobody"
	}
	return strings.Join(names, " ")
}

func (x *explorer) tellStep(e event, before, after *world) string {
	was, is := &before.m[e.n], &after.m[e.n]
	text := "decides: " + x.tellState(x.states[is.disk])
	if e.y != 0 {
		text += ", can't reach " + x.idNames(e.y)
	}
	if is.disk == was.disk {
		text = "decides nothing new"
	}
	switch e.x {
	case stepFails:
		text = "can't write its state down"
	case stepDiesBefore:
		return "has its agent killed before it wrote its state down"
	case stepDiesAfter:
		return text + "; its agent is killed before it acts"
	}
	switch {
	case is.box == 0 && was.box != 0:
		text += fmt.Sprintf("; stops %c", was.box)
	case is.box != was.box && was.box == 0:
		text += fmt.Sprintf("; starts %c", is.box)
	case is.box != was.box && was.is(alive):
		text += fmt.Sprintf("; takes %c down and starts %c", was.box, is.box)
	case is.box != was.box:
		text += fmt.Sprintf("; starts %c in place of %c, which did not run", is.box, was.box)
	case !was.is(alive) && is.is(alive):
		text += fmt.Sprintf("; starts %c again", is.box)
	}
	return text
}

func (x *explorer) tellState(s State) string {
	v := func(v Version) string {
		text := fmt.Sprint(v.Generation)
		for i, r := range x.records {
			if r.plan.Version == v.Version && r.op != i {
				text += "." + v.Digest.Short()[:2]
			}
		}
		if v.Vetoed {
			text += " vetoed"
		}
		return text
	}
	text := "observed " + v(s.Observed)
	if s.Slot != nil {
		text += ", slot since " + v(s.Slot.Since)
		if s.Slot.Target != s.Slot.Since {
			text += " for " + v(s.Slot.Target)
		}
	}
	text += ", done " + v(s.Done)
	if s.Lent != nil {
		text += fmt.Sprintf(", lent to %s for %s", nodeName(s.Lent.To), v(s.Lent.For))
	}
	if !(s.Asks == NodeID{}) {
		text += ", asks " + nodeName(s.Asks)
	}
	if s.Failed.Generation > 0 {
		text += fmt.Sprintf(", failed %d", s.Failed.Generation)
	}
	return text
}
