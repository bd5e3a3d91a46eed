package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/agentd/agentd/gossip"
)

const (
	// maxBindings bounds what members who make up names can fill: several times
	// the 5,000 nodes that a ring is designed for.
	maxBindings = 20_000
	// maxConflicts and conflictAge bound what is remembered for the status.
	maxConflicts = 64
	conflictAge  = time.Hour
	// persistPause is the shortest time between two writes of the file: a ring
	// of 1,000 that is met at once must not cost 1,000 fsyncs.
	persistPause = time.Second
	persistRetry = 30 * time.Second
)

// BindingsConfig makes Bindings.
type BindingsConfig struct {
	Path string    // of the file they are kept in; "" keeps them in memory only
	Self *Identity // this node's own name is bound to its own key, always
	Log  *slog.Logger
}

// Bindings remember which key each node name belongs to, as first seen. Another
// key under the same name is refused until the name is forgotten.
//
// They are kept in memory and written by Run, shortly after a change.
type Bindings struct {
	cfg   BindingsConfig
	dirty chan struct{} // capacity 1: there is something to write

	mu        sync.Mutex
	names     map[string]binding             // guarded by mu
	conflicts map[conflictKey]*conflictEntry // guarded by mu
	changes   uint64                         // guarded by mu
	full      bool                           // said so; guarded by mu
	problem   error                          // of the last write; guarded by mu

	writing sync.Mutex // one writer at a time; never taken with mu held
	written uint64     // the change up to which the file is complete; guarded by writing
}

// binding of a name. One that was released still serves the id it names, and
// gives way to the first other one: a late message of the old machine must not
// bind the name to it again before the new machine comes.
type binding struct {
	ID       gossip.NodeID
	Released bool
}

type conflictKey struct {
	name string
	seen gossip.NodeID
}

type conflictEntry struct {
	NameConflict
	last time.Time
}

// OpenBindings reads what was remembered. A damaged file is put aside, with a
// warning, and names are bound as seen from then on.
func OpenBindings(cfg BindingsConfig) (*Bindings, error) {
	if cfg.Self == nil {
		return nil, errors.New("open name bindings: no identity")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bindings{
		cfg:       cfg,
		dirty:     make(chan struct{}, 1),
		names:     make(map[string]binding),
		conflicts: make(map[conflictKey]*conflictEntry),
	}
	if cfg.Path != "" {
		names, err := readBindings(cfg.Path, cfg.Log)
		if err != nil {
			return nil, fmt.Errorf("open name bindings: %w", err)
		}
		b.names = names
	}
	delete(b.names, cfg.Self.Name)
	return b, nil
}

// Check binds name to id if it is new, and returns a *NameConflict if it
// belongs to another. It touches memory only and never blocks on the disk.
func (b *Bindings) Check(name string, id gossip.NodeID) error {
	return b.CheckAt(name, id, "")
}

// CheckAt is Check for a node that was met at addr, which conflicts then name.
func (b *Bindings) CheckAt(name string, id gossip.NodeID, addr string) error {
	if !validNodeName(name) {
		return fmt.Errorf("node name %q is not valid", clean(name, maxName))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	bound, known := b.lookup(name)
	switch {
	case known && bound.ID == id:
		return nil
	case known && !bound.Released:
		c := NameConflict{Name: name, Bound: bound.ID, Seen: id, Addr: addr}
		b.note(c)
		return &c
	case !known && len(b.names) >= maxBindings:
		if !b.full {
			b.full = true
			b.cfg.Log.Error("too many node names are known, new ones are refused; a member may be making them up", "limit", maxBindings)
		}
		return fmt.Errorf("node %q is not known yet and the limit of %d node names is reached", name, maxBindings)
	}
	b.names[name] = binding{ID: id}
	if known {
		b.cfg.Log.Info("forgotten node name taken by another key", "node", name, "id", id.String(), "was", bound.ID.String())
	}
	b.touch()
	return nil
}

// lookup is called with mu held.
func (b *Bindings) lookup(name string) (binding, bool) {
	if self := b.cfg.Self; name == self.Name {
		return binding{ID: self.ID}, true
	}
	bound, ok := b.names[name]
	return bound, ok
}

// Lookup returns the id that name is bound to.
func (b *Bindings) Lookup(name string) (gossip.NodeID, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bound, ok := b.lookup(name)
	return bound.ID, ok
}

// Forget releases a name, so that the next key that is seen under it and is not
// the one bound so far takes it over; with ids, only if it is bound to one of
// them. It reports whether anything was released. One's own name never is.
func (b *Bindings) Forget(name string, ids ...gossip.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.conflicts {
		if k.name == name {
			delete(b.conflicts, k)
		}
	}
	bound, ok := b.names[name]
	if !ok || bound.Released || (len(ids) > 0 && !slices.Contains(ids, bound.ID)) {
		return false
	}
	bound.Released = true
	b.names[name] = bound
	b.touch()
	return true
}

// Conflicts returns the names that two keys claimed within the last hour,
// sorted by name, for the status.
func (b *Bindings) Conflicts() []NameConflict {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire()
	list := make([]NameConflict, 0, len(b.conflicts))
	for _, c := range b.conflicts {
		list = append(list, c.NameConflict)
	}
	slices.SortFunc(list, func(x, y NameConflict) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), slices.Compare(x.Seen[:], y.Seen[:]))
	})
	return list
}

// report remembers a conflict that another node told of.
func (b *Bindings) report(c NameConflict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note(c)
}

// note remembers a conflict and logs it when it is new. Called with mu held.
func (b *Bindings) note(c NameConflict) {
	k := conflictKey{c.Name, c.Seen}
	old, known := b.conflicts[k]
	if known && time.Since(old.last) < conflictAge {
		if c.Addr != "" {
			old.Addr = c.Addr
		}
		old.last = time.Now()
		return
	}
	if !known {
		if len(b.conflicts) >= maxConflicts {
			b.expire()
		}
		if len(b.conflicts) >= maxConflicts {
			return
		}
	}
	b.conflicts[k] = &conflictEntry{NameConflict: c, last: time.Now()}
	b.cfg.Log.Warn("two keys claim one node name", "node", c.Name, "err", c.Error())
}

// expire is called with mu held.
func (b *Bindings) expire() {
	for k, c := range b.conflicts {
		if time.Since(c.last) >= conflictAge {
			delete(b.conflicts, k)
		}
	}
}

// Problem returns why the bindings could not be written, nil when they could.
func (b *Bindings) Problem() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.problem
}

// touch is called with mu held, after every change.
func (b *Bindings) touch() {
	b.changes++
	b.wake()
}

// wake makes Run look at what is to be written.
func (b *Bindings) wake() {
	select {
	case b.dirty <- struct{}{}:
	default:
	}
}

// Run writes changes to disk until ctx ends, and once more then. The server
// runs it; without one, call Flush.
func (b *Bindings) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return b.Flush()
		case <-b.dirty:
		}
		pause := persistPause
		if err := b.Flush(); err != nil {
			pause = persistRetry
			b.wake()
		}
		select {
		case <-ctx.Done():
			return b.Flush()
		case <-time.After(pause):
		}
	}
}

// Flush returns once all changes are on disk.
func (b *Bindings) Flush() error {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	changes := b.changes
	if b.cfg.Path == "" || changes == b.written {
		b.mu.Unlock()
		return nil
	}
	data := formatBindings(b.names)
	b.mu.Unlock()

	err := writeBindings(b.cfg.Path, data)
	b.mu.Lock()
	first := err != nil && b.problem == nil
	b.problem = err
	b.mu.Unlock()
	if first {
		b.cfg.Log.Warn("name bindings are not on disk; they hold until this agentd ends", "err", err)
	}
	if err == nil {
		b.written = changes
	}
	return err
}
