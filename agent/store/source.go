package store

import (
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec/record"
)

var _ gossip.Source = (*Store)(nil)

// Root hashes everything that the ring agrees on; see gossip.Source.
func (s *Store) Root() gossip.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.Root()
}

// BucketHashes returns the hash of each bucket, zero for an empty one.
func (s *Store) BucketHashes() [gossip.Buckets]gossip.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [gossip.Buckets]gossip.Hash
	for i, h := range s.set.BucketHashes() {
		out[i] = h
	}
	return out
}

// Items lists the items of the named buckets.
func (s *Store) Items(buckets []uint8) []gossip.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := s.set.Items(buckets)
	out := make([]gossip.Item, len(items))
	for i, it := range items {
		out[i] = gossip.Item{
			Key:        it.Key.String(),
			Generation: it.Version.Generation,
			Digest:     gossip.Hash(it.Version.Digest),
			Signers:    it.Signers,
		}
	}
	return out
}

// Wants reports whether fetching an item could change the set; no for what was
// refused before.
func (s *Store) Wants(it gossip.Item) bool {
	k, err := record.ParseKey(it.Key)
	if err != nil {
		return false
	}
	item := record.Item{
		Key:     k,
		Version: record.Version{Generation: it.Generation, Digest: record.Digest(it.Digest)},
		Signers: it.Signers,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, held := s.set.Find(k, item.Version.Digest)
	return !s.refused.refuses(item, held) && s.set.Wants(item)
}

// Body returns the envelope of a record held here, current or in history.
func (s *Store) Body(key string, digest gossip.Hash) ([]byte, bool) {
	k, err := record.ParseKey(key)
	if err != nil {
		return nil, false
	}
	r, ok := s.Find(k, record.Digest(digest))
	return r.Envelope, ok
}

// Item returns what to tell the ring of a record that was put here.
func Item(r record.Record) gossip.Item {
	return gossip.Item{
		Key:        r.Key.String(),
		Generation: r.Generation,
		Digest:     gossip.Hash(r.Digest),
		Signers:    record.SignersHash(r.Signers),
	}
}
