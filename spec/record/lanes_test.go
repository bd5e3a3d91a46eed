package record

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func node(i int) NodeID {
	sum := sha256.Sum256([]byte(fmt.Sprint("node", i)))
	return NodeID(sum[:16])
}

func nodes(n int) []NodeID {
	var out []NodeID
	for i := range n {
		out = append(out, node(i))
	}
	return out
}

func candidates(ids []NodeID) []Candidate {
	var out []Candidate
	for _, n := range ids {
		out = append(out, Candidate{ID: n})
	}
	return out
}

func next(t interface{ Fatal(...any) }, s Succession) DaemonBody {
	b, _, err := NextDaemonBody(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func laneOf(lanes [][]NodeID) map[NodeID]int {
	out := map[NodeID]int{}
	for i, lane := range lanes {
		for _, n := range lane {
			out[n] = i
		}
	}
	return out
}

func TestDeal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := nodes(rapid.IntRange(0, 40).Draw(t, "nodes"))
		k := rapid.IntRange(1, 12).Draw(t, "k")
		lanes := Deal(ids, k)
		if !reflect.DeepEqual(lanes, Deal(rapid.Permutation(ids).Draw(t, "order"), k)) {
			t.Fatal("the order of the roster matters")
		}
		if members, err := checkLanes(lanes, len(ids)); err != nil || len(members) != len(ids) {
			t.Fatalf("%d of %d nodes dealt: %v", len(members), len(ids), err)
		}
		if len(lanes) != min(k, len(ids)) {
			t.Fatalf("%d lanes for k = %d and %d nodes", len(lanes), k, len(ids))
		}
		for _, lane := range lanes {
			if d := len(lane) - len(ids)/len(lanes); d < 0 || d > 1 {
				t.Fatalf("uneven: %v", lanes)
			}
		}
	})
}

func TestFirstRecord(t *testing.T) {
	b := next(t, Succession{Spec: []byte("{}"), K: 2, Roster: candidates(nodes(5))})
	if !b.Rollout.First || b.Revision != 1 || !b.Rollout.Fallback.IsZero() || len(b.Rollout.Lanes) != 2 {
		t.Errorf("%+v", b)
	}
	if _, _, err := NextDaemonBody(Succession{Spec: []byte("{}")}); err == nil {
		t.Error("k = 0 is accepted")
	}
	if b := next(t, Succession{Spec: []byte("{}"), K: 1}); len(b.Rollout.Lanes) != 0 {
		t.Errorf("lanes without nodes: %v", b.Rollout.Lanes)
	}
}

func TestRevisionAndFallback(t *testing.T) {
	parent := next(t, Succession{Spec: []byte("{}"), K: 1, Roster: candidates(nodes(3))})
	parent.Rollout.Fallback = Version{Generation: 4}
	v := Version{Generation: 9}
	tests := []struct {
		name              string
		changed, finished bool
		revision          int
		fallback          Version
	}{
		{"same running part, unfinished parent", false, false, 1, parent.Rollout.Fallback},
		{"another running part, unfinished parent", true, false, 2, parent.Rollout.Fallback},
		{"another running part, finished parent", true, true, 2, v},
	}
	for _, tt := range tests {
		b := next(t, Succession{Spec: []byte("{}"), K: 1, Roster: candidates(nodes(3)), Parent: &parent, ParentVersion: v,
			Changed: tt.changed, Finished: tt.finished})
		if b.Revision != tt.revision || b.Rollout.Fallback != tt.fallback || b.Rollout.First {
			t.Errorf("%s: %+v", tt.name, b)
		}
	}
}

// conformance: D5
func TestOrderInALane(t *testing.T) {
	roster := candidates(nodes(12))
	roster[3].Canary, roster[7].Canary, roster[5].Unhealthy, roster[7].Unhealthy = true, true, true, true
	b := next(t, Succession{Spec: []byte("{}"), K: 1, Roster: roster})
	lane := b.Rollout.Lanes[0]
	if first := lane[:2]; !slices.Contains(first, node(3)) || !slices.Contains(first, node(7)) {
		t.Error("the canaries are not first")
	}
	if lane[2] != node(5) {
		t.Error("the unhealthy node does not follow the canaries")
	}
	if !slices.IsSortedFunc(lane[3:], compareID) {
		t.Error("the others are not in the order of their ids")
	}
	if len(b.Rollout.Canaries) != 2 || !slices.IsSortedFunc(b.Rollout.Canaries, compareID) {
		t.Errorf("canaries %v", b.Rollout.Canaries)
	}
}

// Nothing to deal anew for: the lanes stay as they are.
func TestEvenLanesStay(t *testing.T) {
	parent := next(t, Succession{Spec: []byte("{}"), K: 3, Roster: candidates(nodes(10))})
	b := next(t, Succession{Spec: []byte("x"), K: 3, Roster: candidates(nodes(10)), Parent: &parent, Finished: true})
	if !reflect.DeepEqual(b.Rollout.Lanes, parent.Rollout.Lanes) {
		t.Errorf("%v\n%v", b.Rollout.Lanes, parent.Rollout.Lanes)
	}
	b = next(t, Succession{Spec: []byte("x"), K: 5, Roster: candidates(nodes(10)), Parent: &parent, Finished: true})
	if len(b.Rollout.Lanes) != 5 {
		t.Errorf("%d lanes with k = 5 after a finished parent", len(b.Rollout.Lanes))
	}
}

func TestGoneNodesAreDropped(t *testing.T) {
	parent := next(t, Succession{Spec: []byte("{}"), K: 2, Roster: candidates(nodes(6))})
	b := next(t, Succession{Spec: []byte("{}"), K: 2, Roster: candidates(nodes(5)), Parent: &parent, Gone: []NodeID{node(5)}})
	if _, ok := laneOf(b.Rollout.Lanes)[node(5)]; ok {
		t.Error("a node that left is still waited for")
	}
}

func TestManyNodesGoIntoABlob(t *testing.T) {
	s := Succession{Spec: []byte("{}"), K: 50, Roster: candidates(nodes(5000))}
	b, blob, err := NextDaemonBody(s)
	if err != nil {
		t.Fatal(err)
	}
	if b.Rollout.LanesBlob != BlobName(blob) || len(b.Rollout.Lanes) != 0 {
		t.Errorf("lanes_blob %q, %d inline", b.Rollout.LanesBlob, len(b.Rollout.Lanes))
	}
	lanes, err := DecodeLanes(blob)
	if err != nil || len(laneOf(lanes)) != 5000 {
		t.Fatalf("%d nodes in the blob: %v", len(laneOf(lanes)), err)
	}
	s.Parent, s.ParentLanes = &b, lanes
	b2, blob2, err := NextDaemonBody(s)
	if err != nil || b2.Rollout.LanesBlob != b.Rollout.LanesBlob || string(blob2) != string(blob) {
		t.Errorf("the same lanes again make another blob: %v", err)
	}
	s.ParentLanes = nil
	if _, _, err := NextDaemonBody(s); err == nil {
		t.Error("lanes were dealt without the parent's")
	}
	if biggest, err := EncodeLanes(Deal(nodes(MaxLaneNodes), 1000)); err != nil || len(biggest) > MaxBlob {
		t.Errorf("%d nodes take %d bytes, %d are allowed: %v", MaxLaneNodes, len(biggest), MaxBlob, err)
	}
}

func TestDaemonBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := next(t, Succession{Spec: rapid.SliceOfN(rapid.Byte(), 1, 99).Draw(t, "spec"),
			K: rapid.IntRange(1, 9).Draw(t, "k"), Roster: candidates(nodes(rapid.IntRange(1, 256).Draw(t, "nodes")))})
		b.Rollout.Fallback = Version{Generation: rapid.Uint64Max(MaxGeneration).Draw(t, "generation"), Digest: Digest{1}}
		raw, err := EncodeDaemon(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeDaemon(raw)
		if err != nil || !reflect.DeepEqual(got, b) {
			t.Fatalf("%+v\n%+v\n%v", got, b, err)
		}
	})
}
