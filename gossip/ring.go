package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// tick is how often the ring looks after itself: a set that changed without
	// a Hint shows in the announced root this much later at most.
	tick = time.Second
	// queueLen bounds what waits between memberlist's callbacks, callers and the
	// ring's own goroutines; what does not fit is dropped, the root repairs it.
	queueLen = 256
	// maxQueued bounds the hints that wait to be broadcast.
	maxQueued = 1024
	// leaveTimeout is how long Leave waits for the ring when its context does not say.
	leaveTimeout = 5 * time.Second
)

// Ring is this node's membership in the ring. Its methods are safe for
// concurrent use, before, during and after Run.
type Ring struct {
	cfg   Config
	log   *slog.Logger
	view  *view
	notes notes
	known *known
	sync  *syncer
	fetch *fetcher
	talk  *talker
	hints *memberlist.TransmitLimitedQueue
	root  atomic.Pointer[Hash] // what is announced: at most a tick old

	turned atomic.Pointer[time.Time] // when housekeep last came round

	says   chan func() // log lines out of callbacks
	tells  chan Item   // items to hint at
	joined chan struct{}
	rewake chan struct{} // Rejoin was called

	// ending holds a token while the membership ends, by a leave or by a stop, at
	// most for as long as a leave may take. It is taken before mu.
	ending chan struct{}

	mu       sync.Mutex
	rng      *rand.Rand             // guarded by mu
	admitted map[string]bool        // name/id that Admit agreed to; guarded by mu
	ml       *memberlist.Memberlist // nil while passive; guarded by mu
	hooks    *hooks                 // of ml; guarded by mu
	left     bool                   // guarded by mu
	seeds    []string               // guarded by mu
	self     Member                 // guarded by mu
}

// New returns a ring that does nothing before Run.
func New(cfg Config) (*Ring, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("ring: %w", err)
	}
	seed := cfg.Tuning.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	r := &Ring{
		cfg: cfg, log: cfg.Log, view: newView(), known: newKnown(cfg.Peers),
		says: make(chan func(), queueLen), tells: make(chan Item, queueLen),
		joined: make(chan struct{}, 1), rewake: make(chan struct{}, 1), ending: make(chan struct{}, 1),
		rng: rand.New(rand.NewPCG(seed, 1)), admitted: make(map[string]bool), left: cfg.Left,
		seeds: slices.Clone(cfg.Seeds),
	}
	now := time.Now()
	r.self = Member{Name: cfg.Name, ID: cfg.ID, Addr: cfg.Advertise, PeerAddr: cfg.PeerAddr, Version: cfg.Version, Since: now}
	if r.self.Addr == "" {
		r.self.Addr = cfg.Bind
	}
	r.hints = &memberlist.TransmitLimitedQueue{
		NumNodes: func() int { return int(r.view.present.Load()) }, RetransmitMult: 4, // the LAN profile's
	}
	r.sync, r.fetch, r.talk = newSyncer(r), newFetcher(r), newTalker(r)
	r.refresh()
	if cfg.Left {
		cfg.Book.SetLeft(true)
	}
	return r, nil
}

// Run takes part in the ring until ctx ends. It fails at once when the address
// is taken; an address that is not there yet is waited for.
func (r *Ring) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer r.stop()
	wg.Go(func() { r.pump(ctx) })
	if !r.hasLeft() {
		if err := r.start(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("ring: %w", err)
		}
	}
	wg.Go(func() { r.housekeep(ctx) })
	wg.Go(func() { r.tellLoop(ctx) })
	wg.Go(func() { r.sync.run(ctx) })
	wg.Go(func() { r.fetch.run(ctx) })
	wg.Go(func() { r.talk.run(ctx) })
	wg.Go(func() { r.rejoinLoop(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.rewake:
			r.stop()
			if err := r.start(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("ring: rejoin: %w", err)
			}
			wake(r.joined) // look for seeds now
		}
	}
}

// stop ends the membership without a word to others: a node that stops is not
// one that leaves.
func (r *Ring) stop() {
	r.ending <- struct{}{}
	defer func() { <-r.ending }()
	r.mu.Lock()
	ml, h := r.ml, r.hooks
	r.ml, r.hooks = nil, nil
	r.mu.Unlock()
	if ml == nil {
		return
	}
	h.closed.Store(true)
	if err := ml.Shutdown(); err != nil {
		r.log.Debug("shut membership down", "err", err)
	}
	r.view.lost()
}

// pump writes the log lines of callbacks, which must not wait for a log.
func (r *Ring) pump(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-r.says:
			f()
		}
	}
}

// say runs f soon, or never if too much is waiting already.
func (r *Ring) say(f func()) {
	select {
	case r.says <- f:
	default:
	}
}

// housekeep renews the announced root and forgets what is old.
func (r *Ring) housekeep(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r.refresh()
		for _, m := range r.view.decide(spread) {
			r.departed(m)
		}
		if n%10 == 0 {
			r.savePeers()
		}
		if n%15 == 0 && r.moved() {
			r.log.Warn("this machine's address has changed, the ring is told the new one", "was", r.Self().Addr)
			wake(r.rewake)
		}
		if n%60 == 0 {
			r.view.expire()
			r.cfg.Book.Prune(func(name string, _ NodeID) bool {
				m, ok := r.view.get(name)
				return ok && m.State != Left
			})
		}
		r.turn()
	}
}

// refresh announces the current root.
func (r *Ring) refresh() {
	root := r.cfg.Source.Root()
	r.root.Store(&root)
}

// compare notes that a member announced a root.
func (r *Ring) compare(name string, root Hash) {
	if name == "" || name == r.cfg.Name {
		return
	}
	if root == *r.root.Load() {
		r.sync.agree(name)
		return
	}
	r.sync.differ(name, root)
}

// Hint tells the ring of an item that is on disk here: at once to some members,
// to all others by broadcast.
func (r *Ring) Hint(item Item) {
	select {
	case r.tells <- item:
	default: // the root will tell
	}
}

// Changed is woken after the membership changed. It has capacity 1.
func (r *Ring) Changed() <-chan struct{} { return r.view.changed }

// Self returns this node as others see it.
func (r *Ring) Self() Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.self
	m.State, m.LastSeen = Alive, time.Now()
	if r.left {
		m.State = Left
	}
	return m
}

// NumAlive returns how many nodes are alive, this one included unless it left.
func (r *Ring) NumAlive() int {
	n := len(r.view.list(Alive))
	if !r.hasLeft() {
		n++
	}
	return n
}

// Members returns this node and all others that are there, or failed or left
// within a day, sorted by name. Nodes that are only known by what they once said
// of themselves, as after a restart of this node while they were away, are among
// the failed, without an address.
func (r *Ring) Members() []Member {
	ms := r.view.list()
	have := map[string]bool{r.cfg.Name: true}
	now := time.Now()
	for i, m := range ms {
		have[m.Name] = true
		if m.State == Alive {
			ms[i].LastSeen = now
		}
		ms[i] = r.settle(ms[i])
	}
	for _, st := range r.cfg.Book.All() {
		at, ok := r.cfg.Book.Learned(st.ID())
		if !ok || have[st.Node] || now.Sub(at) < 10*tick { // a join is on its way
			continue
		}
		have[st.Node] = true
		m := Member{Name: st.Node, ID: st.ID(), State: Failed, Since: at, LastSeen: at}
		if st.Left {
			m.State = Left
		}
		ms = append(ms, m)
	}
	ms = append(ms, r.Self())
	slices.SortFunc(ms, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return ms
}

// settle tells a member that left from one that failed, by its own signed word.
func (r *Ring) settle(m Member) Member {
	gone := m.State == Failed || (m.State == Suspect && r.view.isDoubted(m.Name))
	if gone && r.cfg.Book.left(m.ID) {
		r.known.drop(m.Addr)
		if m.State == Suspect { // nobody else will log it
			r.say(func() { r.log.Info("member left", "node", m.Name, "addr", m.Addr) })
		}
		if left, ok := r.view.gone(m.Name, Left); ok {
			return left
		}
		m.State = Left
	}
	return m
}

// Forget drops what is remembered of a member that is not there, so that its
// name is free for another machine.
func (r *Ring) Forget(name string) {
	if m, ok := r.view.get(name); ok && m.State != Alive && m.State != Suspect {
		r.known.drop(m.Addr)
	}
	r.view.forget(name)
	r.cfg.Book.Forget(name)
	r.talk.again()
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.admitted {
		if strings.HasPrefix(key, name+"/") {
			delete(r.admitted, key)
		}
	}
	r.notes.forget(name)
}

func (r *Ring) hasLeft() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

func (r *Ring) list() *memberlist.Memberlist {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ml
}

// jitter returns a random time in [d/2, d*3/2).
func (r *Ring) jitter(d time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return d/2 + time.Duration(r.rng.Int64N(int64(d)))
}

// some returns up to n of ms in random order.
func (r *Ring) some(ms []Member, n int) []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rng.Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	return ms[:min(n, len(ms))]
}

// pause waits for d or the end of ctx, and reports whether it waited.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
