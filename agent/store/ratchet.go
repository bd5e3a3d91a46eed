package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/agentd/agentd/spec/record"
)

// maxRatchetFile is generous: a ratchet file has about 170 bytes.
const maxRatchetFile = 512

func (s *Store) loadRatchet() error {
	names, err := s.cfg.disk.ReadDir(s.ratchet)
	if err != nil {
		return fmt.Errorf("open store: read %s: %w", s.ratchet, err)
	}
	for _, name := range names {
		path := filepath.Join(s.ratchet, name)
		if strings.HasSuffix(name, tmpSuffix) {
			s.remove(path)
			continue
		}
		key, ok := parseFileKey(name)
		if !ok {
			continue
		}
		b, err := s.cfg.disk.ReadFile(path, maxRatchetFile)
		if err != nil && !errors.Is(err, errTooLong) {
			s.problem("%s cannot be read (%v); it tells which generation of %s was accepted here last", path, err, key)
			continue
		}
		v := record.Version{}
		if err == nil {
			v, err = decodeRatchet(b)
		}
		if err != nil {
			s.putAside(s.ratchet, name, corruptDir, err)
			continue
		}
		s.accept(key, v)
	}
	return nil
}

// Ratchet persists that v is about to be acted upon. It has to be called, and
// to succeed, before anything is done because of a record, a delete included;
// afterwards nothing older is allowed. An older v changes nothing.
func (s *Store) Ratchet(k record.Key, v record.Version) error {
	if v.Compare(s.Accepted(k)) <= 0 {
		return nil
	}
	if err := k.Valid(); err != nil {
		return fmt.Errorf("ratchet: %w", err)
	}
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	if v.Compare(s.Accepted(k)) <= 0 {
		return nil
	}
	if err := writeFile(s.cfg.disk, filepath.Join(s.ratchet, fileKey(k)), encodeRatchet(v)); err != nil {
		return &DiskError{"remember the version of " + k.String(), s.cfg.Dir, err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accept(k, v)
	return nil
}

// accept also keeps the body, whatever becomes of the record in the ring; s.mu
// is held.
func (s *Store) accept(k record.Key, v record.Version) {
	s.accepted[k] = v
	s.set.Pin(k, v.Digest)
}

// Accepted returns the highest version that Ratchet persisted; zero for none.
func (s *Store) Accepted(k record.Key) record.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted[k]
}

// Allowed reports whether a record may be acted upon: nothing below the floor
// that the join token carried, older than what was accepted before, or older
// than what lies damaged. The reason is in words.
func (s *Store) Allowed(r record.Record) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reason := s.behind(r.Key, r.Version())
	return reason == "", reason
}

// behind returns why v is too old, or ""; s.mu is held.
func (s *Store) behind(k record.Key, v record.Version) string {
	if floor, ok := s.cfg.Floor[k.String()]; ok && v.Compare(floor) < 0 {
		return fmt.Sprintf("%s of %s is older than %s, which the ring had when this node joined; it waits for the ring to bring that or a newer one",
			v, k, floor)
	}
	if have, ok := s.accepted[k]; ok && v.Compare(have) < 0 {
		return fmt.Sprintf("%s of %s is older than %s, which was accepted here before; it waits for the ring to bring that or a newer one",
			v, k, have)
	}
	for _, h := range s.damaged[k] {
		if !h.covers(v) {
			return h.text
		}
	}
	return ""
}

// BehindError refuses a new record because this node knows that it lacks a
// newer one.
type BehindError struct {
	Key    record.Key
	Reason string
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("%s cannot be changed from this node now: %s", e.Key, e.Reason)
}
