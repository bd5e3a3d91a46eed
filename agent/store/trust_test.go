package store

import (
	"context"
	"testing"
)

// Keys that are trusted from now on bring in what was refused; keys that are no
// longer trusted take out what nobody else signed; both as a restart would.
func TestSetTrust(t *testing.T) {
	alice, bob := newOperators(t, 1), newOperators(t, 1)
	disk := newMemDisk()
	s := open(t, Config{Trust: alice.trust(), disk: disk})
	web, db := alice.chain(t, daemon("web"), 2), bob.chain(t, daemon("db"), 1)
	put(t, s, web...)
	if err := s.Ratchet(daemon("web"), web[1].rec.Version()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Offer(t.Context(), db[0].env); err == nil || len(s.Refused()) != 1 {
		t.Fatalf("bob is not trusted yet: %v", err)
	}
	both := append(append(operators{}, alice...), bob...)
	woken := s.Subscribe()
	if err := s.SetTrust(t.Context(), both.trust()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-woken:
	default:
		t.Error("nobody was told")
	}
	if len(s.Refused()) != 0 {
		t.Errorf("still refused: %+v", s.Refused())
	}
	offer(t, s, db[0])
	root := s.Root()
	// Alice goes: her records too, as after a restart, and nothing older comes in.
	if err := s.SetTrust(t.Context(), bob.trust()); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get(daemon("web")); ok || len(s.List("")) != 1 || len(s.Problems()) != 1 {
		t.Errorf("%d entries, problems %q", len(s.List("")), s.Problems())
	}
	if got := open(t, Config{Trust: bob.trust(), disk: disk}).Root(); got != s.Root() {
		t.Errorf("a restart with these keys has root %v, not %v", got, s.Root())
	}
	if s.Accepted(daemon("web")) != web[1].rec.Version() {
		t.Errorf("forgot what was acted upon: %v", s.Accepted(daemon("web")))
	}
	// And she comes back, with all that was hers.
	if err := s.SetTrust(t.Context(), both.trust()); err != nil {
		t.Fatal(err)
	}
	if s.Root() != root || len(s.Problems()) != 0 {
		t.Errorf("root %v, want %v; problems %q", s.Root(), root, s.Problems())
	}
	// What was put aside and taken back can be replaced and survives.
	put(t, s, alice.chain(t, daemon("cache"), 1)...)
	if got := open(t, Config{Trust: both.trust(), disk: disk}).Root(); got != s.Root() {
		t.Errorf("after a restart: root %v, want %v", got, s.Root())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.writing <- struct{}{}
	if err := s.SetTrust(ctx, alice.trust()); err == nil || s.Trust().ID() != both.trust().ID() {
		t.Errorf("while the disk is busy: %v", err)
	}
	<-s.writing
}
