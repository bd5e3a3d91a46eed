package record

import "slices"

// A daemon's history is one record per revision, with its body. Most of it is
// in the entry, which every node has; revisions that fell out of the entry are
// kept beside it by whoever saw them.

// History returns the superseded revisions of a daemon, newest first, one
// record each, at most MaxHistory less the current one. After a delete the last
// revision is among them.
func (s *Set) History(name string) []Record {
	sl := s.slots[Key{KindDaemon, name}]
	if sl == nil || sl.entry.Empty() {
		return nil
	}
	current, live := revision(sl.entry.Winner())
	var out []Record
	for _, r := range sl.revisions() {
		if n, _ := revision(r); (!live || n != current) && len(out) < MaxHistory-1 {
			out = append(out, r)
		}
	}
	return out
}

// revisions returns one record of each revision that is held, newest first: of
// several, one that was not lost in a conflict, then the greatest.
func (sl *slot) revisions() []Record {
	lost := map[Digest]bool{}
	for _, r := range sl.entry.Lost() {
		lost[r.Digest] = true
	}
	best := map[int]Record{}
	var order []int
	for _, r := range append(sl.entry.All(), sl.old...) {
		n, ok := revision(r)
		if !ok {
			continue
		}
		have, dup := best[n]
		if !dup {
			order = append(order, n)
		}
		if !dup || lost[have.Digest] && !lost[r.Digest] {
			best[n] = r
		}
	}
	slices.SortFunc(order, func(a, b int) int { return b - a })
	out := make([]Record, len(order))
	for i, n := range order {
		out[i] = best[n]
	}
	return out
}

// remember keeps those of seen that fell out of the entry and are still of use:
// the newest MaxHistory revisions, what a record of the entry falls back to, and
// the pinned one.
func (sl *slot) remember(seen []Record, pin Digest) {
	inEntry := func(r Record) bool { _, in := sl.entry.Find(r.Digest); return in }
	if seen = slices.DeleteFunc(seen, inEntry); len(seen) == 0 && len(sl.old) == 0 {
		return // the common case, and the body need not be decoded
	}
	fallback := map[Digest]bool{}
	for _, r := range sl.entry.All() {
		if b, err := DecodeDaemon(r.Body); err == nil && !r.Delete {
			fallback[b.Rollout.Fallback.Digest] = true
		}
	}
	candidates := sl.old[:len(sl.old):len(sl.old)]
	for _, r := range seen {
		if i := slices.IndexFunc(candidates, func(o Record) bool { return o.Digest == r.Digest }); i >= 0 {
			candidates = slices.Clone(candidates)
			candidates[i] = unite(candidates[i], r)
		} else {
			candidates = append(candidates, r)
		}
	}
	candidates = slices.DeleteFunc(slices.Clone(candidates), inEntry)
	slices.SortFunc(candidates, func(a, b Record) int { return b.Version().Compare(a.Version()) })

	sl.old = candidates
	keep := map[Digest]bool{}
	for i, r := range sl.revisions() {
		if i < MaxHistory {
			keep[r.Digest] = true
		}
	}
	sl.old = slices.DeleteFunc(candidates, func(r Record) bool { return !keep[r.Digest] && !fallback[r.Digest] && r.Digest != pin })
}

// revision returns the revision of a daemon record; false for a delete and for
// what this agentd does not understand.
func revision(r Record) (int, bool) {
	if r.Delete || r.Schema > Schema || r.Key.Kind != KindDaemon {
		return 0, false
	}
	b, err := DecodeDaemon(r.Body)
	if err != nil {
		return 0, false
	}
	return b.Revision, true
}
