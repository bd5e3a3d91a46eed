package rollout

import (
	"testing"
)

// What can't be written down is not acted upon, and does not keep other daemons
// from what they do anyway.
func TestFullDisk(t *testing.T) {
	d := &disk{ends: stepFails}
	k := NewKeeper(Identity{Node: idOf(0)}, map[string]State{"web": scene().State, "old": {Observed: at(2), Done: at(2), Current: Current{at(2), "b"}}}, d)
	got := k.Advance(map[string]Input{"web": scene(), "old": scene()})
	if w := got["web"]; w.Wait.Code != WaitDisk || w.Run.Digest != "a" || w.State.Slot != nil {
		t.Errorf("web: %+v", w)
	}
	if o := got["old"]; o.Wait.Code != "" || o.Run.Digest != "b" {
		t.Errorf("old: %+v", o)
	}
	if _, words := k.Words(); words["web"].Observed != at(1) {
		t.Errorf("it says %+v, which is not on the disk", words["web"])
	}
	// As soon as the disk has room, it goes on.
	d.ends = stepDone
	if w := k.Advance(map[string]Input{"web": scene()})["web"]; w.State.Slot == nil || w.Run.Digest != "b" || d.states["web"].Slot == nil {
		t.Errorf("web: %+v, on the disk %+v", w, d.states["web"])
	}
}

// The state on the disk is the one that was decided upon, at the moment when
// the decision is returned; nothing is written when nothing changed.
func TestPersistBeforeActing(t *testing.T) {
	d := &disk{}
	k := NewKeeper(Identity{Node: idOf(0)}, map[string]State{"web": scene().State}, d)
	got := k.Advance(map[string]Input{"web": scene()})["web"]
	if got.State.Slot == nil || !d.states["web"].Equal(got.State) || !k.State("web").Equal(got.State) {
		t.Fatalf("decided %+v, on the disk %+v", got.State, d.states["web"])
	}
	d.ends = stepFails
	if again := k.Advance(map[string]Input{"web": scene()})["web"]; again.Wait.Code != "" || again.Run.Digest != "b" {
		t.Errorf("nothing changed, and %+v", again.Wait)
	}
}

// What others hear is no business of theirs but for what they need.
func TestWords(t *testing.T) {
	k := NewKeeper(Identity{Node: idOf(0)}, map[string]State{"web": scene().State}, &disk{})
	who, words := k.Words()
	if who.ID() != idOf(0) || !words["web"].Current.IsZero() || words["web"].Done != at(1) {
		t.Errorf("%v says %+v", who, words)
	}
}

// A node that leaves gives its turn back, and what it promised stays; when it
// joins again it is another one.
func TestLeaveAndRejoin(t *testing.T) {
	in := scene()
	holding(&in)
	d := &disk{}
	k := NewKeeper(Identity{Node: idOf(0)}, map[string]State{"web": in.State}, d)
	if err := k.Left(); err != nil {
		t.Fatal(err)
	}
	if s := k.State("web"); s.Slot != nil || !s.Current.IsZero() || s.Observed != at(2) || !d.states["web"].Equal(s) {
		t.Errorf("after it left: %+v, on the disk %+v", s, d.states["web"])
	}
	for i := range maxPast + 2 {
		was := k.ID()
		if err := k.Rejoined(); err != nil {
			t.Fatal(err)
		}
		if past := k.Past(); k.ID() == was || past[0] != was || len(past) != min(i+1, maxPast) || len(k.Names()) != 0 {
			t.Fatalf("it is %v, was %v, with states of %v", k.ID(), past, k.Names())
		}
	}
	d.ends = stepFails
	was := k.ID()
	if k.Rejoined() == nil || k.ID() != was || k.Left() == nil {
		t.Error("a full disk goes unnoticed")
	}
}
