package store

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/agentd/agentd/spec/record"
)

// Put admits, stores and merges a record that a user hands in. Once it returned
// nil the record is on disk for good. changed is false for a record that was
// held already.
//
// Errors: those of record.Verify, *record.ConflictError, *BehindError, and
// *DiskError, after which everything is as it was.
func (s *Store) Put(ctx context.Context, envelope []byte) (r record.Record, changed bool, err error) {
	trust := s.Trust()
	r, _, err = s.verify(envelope, trust)
	if err != nil {
		return record.Record{}, false, err
	}
	return s.merge(ctx, r, trust, s.admit)
}

// Offer verifies and merges an envelope that came from a peer and reports
// whether the set changed. It knows no limits that depend on what is held, or
// the ring would not converge.
func (s *Store) Offer(ctx context.Context, envelope []byte) (changed bool, err error) {
	trust := s.Trust()
	r, claim, err := s.verify(envelope, trust)
	if err != nil {
		return false, err
	}
	if r, changed, err = s.merge(ctx, r, trust, nil); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused.spend(r, claim)
	return changed, nil
}

// verify also remembers what need not be fetched again.
func (s *Store) verify(envelope []byte, trust *record.Trust) (record.Record, record.Claim, error) {
	r, claim, err := record.VerifyClaim(envelope, s.cfg.Ring, trust)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if trust == s.trust && s.refused.add(err, trust.ID(), s.cfg.Now()) {
			s.log.Warn("record refused", "err", err)
		}
	}
	return r, claim, err
}

// admit is called with s.mu held.
func (s *Store) admit(r record.Record) error {
	cur := s.set.Entry(r.Key)
	held := slices.ContainsFunc(cur.Records, func(o record.Record) bool { return o.Digest == r.Digest })
	if !held {
		if reason := s.behind(r.Key, r.Version()); reason != "" {
			return &BehindError{r.Key, reason}
		}
	}
	return s.set.Admit(r)
}

// merge makes r, which was verified with these keys, part of the set, on disk
// first. admit may refuse it.
func (s *Store) merge(ctx context.Context, r record.Record, trust *record.Trust, admit func(record.Record) error) (record.Record, bool, error) {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return record.Record{}, false, fmt.Errorf("store %s: %w", r.Key, ctx.Err())
	}
	if s.Trust() != trust {
		return record.Record{}, false, fmt.Errorf("store %s: other operators are trusted since a moment ago; try again", r.Key)
	}
	r, changed, err := s.preview(r, admit)
	if err != nil || !changed {
		return r, false, err
	}
	if err := s.writeRecord(r); err != nil {
		return record.Record{}, false, err
	}
	s.mu.Lock()
	before := s.set.Held(r.Key)
	s.set.Offer(r)
	after := s.set.Held(r.Key)
	s.settle()
	s.mu.Unlock()
	for _, old := range before {
		if !slices.ContainsFunc(after, func(o record.Record) bool { return o.Digest == old.Digest }) {
			s.remove(filepath.Join(s.records, s.files[old.Digest]))
			delete(s.files, old.Digest)
		}
	}
	s.notify()
	return r, true, nil
}

// preview returns r with the signatures of both, and whether it is news.
func (s *Store) preview(r record.Record, admit func(record.Record) error) (record.Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if admit != nil {
		if err := admit(r); err != nil {
			return record.Record{}, false, err
		}
	}
	cur := s.set.Entry(r.Key)
	united, kept := record.Merge(cur, record.EntryOf(r)).Find(r.Digest)
	if !kept {
		return r, false, nil
	}
	have, held := cur.Find(r.Digest)
	return united, !held || string(have.Envelope) != string(united.Envelope), nil
}

// writeRecord puts r on disk; the caller holds the writing token, or opens the
// store.
func (s *Store) writeRecord(r record.Record) error {
	name, fresh := s.files[r.Digest], false
	if name == "" {
		fresh = true
		name = recordName(r, shortDigits)
		for d, taken := range s.files {
			if taken == name && d != r.Digest {
				name = recordName(r, fullDigits)
				break
			}
		}
	}
	path := filepath.Join(s.records, name)
	if err := writeFile(s.cfg.disk, path, encodeFile(recordTag, r.Envelope)); err != nil {
		if fresh {
			// Nobody was told that it is here; it must not come up at the next
			// start as a rival to what was written instead.
			_ = s.cfg.disk.Remove(path)
		}
		return &DiskError{fmt.Sprintf("write generation %d of %s", r.Generation, r.Key), s.cfg.Dir, err}
	}
	s.files[r.Digest] = name
	return nil
}

// settle drops from the damaged what is here again; s.mu is held.
func (s *Store) settle() {
	for k, ids := range s.damaged {
		e := s.set.Entry(k)
		if e.Empty() {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(ids), func(h hold) bool { return h.covers(e.Winner().Version()) })
		if len(left) < len(ids) {
			s.log.Info("damaged record refilled", "record", k.String(), "generation", e.Winner().Generation)
		}
		if s.damaged[k] = left; len(left) == 0 {
			delete(s.damaged, k)
		}
	}
}
