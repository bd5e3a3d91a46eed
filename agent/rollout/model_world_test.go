package rollout

import (
	"encoding/binary"
	"hash/maphash"
)

// The model explores every interleaving of a small ring exhaustively. The nodes
// run the real code: Keeper.Advance with a saver in memory, hence Step; records
// are made by record.NextDaemonBody and merged by record.Entry. Around them the
// model has what agentd has in the world: containers, disks, agents that crash,
// machines that reboot, statements that come late or never, operators.
//
//	model_world_test.go    what a state of the world is
//	model_step_test.go     how a node steps: the real code, and its supervisor
//	model_moves_test.go    what else can happen
//	model_sign_test.go     what operators sign
//	model_check_test.go    what must hold: safety at the containers, liveness
//	model_search_test.go   the search, breadth first, and its traces
//	model_configs_test.go  the rings that are explored
//	model_test.go          the tests
const (
	maxMachines = 5
	maxIDs      = 6 // a machine that loses its disk gets another one
	maxOps      = 6
	maxTold     = 14
)

// flags of a machine.
const (
	agentUp    uint16 = 1 << iota
	looked            // at the container runtime, since the agent started
	rebooted          // since the state was written
	relabelled        // its labels are not what they were at first
	cordoned
	told  // agentctl restart, here
	alive // the container has processes
	ready // for min_ready
	tried // the wanted digest was tried for longer than the deadline
	gone  // it left the ring
	fresh // the supervisor's report was made since it was told the last time
	taken // its container was taken down by a rollout and was not ready since
)

// machine is one node and what stands on it.
type machine struct {
	disk, mem uint16 // interned states; mem is 0 while no agent runs
	flags     uint16
	id        uint8  // index into ids
	box       uint8  // digest of the container, 0 for none
	want      uint8  // what the supervisor was told to run, 0 for nothing yet
	doing     uint8  // digest that the supervisor is about to start, 0 for none
	accepted  uint8  // record that may be acted upon, plus 1
	heard     uint8  // operations on control records that are known
	left      uint8  // ids that are known to have left
	past      uint8  // ids that it had when it left
	records   uint64 // that are held
	know      [maxIDs]uint8
}

func (m *machine) is(f uint16) bool { return m.flags&f == f }
func (m *machine) set(f uint16, on bool) {
	m.flags &^= f
	if on {
		m.flags |= f
	}
}

// world is one state of everything.
type world struct {
	m [maxMachines]machine
	// told are the statements of each id that somebody has (or, when they may
	// come in any order, may get), oldest first. machine.know counts into it.
	told   [maxIDs][maxTold]uint16
	ntold  [maxIDs]uint8
	exists uint64 // records
	fired  uint8  // operations
	signed [maxOps]signed
	ids    uint8 // in use
	left   budget
	wrong  uint8 // machines that an operator's word called down
}

// signed is what an operation on a control record says.
type signed struct {
	on  uint8 // the record it is about, plus 1
	ids uint8 // the node that is skipped, or those that are forgiven
}

// budget is how often each fault strikes at most.
type budget struct{ crash, reboot, loss, exit, relabel, cordon, leave uint8 }

// appendKey encodes what is in use of w.
func (w *world) appendKey(b []byte, nodes int) []byte {
	for i := range nodes {
		m := &w.m[i]
		b = binary.LittleEndian.AppendUint16(b, m.disk)
		b = binary.LittleEndian.AppendUint16(b, m.mem)
		b = binary.LittleEndian.AppendUint16(b, m.flags)
		b = append(b, m.id, m.box, m.want, m.doing, m.accepted, m.heard, m.left, m.past)
		b = binary.LittleEndian.AppendUint64(b, m.records)
		b = append(b, m.know[:w.ids]...)
	}
	for i := range w.ids {
		b = append(b, w.ntold[i])
		for _, t := range w.told[i][:w.ntold[i]] {
			b = binary.LittleEndian.AppendUint16(b, t)
		}
	}
	b = binary.LittleEndian.AppendUint64(b, w.exists)
	b = append(b, w.fired, w.ids, w.wrong, w.left.crash, w.left.reboot, w.left.loss, w.left.exit, w.left.relabel, w.left.cordon, w.left.leave)
	for _, s := range w.signed {
		b = append(b, s.on, s.ids)
	}
	return b
}

// known returns the newest statement of id that machine n has; 0 for none.
func (w *world) known(n int, id uint8) uint16 {
	if k := w.m[n].know[id]; k > 0 {
		return w.told[id][k-1]
	}
	return 0
}

// owner returns the machine that has id now, -1 when its disk was lost.
func (w *world) owner(nodes int, id uint8) int {
	for i := range nodes {
		if w.m[i].id == id {
			return i
		}
	}
	return -1
}

// tell adds a statement of id, if it is not the newest one there.
func (w *world) tell(id uint8, word uint16) uint8 {
	n := w.ntold[id]
	if n > 0 && w.told[id][n-1] == word {
		return n
	}
	if n == maxTold {
		panic("model: too many statements; raise maxTold")
	}
	w.told[id][n] = word
	w.ntold[id]++
	return n + 1
}

// trim forgets statements that can't matter any more, so that worlds which
// differ in nothing else are one: those that nobody has, or, with older, those
// before the oldest that anybody has.
func (w *world) trim(nodes int, older bool) {
	for id := range w.ids {
		n := w.ntold[id]
		var used [maxTold + 1]bool
		for i := range nodes {
			used[w.m[i].know[id]] = true
		}
		if older {
			for i, any := uint8(1), used[0]; i <= n; i++ {
				any = any || used[i]
				used[i] = any || i == n
			}
		}
		var to [maxTold + 1]uint8
		var kept uint8
		for i := uint8(1); i <= n; i++ {
			if used[i] {
				w.told[id][kept] = w.told[id][i-1]
				kept++
				to[i] = kept
			}
		}
		for i := kept; i < n; i++ {
			w.told[id][i] = 0
		}
		w.ntold[id] = kept
		for i := range nodes {
			w.m[i].know[id] = to[w.m[i].know[id]]
		}
	}
}

// seen is a set of 64-bit fingerprints. At 100 million states the chance that
// any two share one is 1 in 3,700.
type seen struct {
	slots []uint64
	n     int
	seed  maphash.Seed
}

func newSeen() *seen { return &seen{slots: make([]uint64, 1<<16), seed: maphash.MakeSeed()} }

// add reports whether key is new.
func (s *seen) add(key []byte) bool {
	h := maphash.Bytes(s.seed, key)
	if h == 0 {
		h = 1
	}
	if s.n*4 > len(s.slots)*3 {
		old := s.slots
		s.slots = make([]uint64, 2*len(old))
		for _, f := range old {
			if f != 0 {
				s.put(f)
			}
		}
	}
	if !s.put(h) {
		return false
	}
	s.n++
	return true
}

func (s *seen) put(h uint64) bool {
	mask := uint64(len(s.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case h:
			return false
		case 0:
			s.slots[i] = h
			return true
		}
	}
}
