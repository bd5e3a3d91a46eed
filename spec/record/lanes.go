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
// it into the body.
type Succession struct {
	Spec []byte
	// Changed: the running part differs from the parent's.
	Changed bool
	// K is how many nodes may be down for the update, at least 1.
	K int
	// Roster are the nodes that match the new spec and have not left.
	Roster []Candidate

	// Parent is the body of the newest record that is not a delete; nil when
	// there is none. ParentVersion is that record's, and ParentLanes the lanes
	// out of its blob, if they are in one.
	Parent        *DaemonBody
	ParentVersion Version
	ParentLanes   [][]NodeID
	// Gone are nodes of the parent's lanes that are down for good by an
	// operator's word (skipped, forgotten) or by their own (left).
	Gone []NodeID
	// Finished: the signer saw every node of the parent's lanes itself done
	// with the parent, none skipped and no turn lent. Only then may lanes be
	// dealt anew. When in doubt, false.
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
	roster := rosterOf(s.Roster)
	body = DaemonBody{Spec: s.Spec, Revision: 1, Rollout: Rollout{K: s.K, First: s.Parent == nil}}
	var lanes [][]NodeID
	if s.Parent == nil {
		lanes = Deal(roster.ids, s.K)
	} else {
		body.Revision = s.Parent.Revision
		if s.Changed {
			body.Revision++
		}
		body.Rollout.Fallback = s.Parent.Rollout.Fallback
		if s.Finished {
			body.Rollout.Fallback = s.ParentVersion
		}
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

// keep returns the lanes of a record that has a parent, unordered.
func (s Succession) keep(r roster) ([][]NodeID, error) {
	old := s.Parent.Rollout.Lanes
	if s.Parent.Rollout.LanesBlob != "" {
		old = s.ParentLanes
		if len(old) == 0 {
			return nil, fmt.Errorf("%w: the parent's lanes are in blob %s, which is not here", ErrMalformed, s.Parent.Rollout.LanesBlob)
		}
	}
	if s.Finished && s.uneven(old, r) {
		return s.dealAnew(old, r), nil
	}
	if len(old) == 0 {
		// A parent that matched no node has no lanes to keep.
		return Deal(r.ids, s.K), nil
	}
	lanes := make([][]NodeID, min(len(old), s.K))
	seen := map[NodeID]bool{}
	for i, lane := range old {
		for _, n := range lane {
			if seen[n] = true; !slices.Contains(s.Gone, n) || r.has(n) {
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

func (s Succession) dealAnew(old [][]NodeID, r roster) [][]NodeID {
	var pinned []NodeID
	for _, lane := range old {
		if last := lane[len(lane)-1]; r.has(last) || !slices.Contains(s.Gone, last) {
			pinned = append(pinned, last)
		} else {
			pinned = append(pinned, NodeID{}) // keeps the lane's number
		}
	}
	var rest []NodeID
	for _, n := range r.ids {
		if !slices.Contains(pinned, n) {
			rest = append(rest, n)
		}
	}
	lanes := make([][]NodeID, max(1, min(s.K, len(rest)+len(pinned))))
	for i, n := range pinned {
		if n != (NodeID{}) {
			lanes[i%len(lanes)] = append(lanes[i%len(lanes)], n)
		}
	}
	for _, n := range rest {
		shortest := 0
		for i := range lanes {
			if len(lanes[i]) < len(lanes[shortest]) {
				shortest = i
			}
		}
		lanes[shortest] = append(lanes[shortest], n)
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
	ids []NodeID // sorted
	by  map[NodeID]Candidate
}

func rosterOf(list []Candidate) roster {
	r := roster{by: make(map[NodeID]Candidate, len(list))}
	for _, c := range list {
		if _, ok := r.by[c.ID]; !ok {
			r.by[c.ID] = c
			r.ids = append(r.ids, c.ID)
		}
	}
	slices.SortFunc(r.ids, compareID)
	return r
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
