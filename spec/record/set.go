package record

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

// Buckets is how many parts the set's hash is cut into; see Key.Bucket.
const Buckets = 256

// Set is a replicated set of entries, in memory, with hashes by which two
// nodes find out where theirs differ. It is not safe for concurrent use: even
// reading hashes brings them up to date.
type Set struct {
	slots   map[Key]*slot
	pins    map[Key]Digest
	counts  map[Kind]int
	buckets [Buckets]bucket
	root    [32]byte
	current bool // root is up to date
}

type slot struct {
	entry Entry
	old   []Record // daemons: revisions that fell out of the entry, greatest first
}

type bucket struct {
	keys  []string // sorted
	hash  [32]byte
	stale bool
}

// NewSet returns an empty set.
func NewSet() *Set {
	return &Set{slots: map[Key]*slot{}, pins: map[Key]Digest{}, counts: map[Kind]int{}}
}

// Offer merges a record that Verify returned and reports whether the entry
// changed. What falls out of a daemon's entry may stay as history, which is
// local and no part of the hashes.
func (s *Set) Offer(r Record) (changed bool) {
	sl := s.slots[r.Key]
	if sl == nil {
		sl = &slot{}
		s.slots[r.Key] = sl
		s.counts[r.Key.Kind]++
		b := &s.buckets[r.Key.Bucket()]
		text := r.Key.String()
		i, _ := slices.BinarySearch(b.keys, text)
		b.keys = slices.Insert(b.keys, i, text)
	}
	before := sl.entry
	sl.entry = Merge(before, EntryOf(r))
	changed = !same(before, sl.entry)
	if r.Key.Kind == KindDaemon {
		sl.remember(append(before.All(), r), s.pins[r.Key])
	}
	if changed {
		s.buckets[r.Key.Bucket()].stale, s.current = true, false
	}
	return changed
}

// same compares what the hashes cover, and the envelopes.
func same(a, b Entry) bool {
	eq := func(a, b Record) bool { return a.Digest == b.Digest && string(a.Envelope) == string(b.Envelope) }
	return slices.EqualFunc(a.Records, b.Records, eq) && slices.EqualFunc(a.Past, b.Past, eq)
}

// Entry returns what is held of a key; the zero Entry for nothing.
func (s *Set) Entry(k Key) Entry {
	if sl := s.slots[k]; sl != nil {
		return sl.entry
	}
	return Entry{}
}

// Admit is the function Admit on what is held, with the limit on the number of
// names.
func (s *Set) Admit(r Record) error {
	cur := s.Entry(r.Key)
	if cur.Empty() && s.counts[r.Key.Kind] >= MaxKeys {
		return fmt.Errorf("%w: there are %d records of kind %s already, which is the limit", ErrTooLarge, s.counts[r.Key.Kind], r.Key.Kind)
	}
	return Admit(cur, r)
}

// Keys returns the keys of a kind, sorted; of every kind for "".
func (s *Set) Keys(kind Kind) []Key {
	var keys []Key
	for k := range s.slots {
		if kind == "" || k.Kind == kind {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return keys
}

// Wants reports whether a record with that item's version and signers could
// change the set.
func (s *Set) Wants(it Item) bool {
	return it.Key.Valid() == nil && it.Version.Generation > 0 && it.Version.Generation <= MaxGeneration &&
		s.Entry(it.Key).wants(it)
}

// Find returns a record that is held, in an entry or in the history.
func (s *Set) Find(k Key, d Digest) (Record, bool) {
	sl := s.slots[k]
	if sl == nil {
		return Record{}, false
	}
	if r, ok := sl.entry.Find(d); ok {
		return r, true
	}
	i := slices.IndexFunc(sl.old, func(r Record) bool { return r.Digest == d })
	if i < 0 {
		return Record{}, false
	}
	return sl.old[i], true
}

// Held returns every record of a key, history included, greatest first.
func (s *Set) Held(k Key) []Record {
	sl := s.slots[k]
	if sl == nil {
		return nil
	}
	return append(sl.entry.All(), sl.old...)
}

// BucketHashes returns the hash of each bucket, zero for an empty one.
func (s *Set) BucketHashes() [Buckets][32]byte {
	s.refresh()
	var out [Buckets][32]byte
	for i := range s.buckets {
		out[i] = s.buckets[i].hash
	}
	return out
}

// Root hashes all items; sets with equal roots hold the same.
func (s *Set) Root() [32]byte {
	s.refresh()
	return s.root
}

// Items lists the items of the named buckets: by bucket as asked, by key, the
// greatest version first.
func (s *Set) Items(buckets []uint8) []Item {
	var items []Item
	for _, b := range buckets {
		items = append(items, s.items(b)...)
	}
	return items
}

func (s *Set) items(b uint8) []Item {
	var items []Item
	for _, text := range s.buckets[b].keys {
		k, err := ParseKey(text)
		if err != nil {
			continue // Verify lets no such key in
		}
		items = append(items, s.Entry(k).Items()...)
	}
	return items
}

// refresh hashes the buckets that changed. The form is length-prefixed or of
// fixed size throughout, so that no two lists of items look the same.
func (s *Set) refresh() {
	if s.current {
		return
	}
	all := sha256.New()
	all.Write([]byte("agentd set 1\n"))
	for i := range s.buckets {
		b := &s.buckets[i]
		if b.stale {
			h := sha256.New()
			h.Write([]byte("agentd bucket 1\n"))
			var buf []byte
			for _, it := range s.items(uint8(i)) {
				text := it.Key.String()
				buf = append(buf[:0], byte(len(text)))
				buf = append(buf, text...)
				buf = binary.BigEndian.AppendUint64(buf, it.Version.Generation)
				buf = append(buf, it.Version.Digest[:]...)
				buf = append(buf, it.Signers[:]...)
				h.Write(buf)
			}
			b.hash, b.stale = [32]byte(h.Sum(nil)), false
		}
		all.Write(b.hash[:])
	}
	s.root, s.current = [32]byte(all.Sum(nil)), true
}

// Pin keeps one record of a daemon from falling out of the history: the one
// that this node acts upon, which may be old when what is newer is in conflict
// or not understood. A further call moves the pin.
func (s *Set) Pin(k Key, d Digest) { s.pins[k] = d }
