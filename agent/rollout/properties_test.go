package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"testing"
	"time"

	"github.com/agentd/agentd/spec/record"
	"pgregory.net/rapid"
)

// sealed gives a body the checksum that it needs.
func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(append([]byte(hex.EncodeToString(sum[:])), '\n'), body...)
}

func drawVersion(t *rapid.T, label string) Version {
	g := rapid.Uint64Range(0, 4).Draw(t, label)
	if g == 0 {
		return Version{}
	}
	d := byte(rapid.IntRange(1, 2).Draw(t, label+" digest"))
	return Version{record.Version{Generation: g, Digest: record.Digest{d}}, rapid.Bool().Draw(t, label+" vetoed")}
}

func drawState(t *rapid.T, label string) State {
	s := State{Observed: drawVersion(t, label+" observed"), Done: drawVersion(t, label+" done")}
	if rapid.Bool().Draw(t, label+" slot") {
		s.Slot = &Slot{drawVersion(t, label+" since"), drawVersion(t, label+" target")}
	}
	if rapid.IntRange(0, 3).Draw(t, label+" lent") == 0 {
		s.Lent = &Loan{To: drawNode(t, label+" to"), For: drawVersion(t, label+" for")}
	}
	if rapid.Bool().Draw(t, label+" asks") {
		s.Asks = drawNode(t, label+" asks")
	}
	if rapid.Bool().Draw(t, label+" failed") {
		s.Failed = drawVersion(t, label+" failed").Version
	}
	s.Started = drawVersion(t, label+" started")
	return s
}

func drawNode(t *rapid.T, label string) NodeID {
	return idOf(uint8(rapid.IntRange(0, 4).Draw(t, label)))
}

func drawNodes(t *rapid.T, label string) map[NodeID]bool {
	out := map[NodeID]bool{}
	for _, n := range rapid.SliceOfN(rapid.IntRange(0, 4), 0, 2).Draw(t, label) {
		out[idOf(uint8(n))] = true
	}
	return out
}

// drawInput is anything that could be true of the world, and much that could
// not. What is fixed by a version is the same for it each time.
func drawInput(t *rapid.T, s State) Input {
	in := Input{Daemon: "web", Self: idOf(0), State: s, Peers: map[NodeID]State{}, Words: map[NodeID]uint64{}}
	v := drawVersion(t, "newest").Version
	digests := []string{"a", "b", "c"}
	pick := int(v.Generation) + int(v.Digest[0])
	in.Newest = Plan{Version: v, Delete: pick%5 == 4, First: v.Generation == 1, Digest: digests[pick%3], Rollback: pick%2 == 0,
		Fallback: gen(1), FallbackDigest: "a", Strategy: Strategy(rapid.IntRange(0, 2).Draw(t, "strategy")), MaxFailures: 1,
		MinReady: time.Second, Deadline: time.Minute}
	order := rapid.Permutation([]NodeID{idOf(0), idOf(1), idOf(2), idOf(3)}).Draw(t, "order")
	cut := rapid.IntRange(1, 4).Draw(t, "cut")
	in.Newest.Lanes = [][]NodeID{order[:cut]}
	if cut < 3 {
		in.Newest.Lanes = append(in.Newest.Lanes, order[cut:3])
	}
	if rapid.IntRange(0, 3).Draw(t, "canary") == 0 {
		in.Newest.Canaries = []NodeID{order[0]}
	}
	if rapid.IntRange(0, 4).Draw(t, "held") == 0 {
		in.Newest.Held = "held"
	}
	if rapid.IntRange(0, 4).Draw(t, "paused") == 0 {
		in.Paused = "paused"
	}
	for i := range uint8(5) {
		if i > 0 && rapid.Bool().Draw(t, "heard") {
			in.Peers[idOf(i)] = drawState(t, "peer")
		}
	}
	in.Down, in.Forgiven = drawNodes(t, "down"), drawNodes(t, "forgiven")
	for n := range drawNodes(t, "words") {
		in.Words[n] = uint64(rapid.IntRange(1, 3).Draw(t, "word"))
	}
	h := &in.Here
	h.Known, h.Placed, h.Alive, h.Ready = rapid.Bool().Draw(t, "known"), rapid.Bool().Draw(t, "placed"), rapid.Bool().Draw(t, "alive"), rapid.Bool().Draw(t, "ready")
	h.Digest = rapid.SampledFrom(digests).Draw(t, "digest")
	h.Rebooted, h.Told = rapid.Bool().Draw(t, "rebooted"), rapid.Bool().Draw(t, "told")
	h.ReadyFor = time.Duration(rapid.IntRange(0, 2).Draw(t, "ready for")) * time.Second
	h.Tried = time.Duration(rapid.IntRange(0, 1).Draw(t, "tried")) * time.Hour
	if rapid.IntRange(0, 4).Draw(t, "closed") == 0 {
		h.Closed = "cordoned"
	}
	return in
}

// Whatever a node hears, in any order, sense or nonsense: what was true of it
// once, past(m, g) and done(m, g), stays true; it takes nothing older than what
// it observed; and it is never silent about why it waits.
func TestFactsStayTrue(t *testing.T) {
	var all []Version
	for g := range uint64(5) {
		for d := range byte(3) {
			for _, veto := range []bool{false, true} {
				all = append(all, Version{record.Version{Generation: g, Digest: record.Digest{d}}, veto})
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var s State
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			in := drawInput(t, s)
			d := Step(in)
			for _, g := range all {
				if s.Past(g) && !d.State.Past(g) || s.IsDone(g) && !d.State.IsDone(g) {
					t.Fatalf("%s: was\n%+v, is\n%+v", g, s, d.State)
				}
			}
			if d.State.Observed.Compare(s.Observed) < 0 {
				t.Fatalf("observed went from %s to %s", s.Observed, d.State.Observed)
			}
			if d.Run != s.Current && !d.Run.IsZero() && d.Run.Version.Compare(s.Observed) < 0 {
				t.Fatalf("takes %s after %s", d.Run.Version, s.Observed)
			}
			if d.State.Slot != nil && d.State.Slot.Since.Compare(d.State.Slot.Target) > 0 {
				t.Fatalf("slot %+v", d.State.Slot)
			}
			if (d.Wait.Code == "") != (d.Wait.Reason == "") {
				t.Fatalf("wait %+v", d.Wait)
			}
			again := Step(withState(in, d.State))
			if d.Wait.Code != "" && again.Run != d.Run && in.Here.Known && d.State.Failed == s.Failed {
				t.Fatalf("it waits (%s), and the next step runs %v instead of %v", d.Wait.Reason, again.Run, d.Run)
			}
			s = d.State
		}
	})
}

func withState(in Input, s State) Input {
	in.State = s
	return in
}

// drawTurn is a scene in which the node may or may not take its turn.
func drawTurn(t *rapid.T) Input {
	in := scene()
	self(&in, uint8(rapid.IntRange(0, 2).Draw(t, "self")))
	old, gave := waitingAt(2), doneAt(2)
	old.Slot, gave.Lent = &Slot{at(1), at(2)}, &Loan{To: idOf(4), For: at(1)}
	for n := range uint8(3) {
		if in.Self != idOf(n) {
			in.Peers[idOf(n)] = rapid.SampledFrom([]State{waitingAt(2), doneAt(2), doneAt(2), doneAt(3), doneAt(1), old, gave}).Draw(t, "peer")
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "canary") == 0 {
		in.Newest.Canaries = []NodeID{idOf(uint8(rapid.IntRange(0, 2).Draw(t, "who")))}
	}
	if rapid.Bool().Draw(t, "two lanes") {
		in.Newest.Lanes = [][]NodeID{{idOf(0), idOf(2)}, {idOf(1)}}
	}
	for n := range drawNodes(t, "words") {
		in.Words[n] = 1
	}
	return in
}

// Hearing less of others never lets a node do what it would not do with more:
// with fewer statements, or older ones, it takes no slot that it does not take
// with the newest of all.
func TestIgnoranceOnlyWaits(t *testing.T) {
	taken, waits := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		in := drawTurn(t)
		less := in
		less.Peers = maps.Clone(in.Peers)
		for n := range uint8(3) {
			switch rapid.IntRange(0, 4).Draw(t, "lost") {
			case 0:
				delete(less.Peers, idOf(n))
			case 1:
				if _, ok := less.Peers[idOf(n)]; ok {
					less.Peers[idOf(n)] = doneAt(1) // before all that it says now
				}
			}
		}
		with, without := Step(in).State.Slot != nil, Step(less).State.Slot != nil
		if without && !with {
			t.Fatalf("takes the slot because it does not know; with all: %+v", Step(in).Wait)
		}
		if without {
			taken++
		} else {
			waits++
		}
	})
	t.Logf("%d took the slot, and %d waited", taken, waits)
	if taken == 0 || waits == 0 {
		t.Errorf("%d took the slot, and %d waited", taken, waits)
	}
}

// Versions travel as text.
func TestVersionText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := Version{record.Version{Generation: rapid.Uint64Range(0, record.MaxGeneration).Draw(t, "generation")}, rapid.Bool().Draw(t, "vetoed")}
		copy(v.Digest[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		text, err := v.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Version
		if err := got.UnmarshalText(text); err != nil || got != v {
			t.Fatalf("%s became %s: %v", v, got, err)
		}
	})
	for _, bad := range []string{"", "1", ".", "1.", "1.00", "-1." + record.Digest{}.String(), "99999999999999999999." + record.Digest{}.String(), "1." + record.Digest{}.String() + "!!"} {
		var v Version
		if err := v.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is %v", bad, v)
		}
	}
}

// Versions are totally ordered: by generation, then digest, then veto.
func TestVersionOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawVersion(t, "a"), drawVersion(t, "b"), drawVersion(t, "c")
		if a.Compare(b) != -b.Compare(a) || (a.Compare(b) == 0) != (a == b) {
			t.Fatalf("%v and %v: %d, %d", a, b, a.Compare(b), b.Compare(a))
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatalf("%v, %v, %v", a, b, c)
		}
		if !a.Vetoed && a.Compare(Version{a.Version, true}) >= 0 {
			t.Fatalf("%v is not before its veto", a)
		}
	})
}
