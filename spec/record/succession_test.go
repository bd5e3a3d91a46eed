package record

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// step draws what the signer of the next record may know.
func step(t *rapid.T, all []NodeID, parent *DaemonBody, v Version) Succession {
	s := Succession{
		Spec: []byte("{}"), K: rapid.IntRange(1, 8).Draw(t, "k"),
		Parent: parent, ParentVersion: v,
		Changed: rapid.Bool().Draw(t, "changed"),
		Gone:    rapid.SliceOfN(rapid.SampledFrom(all), 0, 4).Draw(t, "gone"),
	}
	for _, n := range rapid.SliceOfDistinct(rapid.SampledFrom(all), rapid.ID).Draw(t, "roster") {
		s.Roster = append(s.Roster, Candidate{n, rapid.IntRange(0, 4).Draw(t, "canary") == 0, rapid.IntRange(0, 3).Draw(t, "unhealthy") == 0})
	}
	if parent != nil {
		s.Finished = rapid.Bool().Draw(t, "finished")
		s.Vetoed = rapid.IntRange(0, 3).Draw(t, "vetoed") == 0
		s.Deleted = rapid.IntRange(0, 7).Draw(t, "deleted") == 0
	}
	return s
}

// A history of records, each of which follows the one before in any of the ways
// that there are: every rule of the lanes holds at every step.
func TestSuccession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := nodes(16)
		var parent *DaemonBody
		for generation := range uint64(rapid.IntRange(1, 6).Draw(t, "records")) {
			s := step(t, all, parent, Version{generation, Digest{byte(generation)}})
			b := next(t, s)
			checkMembers(t, s, b)
			checkOrder(t, s, b)
			checkFallback(t, s, b)
			if !b.Rollout.First {
				checkKept(t, s, b)
			}
			s.Roster = rapid.Permutation(append(s.Roster, s.Roster...)).Draw(t, "another order")
			s.Gone = rapid.Permutation(append(s.Gone, s.Gone...)).Draw(t, "another order")
			if again := next(t, s); !reflect.DeepEqual(again, b) {
				t.Fatalf("the order of the lists matters: %+v\n%+v", b, again)
			}
			if _, err := EncodeDaemon(b); err != nil {
				t.Fatal(err)
			}
			parent = &b
		}
	})
}

// checkMembers: who is in the lanes at all. Nobody is there twice, nobody who is
// gone, everybody of the roster, and everybody of an unfinished parent.
func checkMembers(t *rapid.T, s Succession, b DaemonBody) {
	lanes := b.Rollout.Lanes
	members, err := checkLanes(lanes, len(nodes(16)))
	if err != nil {
		t.Fatal(err)
	}
	if len(lanes) > s.K || b.Rollout.K != s.K {
		t.Fatalf("%d lanes and k = %d, for %d", len(lanes), b.Rollout.K, s.K)
	}
	allowed := map[NodeID]bool{}
	must := func(n NodeID, why string) {
		if allowed[n] = true; !members[n] && !slices.Contains(s.Gone, n) {
			t.Fatalf("%s is in no lane: %s", n, why)
		}
	}
	for _, c := range s.Roster {
		must(c.ID, "it is in the roster")
	}
	if !b.Rollout.First {
		for _, lane := range s.Parent.Rollout.Lanes {
			must(lane[len(lane)-1], "it is the last of its lane")
			for _, n := range lane {
				if !s.Finished {
					must(n, "it is in an unfinished rollout")
				}
			}
		}
	}
	for n := range members {
		switch {
		case slices.Contains(s.Gone, n):
			t.Fatalf("%s is gone, and waited for", n)
		case !allowed[n]:
			t.Fatalf("%s is in a lane without a reason", n)
		}
	}
}

// checkOrder: canaries, then who is unhealthy, then by id.
func checkOrder(t *rapid.T, s Succession, b DaemonBody) {
	by := map[NodeID]Candidate{}
	var canaries []NodeID
	for _, c := range s.Roster {
		by[c.ID] = c
		if c.Canary && !slices.Contains(s.Gone, c.ID) {
			canaries = append(canaries, c.ID)
		}
	}
	slices.SortFunc(canaries, compareID)
	if !slices.Equal(canaries, b.Rollout.Canaries) {
		t.Fatalf("canaries %v, want %v", b.Rollout.Canaries, canaries)
	}
	for _, lane := range b.Rollout.Lanes {
		for i, n := range lane[1:] {
			a, c := by[lane[i]], by[n]
			switch {
			case a.Canary != c.Canary:
				if c.Canary {
					t.Fatalf("canary %s comes after %s", n, lane[i])
				}
			case !a.Canary && a.Unhealthy != c.Unhealthy:
				if c.Unhealthy {
					t.Fatalf("%s is unhealthy and comes after %s", n, lane[i])
				}
			case a.Canary && a.Unhealthy != c.Unhealthy:
				// Among canaries only the id counts, below.
				fallthrough
			default:
				if compareID(lane[i], n) >= 0 {
					t.Fatalf("%s and %s are not in the order of their ids", lane[i], n)
				}
			}
		}
	}
}

// checkKept: who shared a lane still does, unless the parent finished; and then
// the last ones stay apart from each other as they were.
func checkKept(t *rapid.T, s Succession, b DaemonBody) {
	old, is := s.Parent.Rollout.Lanes, laneOf(b.Rollout.Lanes)
	var lasts []NodeID
	for _, lane := range old {
		if last := lane[len(lane)-1]; !slices.Contains(s.Gone, last) {
			lasts = append(lasts, last)
		}
		if s.Finished {
			continue
		}
		at := -1
		for _, n := range lane {
			here, in := is[n]
			if in && at >= 0 && here != at {
				t.Fatalf("a lane was split at %s", n)
			}
			if in {
				at = here
			}
		}
	}
	if !s.Finished && len(old) > 0 && len(b.Rollout.Lanes) > len(old) {
		t.Fatalf("%d lanes of %d", len(b.Rollout.Lanes), len(old))
	}
	if s.K < len(old) {
		return // lanes merge
	}
	for i, x := range lasts {
		for _, y := range lasts[:i] {
			if is[x] == is[y] {
				t.Fatalf("%s and %s, each the last of a lane, came into one", x, y)
			}
		}
	}
}

// checkFallback: where a rollback would go to.
func checkFallback(t *rapid.T, s Succession, b DaemonBody) {
	first := s.Parent == nil || s.Deleted
	if b.Rollout.First != first {
		t.Fatalf("first: %v", b.Rollout.First)
	}
	var want Version
	switch {
	case first:
	case s.Finished && !s.Vetoed:
		want = s.ParentVersion
	default:
		want = s.Parent.Rollout.Fallback
	}
	if b.Rollout.Fallback != want {
		t.Fatalf("falls back to %s, want %s", b.Rollout.Fallback, want)
	}
	revision := 1
	if s.Parent != nil {
		if revision = s.Parent.Revision; s.Changed {
			revision++
		}
	}
	if b.Revision != revision {
		t.Fatalf("revision %d, want %d", b.Revision, revision)
	}
}

// After a delete nothing runs: no turns, nothing to keep, nothing to go back
// to. The revisions count on, so that undo reaches those before.
func TestAfterADelete(t *testing.T) {
	parent := next(t, Succession{Spec: []byte("{}"), K: 1, Roster: candidates(nodes(6))})
	parent.Rollout.Fallback, parent.Revision = Version{Generation: 4}, 7
	b := next(t, Succession{Spec: []byte("{}"), K: 3, Roster: candidates(nodes(5)), Parent: &parent, ParentVersion: Version{Generation: 8},
		Deleted: true, Changed: true})
	if !b.Rollout.First || len(b.Rollout.Lanes) != 3 || !b.Rollout.Fallback.IsZero() || b.Revision != 8 {
		t.Errorf("%+v", b)
	}
	// The lanes of the record before the delete need not be here.
	parent.Rollout.Lanes, parent.Rollout.LanesBlob = nil, BlobName(nil)
	if _, _, err := NextDaemonBody(Succession{Spec: []byte("{}"), K: 1, Parent: &parent, Deleted: true}); err != nil {
		t.Error(err)
	}
}

// A number of canaries: healthy nodes that are there, and the same ones again,
// whatever the lanes are.
func TestPickedCanaries(t *testing.T) {
	roster := candidates(nodes(6))
	for i := range roster[:3] {
		roster[i].Unhealthy = true
	}
	s := Succession{Spec: []byte("{}"), K: 2, Roster: roster, Canaries: 2, Gone: []NodeID{node(5)}}
	b := next(t, s)
	if c := b.Rollout.Canaries; len(c) != 2 || !slices.Contains(c, node(3)) || !slices.Contains(c, node(4)) {
		t.Errorf("canaries %v", c)
	}
	s.Parent, s.K = &b, 1
	if again := next(t, s); !slices.Equal(again.Rollout.Canaries, b.Rollout.Canaries) {
		t.Errorf("%v, then %v", b.Rollout.Canaries, again.Rollout.Canaries)
	}
	// More than are healthy, one of them by its mark; more than there are.
	roster[0].Canary = true
	for want, n := range map[int]int{1: 0, 4: 3, 5: 50} {
		s.Canaries = n
		if got := next(t, s).Rollout.Canaries; len(got) != want || !slices.Contains(got, node(0)) {
			t.Errorf("%d and a marked one: %v", n, got)
		}
	}
}

// All at once: as many nodes may be down as there are, and the lanes stay, so
// that the next rollout has its turns.
func TestAllAtOnceKeepsLanes(t *testing.T) {
	parent := next(t, Succession{Spec: []byte("{}"), K: 2, Roster: candidates(nodes(10))})
	s := Succession{Spec: []byte("{}"), K: 10, Roster: candidates(nodes(10)), Parent: &parent}
	b := next(t, s)
	if b.Rollout.K != 10 || !reflect.DeepEqual(b.Rollout.Lanes, parent.Rollout.Lanes) {
		t.Errorf("%+v", b.Rollout)
	}
}

// A node that is down at the apply is in the roster of those who match, and
// still no lane waits for it.
func TestDroppedNodesAreInNoLane(t *testing.T) {
	parent := next(t, Succession{Spec: []byte("{}"), K: 2, Roster: candidates(nodes(6))})
	for _, finished := range []bool{false, true} {
		b := next(t, Succession{Spec: []byte("{}"), K: 2, Roster: candidates(nodes(6)), Parent: &parent,
			Gone: []NodeID{node(2), node(4)}, Finished: finished})
		if got := laneOf(b.Rollout.Lanes); len(got) != 4 {
			t.Errorf("finished %v: %d nodes in the lanes", finished, len(got))
		}
	}
}

func TestLanesOf(t *testing.T) {
	small := next(t, Succession{Spec: []byte("{}"), K: 2, Roster: candidates(nodes(6))})
	if lanes, err := LanesOf(small, nil); err != nil || !reflect.DeepEqual(lanes, small.Rollout.Lanes) {
		t.Errorf("%v, %v", lanes, err)
	}
	roster := candidates(nodes(300))
	roster[0].Canary = true
	large, blob, err := NextDaemonBody(Succession{Spec: []byte("{}"), K: 7, Roster: roster})
	if err != nil {
		t.Fatal(err)
	}
	if lanes, err := LanesOf(large, blob); err != nil || len(lanes) != 7 || len(laneOf(lanes)) != 300 {
		t.Errorf("%d lanes, %v", len(lanes), err)
	}
	few := large
	few.Rollout.K = 6
	stranger := large
	stranger.Rollout.Canaries = []NodeID{{9}}
	for name, in := range map[string]struct {
		body DaemonBody
		blob []byte
	}{
		"no blob":                 {large, nil},
		"another blob":            {large, bytes.Replace(blob, []byte("a"), []byte("b"), 1)},
		"more lanes than k":       {few, blob},
		"a canary from elsewhere": {stranger, blob},
	} {
		if lanes, err := LanesOf(in.body, in.blob); err == nil || lanes != nil || !known(err) {
			t.Errorf("%s: %d lanes, %v", name, len(lanes), err)
		}
	}
}
