package rollout

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/agentd/agentd/spec/record"
)

type opKind uint8

const (
	opApply opKind = iota
	opDelete
	opPause
	opResume
	opSkip
)

// op is something that an operator does once, on any node that is up.
type op struct {
	kind opKind
	// on is the operation whose record the operator sees as the newest one,
	// -1 for none: two operations on the same one are a fork.
	on    int
	after uint8 // operations that have to be there, anywhere

	// opApply
	digest   byte  // of the running part: 'a', 'b', …
	k        int   // nodes that may be down
	match    uint8 // machines that the spec is meant for; 0 for all
	unseen   uint8 // machines that the operator's node does not see: late
	drop     uint8 // machines that are left out, as though they were down
	canaries uint8
	strategy Strategy
	rollback bool
	failures int
	low      bool    // loses a fork
	lanes    [][]int // instead of those that NextDaemonBody makes

	node int // opSkip
}

// signedRecord is a record and what the checks want to know of it.
type signedRecord struct {
	op       int
	rec      record.Record
	body     record.DaemonBody
	plan     Plan
	base     int // the newest record before it that is no delete, -1 for none
	finished bool
	vetoed   bool
	bound    int // largest k since the last finished rollout
}

func idOf(i uint8) NodeID {
	var id NodeID
	id[0], id[7], id[15] = i+1, i+1, i+1
	return id
}

var daemonKey = record.Key{Kind: record.KindDaemon, Name: "web"}

// entry returns what a node that holds the given records has of the daemon.
func (x *explorer) entry(held uint64) record.Entry {
	if e, ok := x.entries[held]; ok {
		return e
	}
	var list []record.Record
	for b := held; b != 0; b &= b - 1 {
		list = append(list, x.records[bits.TrailingZeros64(b)].rec)
	}
	e := record.EntryOf(list...)
	x.entries[held] = e
	return e
}

// newest returns the winner of the held records, -1 for none, and the conflict.
func (x *explorer) newest(held uint64) (r int, conflict string) {
	if n, ok := x.winners[held]; ok {
		return n.r, n.conflict
	}
	e := x.entry(held)
	r = -1
	if !e.Empty() {
		r = slices.IndexFunc(x.records, func(s *signedRecord) bool { return s.rec.Digest == e.Winner().Digest })
	}
	x.winners[held] = winner{r, e.Conflict()}
	return r, e.Conflict()
}

// sign makes the record that operation i is on machine n, as agentctl would.
func (x *explorer) sign(w *world, n, i int) int {
	o, m := &x.cfg.ops[i], &w.m[n]
	e := x.entry(m.records)
	parent, _ := x.newest(m.records)
	header := record.Next(e, record.RingID{}, daemonKey, "op", time.Time{})
	s := &signedRecord{op: i, base: parent}
	s.rec = record.Record{Header: header}
	s.rec.Delete = o.kind == opDelete
	next := record.Succession{Spec: []byte{o.digest}, K: o.k}
	if parent >= 0 {
		p := x.records[parent]
		if p.rec.Delete {
			next.Deleted = true
			s.base = p.base
		}
	}
	if o.kind == opDelete {
		s.bound = x.records[parent].bound
	} else {
		x.succeed(w, n, o, s, &next)
		body, _, err := record.NextDaemonBody(next)
		if err != nil {
			panic(err)
		}
		if o.lanes != nil {
			body.Rollout.Lanes = nil
			for _, lane := range o.lanes {
				var ids []NodeID
				for _, i := range lane {
					ids = append(ids, idOf(uint8(i)))
				}
				body.Rollout.Lanes = append(body.Rollout.Lanes, ids)
			}
		}
		s.body = body
		if s.rec.Body, err = record.EncodeDaemon(body); err != nil {
			panic(err)
		}
		s.bound = body.Rollout.K
		if s.base >= 0 && !s.finished && !next.Deleted {
			s.bound = max(s.bound, x.records[s.base].bound)
		}
	}
	text := fmt.Sprintf("%d %d %x %x %v", i, header.Generation, header.Ancestors, s.rec.Body, s.rec.Delete)
	if r, ok := x.recordOf[text]; ok {
		return r
	}
	s.rec.Digest = record.Digest(sha256.Sum256([]byte(text)))
	s.rec.Digest[0] = byte(0x10 + i)
	if o.low {
		s.rec.Digest[0] = byte(0x01 + i)
	}
	s.plan = x.planOf(s)
	if len(x.records) == 64 {
		panic("model: too many records")
	}
	x.records = append(x.records, s)
	x.recordOf[text] = len(x.records) - 1
	return len(x.records) - 1
}

// succeed fills in what the operator's node knows.
func (x *explorer) succeed(w *world, n int, o *op, s *signedRecord, next *record.Succession) {
	gone := o.drop
	for j := range x.cfg.nodes {
		bit := uint8(1) << j
		if x.matches(o, j) && o.unseen&bit == 0 && gone&bit == 0 {
			next.Roster = append(next.Roster, record.Candidate{ID: idOf(w.m[j].id), Canary: o.canaries&bit != 0})
		}
		if gone&bit != 0 {
			next.Gone = append(next.Gone, idOf(w.m[j].id))
		}
	}
	if s.base < 0 {
		return
	}
	p := x.records[s.base]
	in := x.gather(w, n, 0)
	me := x.states[w.m[n].mem-1]
	words := x.words(w, n, p.plan.Version)
	for id := range words {
		next.Gone = append(next.Gone, id)
	}
	in.Peers[idOf(w.m[n].id)] = me
	next.Parent, next.ParentVersion = &p.body, p.plan.Version
	next.Vetoed = me.Observed == Version{p.plan.Version, true}
	_, conflict := x.newest(w.m[n].records)
	next.Finished = conflict == "" && Finished(p.plan, next.Vetoed, in.Peers, words)
	next.Changed = o.digest != x.cfg.ops[p.op].digest
	s.finished, s.vetoed = next.Finished, next.Vetoed
}

func (x *explorer) matches(o *op, machine int) bool {
	return o.match == 0 || o.match&(1<<machine) != 0
}

func (x *explorer) planOf(s *signedRecord) Plan {
	o, r := &x.cfg.ops[s.op], s.body.Rollout
	p := Plan{Version: s.rec.Version(), Delete: s.rec.Delete}
	if p.Delete {
		return p
	}
	p.First, p.Digest, p.Lanes, p.Canaries, p.Fallback = r.First, string(o.digest), r.Lanes, r.Canaries, r.Fallback
	p.Strategy, p.Rollback, p.MaxFailures = o.strategy, o.rollback, max(1, o.failures)
	p.MinReady, p.Bake = time.Second, time.Second
	if x.cfg.deadline {
		p.Deadline = time.Minute
	}
	for _, other := range x.records {
		if other.plan.Version == r.Fallback && !r.Fallback.IsZero() {
			p.FallbackDigest = other.plan.Digest
		}
	}
	return p
}

func (r *signedRecord) String() string {
	if r.rec.Delete {
		return fmt.Sprintf("generation %d: delete", r.rec.Generation)
	}
	lanes := ""
	for _, l := range r.body.Rollout.Lanes {
		lanes += "["
		for i, n := range l {
			if i > 0 {
				lanes += " "
			}
			lanes += nodeName(n)
		}
		lanes += "]"
	}
	text := fmt.Sprintf("generation %d (%s): digest %s, k %d, lanes %s", r.rec.Generation, r.rec.Digest.Short(), r.plan.Digest, r.body.Rollout.K, lanes)
	if r.finished {
		text += ", its parent finished"
	}
	if !r.plan.Fallback.IsZero() {
		text += fmt.Sprintf(", falls back to generation %d", r.plan.Fallback.Generation)
	}
	return text
}

func nodeName(n NodeID) string { return fmt.Sprintf("n%d", n[0]-1) }
