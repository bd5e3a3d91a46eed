// Package store keeps the replicated set of records on disk.
//
// Promises:
//   - What Put or Offer acknowledged survives a crash and a power cut: a record
//     is written, synced, renamed and its folder synced before it counts.
//   - A damaged file costs its own record only, and only until the ring brings
//     it back: the file is put aside and the record is missing from the set,
//     so that the hashes differ from everybody else's. It is never taken for a
//     delete.
//   - An older version than one acted upon is never allowed to be acted upon
//     again (the ratchet), nor one below the floor of a join token.
//   - No file is deleted but those that newer verified records made useless.
//
// A Store is safe for concurrent use. Its reads never wait for the disk.
package store

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/agentd/agentd/spec/record"
)

const (
	shortDigits = 12 // hex digits of a digest in a file name
	fullDigits  = 64
)

// Config of a Store.
type Config struct {
	Dir   string // data_dir; the store keeps Dir/records and Dir/ratchet
	Ring  record.RingID
	Trust *record.Trust
	Log   *slog.Logger // nil: no log
	// Floor are the versions below which nothing is allowed, by "kind/name".
	Floor map[string]record.Version
	Now   func() time.Time // nil: time.Now

	disk disk // nil: the real one
}

// Store is the durable set.
type Store struct {
	cfg     Config
	records string // folder
	ratchet string // folder
	log     *slog.Logger

	// writing holds a token while somebody changes the disk, so that changes
	// come one after the other. It is taken before mu.
	writing chan struct{}
	files   map[record.Digest]string // names in records; guarded by writing

	mu       sync.Mutex
	trust    *record.Trust                 // guarded by mu
	set      *record.Set                   // guarded by mu
	accepted map[record.Key]record.Version // the ratchet; guarded by mu
	damaged  map[record.Key][]hold         // not yet refilled; guarded by mu
	refused  refusals                      // guarded by mu
	problems []string                      // guarded by mu
	wake     []chan struct{}               // guarded by mu
	changed  chan struct{}
}

// Open reads the store in cfg.Dir, which it makes if need be. Files that are
// damaged or not to be trusted never fail it: see Problems.
func Open(cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("open store: no folder given")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.disk == nil {
		cfg.disk = osDisk{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		cfg:      cfg,
		records:  filepath.Join(cfg.Dir, "records"),
		ratchet:  filepath.Join(cfg.Dir, "ratchet"),
		log:      cfg.Log,
		writing:  make(chan struct{}, 1),
		files:    map[record.Digest]string{},
		set:      record.NewSet(),
		accepted: map[record.Key]record.Version{},
		damaged:  map[record.Key][]hold{},
		changed:  make(chan struct{}, 1),
		trust:    cfg.Trust,
	}
	s.wake = []chan struct{}{s.changed}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// Get returns what is held of a key.
func (s *Store) Get(k record.Key) (record.Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.set.Entry(k)
	return e, !e.Empty()
}

// List returns the entries of a kind in the order of their names; of every kind
// for "".
func (s *Store) List(kind record.Kind) []record.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []record.Entry
	for _, k := range s.set.Keys(kind) {
		out = append(out, s.set.Entry(k))
	}
	return out
}

// History returns the superseded revisions of a daemon, newest first; see
// record.Set.History.
func (s *Store) History(name string) []record.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.History(name)
}

// Find returns a record by digest, from an entry or the history.
func (s *Store) Find(k record.Key, d record.Digest) (record.Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.Find(k, d)
}

// Changed returns the channel that gets a token after the set changed; tokens
// do not add up. It has one reader: others call Subscribe.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Subscribe returns a further channel like Changed's.
func (s *Store) Subscribe() <-chan struct{} {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake = append(s.wake, ch)
	return ch
}

func (s *Store) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ch := range s.wake {
		select {
		case ch <- struct{}{}:
		default: // a token is waiting already
		}
	}
}
