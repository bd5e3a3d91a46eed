package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/agentd/agentd/gossip"
)

// Set is a replicated set with the rules of signed records in miniature: the
// greatest (generation, digest) wins, the two greatest of one generation are kept
// as a fork, a delete is an entry like any other, and what is not sealed by an
// operator is refused. Safe for concurrent use.
type Set struct {
	mu      sync.Mutex
	entries map[string][]entry // by key, greatest first
	hashes  [gossip.Buckets]gossip.Hash
	root    gossip.Hash
	refused int
}

type entry struct {
	item     gossip.Item
	record   Record
	envelope []byte
}

// Record is what an envelope holds.
type Record struct {
	Key        string
	Generation uint64
	Author     string
	Body       string
	Delete     bool
}

var _ gossip.Source = (*Set)(nil)

// NewSet returns an empty set.
func NewSet() *Set {
	s := &Set{entries: make(map[string][]entry)}
	s.rehash("")
	return s
}

// Seal returns the record's envelope, as an operator would sign it.
func Seal(r Record) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	sum := sha256.Sum256(append([]byte("sealed"), b...))
	return append(sum[:], b...)
}

// unseal verifies, then parses.
func unseal(env []byte) (entry, error) {
	if len(env) < sha256.Size {
		return entry{}, errors.New("too short")
	}
	payload := env[sha256.Size:]
	sum := sha256.Sum256(append([]byte("sealed"), payload...))
	if !bytes.Equal(sum[:], env[:sha256.Size]) {
		return entry{}, errors.New("not sealed by an operator")
	}
	var r Record
	if err := json.Unmarshal(payload, &r); err != nil {
		return entry{}, err
	}
	it := gossip.Item{Key: r.Key, Generation: r.Generation, Digest: sha256.Sum256(payload)}
	return entry{item: it, record: r, envelope: env}, nil
}

// Put adds a record under the generation after the one held, and returns its item.
func (s *Set) Put(r Record) gossip.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Generation = 1
	if es := s.entries[r.Key]; len(es) > 0 {
		r.Generation = es[0].item.Generation + 1
	}
	e, err := unseal(Seal(r))
	if err != nil {
		panic(err)
	}
	s.merge(e)
	return e.item
}

// Get returns the records of a key, the winner first.
func (s *Set) Get(key string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Record
	for _, e := range s.entries[key] {
		out = append(out, e.record)
	}
	return out
}

// Refused returns how many envelopes were refused.
func (s *Set) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// greater orders versions.
func greater(a, b gossip.Item) int {
	if a.Generation != b.Generation {
		if a.Generation > b.Generation {
			return -1
		}
		return 1
	}
	return bytes.Compare(b.Digest[:], a.Digest[:])
}

// merge takes e in and reports whether that changed anything. Called with mu held.
func (s *Set) merge(e entry) bool {
	es := s.entries[e.item.Key]
	if !wants(es, e.item) {
		return false
	}
	es = append(slices.Clone(es), e)
	slices.SortFunc(es, func(a, b entry) int { return greater(a.item, b.item) })
	keep := 1
	if len(es) > 1 && es[1].item.Generation == es[0].item.Generation {
		keep = 2
	}
	s.entries[e.item.Key] = es[:keep]
	s.rehash(e.item.Key)
	return true
}

func wants(es []entry, it gossip.Item) bool {
	for _, e := range es {
		if e.item.Digest == it.Digest {
			return false
		}
	}
	switch len(es) {
	case 0:
		return true
	case 1:
		return it.Generation >= es[0].item.Generation
	}
	return greater(it, es[1].item) < 0
}

func bucket(key string) uint8 { return sha256.Sum256([]byte(key))[0] }

// rehash renews the bucket of key and the root. Called with mu held.
func (s *Set) rehash(key string) {
	if key != "" {
		b := bucket(key)
		var all []byte
		for _, it := range s.items([]uint8{b}) {
			all = fmt.Appendf(all, "%s\x00%d\x00%x\x00", it.Key, it.Generation, it.Digest)
		}
		s.hashes[b] = sha256.Sum256(all)
	}
	h := sha256.New()
	for _, b := range s.hashes {
		h.Write(b[:])
	}
	s.root = gossip.Hash(h.Sum(nil))
}

// items lists buckets, sorted. Called with mu held.
func (s *Set) items(buckets []uint8) []gossip.Item {
	var out []gossip.Item
	for key, es := range s.entries {
		if slices.Contains(buckets, bucket(key)) {
			for _, e := range es {
				out = append(out, e.item)
			}
		}
	}
	slices.SortFunc(out, func(a, b gossip.Item) int {
		if a.Key != b.Key {
			return bytes.Compare([]byte(a.Key), []byte(b.Key))
		}
		return greater(a, b)
	})
	return out
}

// Root implements gossip.Source.
func (s *Set) Root() gossip.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.root
}

// BucketHashes implements gossip.Source.
func (s *Set) BucketHashes() [gossip.Buckets]gossip.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hashes
}

// Items implements gossip.Source.
func (s *Set) Items(buckets []uint8) []gossip.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items(buckets)
}

// Wants implements gossip.Source.
func (s *Set) Wants(it gossip.Item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wants(s.entries[it.Key], it)
}

// Body implements gossip.Source.
func (s *Set) Body(key string, digest gossip.Hash) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries[key] {
		if e.item.Digest == digest {
			return e.envelope, true
		}
	}
	return nil, false
}

// Offer implements gossip.Source.
func (s *Set) Offer(_ context.Context, env []byte) (bool, error) {
	e, err := unseal(env)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.refused++
		return false, fmt.Errorf("offer: %w", err)
	}
	return s.merge(e), nil
}
