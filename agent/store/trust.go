package store

import (
	"context"
	"fmt"

	"github.com/agentd/agentd/spec/record"
)

// Trust returns the keys whose signatures count now.
func (s *Store) Trust() *record.Trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trust
}

// SetTrust changes the keys whose signatures count, as if the store had been
// opened with them: what lies on disk is verified anew, what is no longer signed
// by anybody is put aside, what was put aside for its signature comes back, and
// what was refused may be offered again. After an error everything is as it was.
func (s *Store) SetTrust(ctx context.Context, trust *record.Trust) error {
	if s.Trust().ID() == trust.ID() {
		return nil
	}
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return fmt.Errorf("trust other keys: %w", ctx.Err())
	}
	cfg := s.cfg
	cfg.Trust = trust
	fresh, err := Open(cfg) // nobody else writes, and readers do not wait for it
	if err != nil {
		return fmt.Errorf("trust other keys: %w", err)
	}
	s.files = fresh.files
	s.mu.Lock()
	s.trust, s.set, s.accepted = trust, fresh.set, fresh.accepted
	s.damaged, s.refused, s.problems = fresh.damaged, fresh.refused, fresh.problems
	s.mu.Unlock()
	s.notify()
	return nil
}
