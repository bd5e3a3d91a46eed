package rollout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentd/agentd/spec/record"
)

// How a step ends.
const (
	stepDone       uint8 = iota
	stepFails            // the disk is full
	stepDiesBefore       // the agent is killed while it writes, nothing is written
	stepDiesAfter        // the agent is killed after it wrote, before it acts
)

// explorer holds what is the same in all worlds of one configuration.
type explorer struct {
	cfg      *config
	states   []State
	stateOf  map[flatState]uint16
	records  []*signedRecord
	recordOf map[string]int
	entries  map[uint64]record.Entry
	winners  map[uint64]winner
	steps    map[view]*outcome
	bounds   map[uint64]int
	wordOf   map[uint16]uint16
	undoes   map[[3]int]string
	bad      string // what the last move violated
}

type winner struct {
	r        int
	conflict string
}

func newExplorer(cfg *config) *explorer {
	x := &explorer{cfg: cfg, stateOf: map[flatState]uint16{}, recordOf: map[string]int{}, entries: map[uint64]record.Entry{},
		winners: map[uint64]winner{}, steps: map[view]*outcome{}, bounds: map[uint64]int{},
		wordOf: map[uint16]uint16{}, undoes: map[[3]int]string{}}
	x.intern(State{}) // 0
	return x
}

// flatState is a State that is a map's key.
type flatState struct {
	s          State
	slot       Slot
	lent       Loan
	held, lend bool
}

func (x *explorer) intern(s State) uint16 {
	f := flatState{s: s}
	if s.Slot != nil {
		f.slot, f.held = *s.Slot, true
	}
	if s.Lent != nil {
		f.lent, f.lend = *s.Lent, true
	}
	f.s.Slot, f.s.Lent = nil, nil
	if i, ok := x.stateOf[f]; ok {
		return i
	}
	if len(x.states) == 1<<16 {
		panic("model: too many states of one node")
	}
	x.states = append(x.states, s.clone())
	x.stateOf[f] = uint16(len(x.states) - 1)
	return uint16(len(x.states) - 1)
}

// view is all that a step of a node depends on.
type view struct {
	mem, disk, flags                   uint16
	id, box, rec, forgiven, down, ends uint8
	held, paused, placed               bool
	words                              [maxIDs]uint8
	peers                              [maxIDs]uint16
}

// outcome is what a step gives.
type outcome struct {
	mem, disk uint16
	d         Decision
	died      bool
	bad       string
}

const saysLeft = 255 // in view.words: LeftWord

const stepFlags = fresh | looked | rebooted | cordoned | told | alive | ready | tried

func (x *explorer) view(w *world, n int, down, ends uint8) (view, string) {
	m := &w.m[n]
	v := view{mem: m.mem, disk: m.disk, flags: m.flags & stepFlags, id: m.id, box: m.box, rec: m.accepted, down: down, ends: ends}
	r, conflict := x.newest(m.records)
	if conflict == "" {
		v.rec = uint8(r + 1)
	}
	v.held = conflict != ""
	if v.rec == 0 {
		return v, conflict
	}
	plan := &x.records[v.rec-1].plan
	v.placed = x.placed(w, n, v.rec, m.mem > 0 && x.states[m.mem-1].Observed == Version{plan.Version, true})
	for i := range x.cfg.ops {
		s := w.signed[i]
		if m.heard&(1<<i) == 0 {
			continue
		}
		about := x.records[s.on-1].plan.Version
		switch x.cfg.ops[i].kind {
		case opSkip:
			if about.Generation >= plan.Version.Generation {
				v.words[s.ids] = uint8(i + 1)
			}
		case opPause:
			v.paused, v.forgiven = true, 0
		case opResume:
			if v.paused, v.forgiven = false, 0; about == plan.Version {
				v.forgiven = s.ids
			}
		}
	}
	for id := range w.ids {
		if m.left&(1<<id) != 0 {
			v.words[id] = saysLeft
		}
		if id != m.id {
			v.peers[id] = w.known(n, id)
			if k := m.know[id]; x.cfg.twice && k > 1 {
				part := x.states[v.peers[id]]
				earlier := x.states[w.told[id][0]]
				part.Slot, part.Lent = earlier.Slot, earlier.Lent
				v.peers[id] = x.intern(part)
			}
		}
	}
	return v, conflict
}

// placed reports whether the daemon is meant for machine n, by its labels, as
// that record or the way back from it says.
func (x *explorer) placed(w *world, n int, rec uint8, vetoed bool) bool {
	s := x.records[rec-1]
	if s.rec.Delete {
		return false
	}
	if vetoed {
		i := slices.IndexFunc(x.records, func(r *signedRecord) bool { return r.plan.Version == s.plan.Fallback })
		s = x.records[i]
	}
	return x.matches(&x.cfg.ops[s.op], n) != w.m[n].is(relabelled)
}

func (x *explorer) words(w *world, n int, about record.Version) map[NodeID]uint64 {
	v, _ := x.view(w, n, 0, 0)
	out := map[NodeID]uint64{}
	for id, word := range v.words {
		if word > 0 {
			if out[idOf(uint8(id))] = uint64(word); word == saysLeft {
				out[idOf(uint8(id))] = LeftWord
			}
		}
	}
	return out
}

func (x *explorer) gather(w *world, n int, down uint8) Input {
	v, conflict := x.view(w, n, down, 0)
	return x.input(v, conflict)
}

// input is what agentd would gather.
func (x *explorer) input(v view, conflict string) Input {
	in := Input{Peers: map[NodeID]State{}, Down: map[NodeID]bool{}, Words: map[NodeID]uint64{}, Forgiven: map[NodeID]bool{},
		Names: map[NodeID]string{}, off: x.cfg.off}
	if v.rec > 0 {
		in.Newest = x.records[v.rec-1].plan
		in.Newest.Held = conflict
	}
	if v.paused {
		in.Paused = "paused by an operator"
	}
	for i := range uint8(maxIDs) {
		id := idOf(i)
		in.Names[id] = nodeName(id)
		if v.peers[i] > 0 {
			in.Peers[id] = x.states[v.peers[i]]
		}
		if v.down&(1<<i) != 0 {
			in.Down[id] = true
		}
		switch {
		case v.words[i] == saysLeft:
			in.Words[id] = LeftWord
		case v.words[i] > 0:
			in.Words[id] = uint64(v.words[i])
		}
		if v.forgiven&(1<<i) != 0 {
			in.Forgiven[id] = true
		}
	}
	m := machine{flags: v.flags}
	in.Here = Here{Known: m.is(looked), Placed: v.placed, Alive: m.is(alive), Ready: m.is(ready), Rebooted: m.is(rebooted), Told: m.is(told)}
	if v.box > 0 {
		in.Here.Digest = string(v.box)
	}
	if m.is(ready) {
		in.Here.ReadyFor = time.Hour
	}
	if x.cfg.slowly && !x.cfg.stale && !m.is(fresh) {
		in.Here.Ready = false
	}
	if m.is(tried) {
		in.Here.Tried = time.Hour
	}
	if m.is(cordoned) {
		in.Here.Closed = "cordoned"
	}
	return in
}

// disk is a Saver in memory that fails or dies when it is told to.
type disk struct {
	states map[string]State
	ends   uint8
}

var errFull = errors.New("disk full")

type death struct{}

func (d *disk) Save(_ Identity, states map[string]State) error {
	switch d.ends {
	case stepFails:
		return errFull
	case stepDiesBefore:
		panic(death{})
	}
	d.states = map[string]State{}
	for name, s := range states {
		d.states[name] = s.clone()
	}
	if d.ends == stepDiesAfter {
		panic(death{})
	}
	return nil
}

// step runs the real code, once for each view.
func (x *explorer) step(v view, conflict string) *outcome {
	if o, ok := x.steps[v]; ok {
		return o
	}
	o := &outcome{}
	d := &disk{states: map[string]State{daemonKey.Name: x.states[v.disk]}, ends: v.ends}
	k := NewKeeper(Identity{Node: idOf(v.id)}, map[string]State{daemonKey.Name: x.states[v.mem-1]}, d)
	func() {
		defer func() {
			if e := recover(); e != nil {
				if _, ok := e.(death); !ok {
					panic(e)
				}
				o.died = true
			}
		}()
		o.d = k.Advance(map[string]Input{daemonKey.Name: x.input(v, conflict)})[daemonKey.Name]
		o.mem = x.intern(k.State(daemonKey.Name)) + 1
	}()
	o.disk = x.intern(d.states[daemonKey.Name])
	o.bad = x.undone(v.disk, o.disk)
	x.steps[v] = o
	return o
}

// word returns what a node with that state tells others.
func (x *explorer) word(mem uint16) uint16 {
	if w, ok := x.wordOf[mem]; ok {
		return w
	}
	w := x.intern(x.states[mem-1].Word())
	x.wordOf[mem] = w
	return w
}

// undone tells which fact was true of a node and is not any more; the result is
// kept for as long as no record is new.
func (x *explorer) undone(was, is uint16) string {
	key := [3]int{int(was), int(is), len(x.records)}
	bad, ok := x.undoes[key]
	if !ok {
		bad = undone(x.states[was], x.states[is], x.records)
		x.undoes[key] = bad
	}
	return bad
}

// undone tells which fact was true of a node and is not any more.
func undone(was, is State, records []*signedRecord) string {
	switch {
	case is.Observed.Compare(was.Observed) < 0:
		return fmt.Sprintf("observed went back from %s to %s", was.Observed, is.Observed)
	case is.Done.Compare(was.Done) < 0:
		return fmt.Sprintf("done went back from %s to %s", was.Done, is.Done)
	}
	for _, r := range records {
		for _, g := range []Version{Of(r.plan.Version), {r.plan.Version, true}} {
			if was.Past(g) && !is.Past(g) {
				return fmt.Sprintf("it was past %s and is not any more", g)
			}
		}
	}
	return ""
}

// act is what the supervisor does about a decision.
func (x *explorer) act(w *world, n int, d Decision, rec uint8, before *machine) {
	m := &w.m[n]
	// A node that waits runs what is meant for it.
	newest := rec > 0 && d.Run.Version.Version == x.records[rec-1].plan.Version
	if d.Delete || newest && !x.placed(w, n, rec, d.Run.Version.Vetoed) {
		m.box, m.want = 0, 0
		m.set(alive|ready|tried|taken, false)
		return
	}
	var want uint8
	if d.Run.Digest != "" {
		want = d.Run.Digest[0]
	}
	if want != m.want {
		m.set(tried|fresh, false)
	}
	m.want = want
	if x.cfg.slowly && m.box != want && m.is(alive) {
		return // see moves
	}
	switch {
	case want == 0:
	case m.is(cordoned) && m.box != want: // what is here stays, and comes back in place
		m.set(alive, m.box > 0)
	case m.box == want:
		m.set(alive, true) // in place, if it was not
	case strings.IndexByte(x.cfg.noImage, want) >= 0:
		// It can't be prepared, so what runs goes on.
	default:
		if !x.cfg.outside {
			x.replaced(w, m, d, rec, before)
		}
		m.set(taken, m.is(alive) && !x.records[rec-1].plan.First || m.is(taken))
		m.set(alive, true)
		m.set(ready|tried, false)
		m.box = want
	}
}

// replaced checks what must hold when a container gives way to another one.
func (x *explorer) replaced(w *world, m *machine, d Decision, rec uint8, before *machine) {
	s, was := x.states[m.disk], State{}
	if before.mem > 0 {
		was = x.states[before.mem-1]
	}
	switch {
	case d.Run.Version.Compare(was.Observed) < 0 && d.Run != was.Current:
		x.bad = fmt.Sprintf("took %s after it had seen %s", d.Run.Version, was.Observed)
	case m.is(alive) && s.Slot == nil && !x.records[rec-1].plan.First:
		x.bad = "a container that runs is replaced, and no turn is on the disk"
	}
	plan := &x.records[rec-1].plan
	g := Of(plan.Version)
	if m.is(alive) && s.Slot != nil && *s.Slot == (Slot{g, g}) && plan.Strategy == Rolling && !slices.Contains(plan.Canaries, idOf(m.id)) {
		for _, c := range plan.Canaries {
			if i := w.owner(x.cfg.nodes, c[0]-1); i >= 0 && w.wrong&(1<<i) == 0 && !x.states[w.m[i].disk].IsDone(g) {
				x.bad = fmt.Sprintf("it goes on to %s before the canary n%d is done", g, i)
			}
		}
	}
}
