package record

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Candidate is a node as the signer of a record sees it.
type Candidate struct {
	ID        NodeID
	Canary    bool
	Unhealthy bool // goes before the healthy ones: an update may well mend it
}

// Succession is what the signer of a daemon record knows; NextDaemonBody turns
// it into the body. The order of its lists makes no difference.
type Succession struct {
	Spec []byte
	// Changed: the running part differs from the parent's.
	Changed bool
	// K is how many nodes may be down for the update, at least 1; see
	// spec.Update.Budget.
	K int
	// Roster are the nodes that match the new spec and have not left.
	Roster []Candidate
	// Canaries is how many of the roster go first, besides those that are marked:
	// healthy ones, since the trouble that others have already would say nothing
	// about the new record, and the same ones each time.
	Canaries int

	// Parent is the body of the newest record that is not a delete; nil when
	// there is none. ParentVersion is that record's, and ParentLanes its lanes
	// (see LanesOf); needed only when they are in a blob.
	Parent        *DaemonBody
	ParentVersion Version
	ParentLanes   [][]NodeID
	// Deleted: the record that is replaced is a delete, after Parent. Nothing
	// runs any more, so there are no turns and no lanes to keep.
	Deleted bool
	// Vetoed: the parent was rolled back, so that what it falls back to is
	// still what this one would go back to.
	Vetoed bool
	// Gone are nodes that are in no lane of the new record, though they may be
	// in the parent's or in Roster: skipped, forgotten or left, or dropped, as
	// they are down while this is signed. It is an operator's word that they are
	// down: each one that is alive in fact, and in an unfinished parent, adds one
	// to the nodes that may be down at once.
	Gone []NodeID
	// Finished: the signer saw every node of the parent's lanes itself done
	// with the parent (with its veto, if Vetoed), none skipped and no turn lent.
	// Only then may lanes be dealt anew. When in doubt, false.
	Finished bool
}

// NextDaemonBody returns the body of the record that follows s.Parent, and the
// blob with the lanes when they are too many to be inline (nil otherwise; the
// blob has to be in the ring before the record). It is pure: two signers that
// know the same write the same.
//
// Lanes are kept: a new record leaves every node in its parent's lane and keeps
// every member of an unfinished parent, matching or not, so that a node that is
// still at the parent and one that is already here never count in two different
// lanes. Newcomers join lane H(node) mod lanes. Lanes merge when K falls and are
// never split. After a finished parent they are dealt anew if there is a reason
// to; even then the last node of each old lane stays in its lane, because that
// is the one that lends its turn to late nodes.
func NextDaemonBody(s Succession) (body DaemonBody, blob []byte, err error) {
	if s.K < 1 {
		return DaemonBody{}, nil, fmt.Errorf("%w: k is %d, at least 1 node has to be allowed down", ErrMalformed, s.K)
	}
	roster := rosterOf(s.Roster, s.Gone)
	roster.pick(s.Canaries)
	body = DaemonBody{Spec: s.Spec, Revision: 1, Rollout: Rollout{K: s.K, First: s.Parent == nil || s.Deleted}}
	if s.Parent != nil {
		body.Revision = s.Parent.Revision
		if s.Changed {
			body.Revision++
		}
	}
	var lanes [][]NodeID
	if body.Rollout.First {
		lanes = Deal(roster.ids, s.K)
	} else {
		body.Rollout.Fallback = s.fallback()
		if lanes, err = s.keep(roster); err != nil {
			return DaemonBody{}, nil, err
		}
	}
	total := 0
	for _, lane := range lanes {
		roster.order(lane)
		total += len(lane)
		for _, n := range lane {
			if roster.by[n].Canary {
				body.Rollout.Canaries = append(body.Rollout.Canaries, n)
			}
		}
	}
	slices.SortFunc(body.Rollout.Canaries, compareID)
	if total > MaxInlineNodes {
		if blob, err = EncodeLanes(lanes); err != nil {
			return DaemonBody{}, nil, err
		}
		body.Rollout.LanesBlob = BlobName(blob)
	} else {
		body.Rollout.Lanes = lanes
	}
	return body, blob, checkDaemon(body)
}

// fallback is the last generation whose rollout finished, and was not rolled
// back. A first generation has none: what ran before was deleted, if anything.
func (s Succession) fallback() Version {
	if s.Finished && !s.Vetoed {
		return s.ParentVersion
	}
	return s.Parent.Rollout.Fallback
}

// keep returns the lanes of a record that has a parent, unordered.
func (s Succession) keep(r roster) ([][]NodeID, error) {
	old := s.Parent.Rollout.Lanes
	if s.Parent.Rollout.LanesBlob != "" {
		old = s.ParentLanes
		if len(old) == 0 {
			return nil, fmt.Errorf("%w: the parent's lanes are in blob %s, which is not here", ErrMalformed, s.Parent.Rollout.LanesBlob)
		}
	}
	switch {
	case len(old) == 0:
		// A parent that matched no node has no lanes to keep.
		return Deal(r.ids, s.K), nil
	case s.Finished && s.uneven(old, r):
		return s.dealAnew(old, r), nil
	}
	lanes := make([][]NodeID, min(len(old), s.K))
	seen := map[NodeID]bool{}
	for i, lane := range old {
		for _, n := range lane {
			if seen[n] = true; !r.gone[n] {
				lanes[i%len(lanes)] = append(lanes[i%len(lanes)], n)
			}
		}
	}
	for _, n := range r.ids {
		if !seen[n] {
			i := home(n, len(lanes))
			lanes[i] = append(lanes[i], n)
		}
	}
	return dropEmpty(lanes), nil
}

// uneven reports whether the lanes are not those that a first record would
// deal to this roster, in number or in members.
func (s Succession) uneven(old [][]NodeID, r roster) bool {
	n := 0
	shortest, longest := len(r.ids), 0
	for _, lane := range old {
		n += len(lane)
		shortest, longest = min(shortest, len(lane)), max(longest, len(lane))
		for _, m := range lane {
			if !r.has(m) {
				return true
			}
		}
	}
	return n != len(r.ids) || len(old) != min(s.K, len(r.ids)) || longest > shortest+1
}

// dealAnew returns lanes of nearly equal length for the roster. The last nodes
// of the old lanes stay in them, matching or not: two that lend their turns
// must not come into one lane unless their lanes merge.
func (s Succession) dealAnew(old [][]NodeID, r roster) [][]NodeID {
	pinned := map[NodeID]bool{}
	for _, lane := range old {
		if last := lane[len(lane)-1]; !r.gone[last] {
			pinned[last] = true
		}
	}
	rest := slices.DeleteFunc(slices.Clone(r.ids), func(n NodeID) bool { return pinned[n] })
	lanes := make([][]NodeID, min(s.K, max(len(old), len(pinned)+len(rest))))
	for i, lane := range old {
		if last := lane[len(lane)-1]; pinned[last] {
			lanes[i%len(lanes)] = append(lanes[i%len(lanes)], last)
		}
	}
	// The shortest lane gets the next node.
	for length := 0; len(rest) > 0; length++ {
		for i := range lanes {
			if len(lanes[i]) <= length && len(rest) > 0 {
				lanes[i], rest = append(lanes[i], rest[0]), rest[1:]
			}
		}
	}
	return dropEmpty(lanes)
}

// Deal returns at most k lanes of nearly equal length for a roster whose order
// does not matter: the first deal, with nothing to keep. No lane is empty.
func Deal(roster []NodeID, k int) [][]NodeID {
	ids := slices.Compact(slices.SortedFunc(slices.Values(roster), compareID))
	lanes := make([][]NodeID, max(0, min(k, len(ids))))
	for i, n := range ids {
		if len(lanes) > 0 {
			lanes[i%len(lanes)] = append(lanes[i%len(lanes)], n)
		}
	}
	return lanes
}

// home is the lane that a newcomer joins. Ids are hashes already.
func home(n NodeID, lanes int) int {
	return int(binary.BigEndian.Uint64(n[:8]) % uint64(lanes))
}

func dropEmpty(lanes [][]NodeID) [][]NodeID {
	return slices.DeleteFunc(lanes, func(l []NodeID) bool { return len(l) == 0 })
}

func compareID(a, b NodeID) int { return bytes.Compare(a[:], b[:]) }

type roster struct {
	ids  []NodeID // sorted
	by   map[NodeID]Candidate
	gone map[NodeID]bool // not in by
}

// rosterOf returns the roster without those who are gone. A node that is given
// twice is what either says.
func rosterOf(list []Candidate, gone []NodeID) roster {
	r := roster{by: make(map[NodeID]Candidate, len(list)), gone: make(map[NodeID]bool, len(gone))}
	for _, n := range gone {
		r.gone[n] = true
	}
	for _, c := range list {
		if r.gone[c.ID] {
			continue
		}
		have, twice := r.by[c.ID]
		if !twice {
			r.ids = append(r.ids, c.ID)
		}
		r.by[c.ID] = Candidate{c.ID, c.Canary || have.Canary, c.Unhealthy || have.Unhealthy}
	}
	slices.SortFunc(r.ids, compareID)
	return r
}

// pick makes n more of the roster canaries.
func (r roster) pick(n int) {
	for _, unhealthy := range []bool{false, true} {
		for _, id := range r.ids {
			if c := r.by[id]; n > 0 && !c.Canary && c.Unhealthy == unhealthy {
				c.Canary = true
				r.by[id] = c
				n--
			}
		}
	}
}

func (r roster) has(n NodeID) bool { _, ok := r.by[n]; return ok }

// order sorts a lane: canaries, then who is unhealthy, then by id.
func (r roster) order(lane []NodeID) {
	rank := func(n NodeID) int {
		switch c := r.by[n]; {
		case c.Canary:
			return 0
		case c.Unhealthy:
			return 1
		}
		return 2
	}
	slices.SortFunc(lane, func(a, b NodeID) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), compareID(a, b))
	})
}
