package gossip

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// swapTimeout bounds one swap with one peer, so that a slow one cannot keep
	// the others waiting for ever.
	swapTimeout = 30 * time.Second
	// swapJitter spreads the swaps of many nodes that learn of the same news.
	swapJitter = 50 * time.Millisecond
	// maxPending bounds the peers that wait for a swap.
	maxPending = 64
	// maxFailures ends a swap with a peer whose bodies do not come, or are refused.
	maxFailures = 3
	// maxRelay is how many changes of one swap are hinted at: more is a node that
	// catches up, which is no news to others.
	maxRelay = 16

	peerBackoff    = time.Second // after a swap that brought nothing, doubling
	maxPeerBackoff = time.Minute // a swap costs 8 KiB of bucket hashes
	itemBackoff    = 2 * time.Second
	maxItemBackoff = 10 * time.Minute
	// doubt is how many peers must fail to deliver an item before it waits for all
	// peers: one liar may not keep a record from us that others have.
	doubt = 3
)

// syncer swaps what is missing with peers whose root differs: one peer at a
// time, after a random pause, backing off from those that bring nothing.
type syncer struct {
	r     *Ring
	peers *backoff // by node name
	items *backoff // by node name and item
	any   *backoff // by item, after several peers failed

	mu      sync.Mutex
	pending map[string]Hash            // announced roots; guarded by mu
	failed  map[string]map[string]bool // item -> peers that failed it; guarded by mu

	wake chan struct{}
}

func newSyncer(r *Ring) *syncer {
	return &syncer{
		r:       r,
		peers:   newBackoff(peerBackoff, maxPeerBackoff, maxStatements),
		items:   newBackoff(itemBackoff, maxItemBackoff, 4096),
		any:     newBackoff(itemBackoff, maxPeerBackoff, 4096),
		pending: make(map[string]Hash), failed: make(map[string]map[string]bool),
		wake: make(chan struct{}, 1),
	}
}

// agree notes that a peer's root equals ours.
func (s *syncer) agree(name string) {
	s.peers.reset(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, name)
}

// differ asks for a swap with a peer, unless the last ones brought nothing.
func (s *syncer) differ(name string, root Hash) {
	if !s.peers.ready(name) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.pending[name]; !ok && len(s.pending) >= maxPending {
		return
	}
	s.pending[name] = root
	wake(s.wake)
}

func (s *syncer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for {
			if !pause(ctx, s.r.jitter(swapJitter)) {
				return
			}
			name, root, ok := s.next()
			if !ok {
				break
			}
			m, ok := s.r.view.get(name)
			if !ok || m.State == Failed || m.State == Left || root == s.r.cfg.Source.Root() {
				continue
			}
			s.swap(ctx, m)
		}
	}
}

// next takes a peer out of those that wait; which one is left to chance.
func (s *syncer) next() (string, Hash, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return "", Hash{}, false
	}
	names := make([]string, 0, len(s.pending))
	for name := range s.pending {
		names = append(names, name)
	}
	slices.Sort(names)
	name := s.r.choose(names)
	root := s.pending[name]
	delete(s.pending, name)
	return name, root, true
}

// swap brings over what a peer has and this node misses, and tells the peer what
// it misses itself.
func (s *syncer) swap(ctx context.Context, m Member) {
	ctx, cancel := context.WithTimeout(ctx, swapTimeout)
	defer cancel()
	changed, lacking, err := s.pull(ctx, m)
	if len(changed) > 0 {
		s.peers.reset(m.Name)
		s.r.refresh()
		if len(changed) <= maxRelay {
			for _, it := range changed {
				s.r.Hint(it)
			}
		}
		s.r.log.Debug("swapped", "node", m.Name, "items", len(changed), "err", err)
	} else {
		wait := s.peers.fail(m.Name)
		s.r.log.Debug("swap brought nothing", "node", m.Name, "retry_in", wait, "err", err)
	}
	s.offer(m, lacking)
}

// pull returns the items that changed the set, and those that the peer lacks.
func (s *syncer) pull(ctx context.Context, m Member) (changed, lacking []Item, err error) {
	src := s.r.cfg.Source
	theirs, err := s.r.cfg.Exchanger.BucketHashes(ctx, m)
	if err != nil {
		return nil, nil, fmt.Errorf("bucket hashes of %s: %w", m.Name, err)
	}
	ours := src.BucketHashes()
	var differ []uint8
	for b := range ours {
		if ours[b] != theirs[b] {
			differ = append(differ, uint8(b))
		}
	}
	if len(differ) == 0 {
		return nil, nil, nil
	}
	items, err := s.r.cfg.Exchanger.Items(ctx, m, differ)
	if err != nil {
		return nil, nil, fmt.Errorf("items of %s: %w", m.Name, err)
	}
	has := make(map[Item]bool, len(items))
	failures := 0
	for _, it := range items {
		has[it] = true
		if len(it.Key) > maxKey || !src.Wants(it) || !s.mayFetch(m.Name, it) {
			continue
		}
		if failures >= maxFailures || ctx.Err() != nil {
			continue // go on for has only
		}
		ok, ferr := s.obtain(ctx, m, it)
		if ok {
			changed = append(changed, it)
		} else if ferr != nil {
			failures++
			err = ferr
		}
	}
	for _, it := range src.Items(differ) {
		if !has[it] {
			lacking = append(lacking, it)
		}
	}
	return changed, lacking, err
}

// obtain fetches one item from one peer and offers it to the source.
func (s *syncer) obtain(ctx context.Context, m Member, it Item) (changed bool, err error) {
	src := s.r.cfg.Source
	body, err := s.r.cfg.Exchanger.Body(ctx, m, it.Key, it.Digest)
	if err == nil {
		changed, err = src.Offer(ctx, body)
		if err == nil && !changed && src.Wants(it) {
			err = fmt.Errorf("%s of %s: its body is not what was announced", it.Key, m.Name)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			s.blame(m.Name, it)
		}
		return false, err
	}
	s.absolve(m.Name, it)
	return changed, nil
}

func itemKey(it Item) string { return it.Key + "\x00" + string(it.Digest[:]) }

// mayFetch reports whether an item may be asked of a peer now.
func (s *syncer) mayFetch(name string, it Item) bool {
	return s.items.ready(name+"\x00"+itemKey(it)) && s.any.ready(itemKey(it))
}

// blame notes that a peer failed to deliver an item.
func (s *syncer) blame(name string, it Item) {
	key := itemKey(it)
	s.items.fail(name + "\x00" + key)
	s.mu.Lock()
	if len(s.failed) >= 4096 {
		clear(s.failed)
	}
	if s.failed[key] == nil {
		s.failed[key] = make(map[string]bool)
	}
	s.failed[key][name] = true
	doubted := len(s.failed[key]) >= doubt
	s.mu.Unlock()
	if doubted {
		s.any.fail(key)
	}
}

func (s *syncer) absolve(name string, it Item) {
	key := itemKey(it)
	s.items.reset(name + "\x00" + key)
	s.any.reset(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.failed, key)
}

// offer tells a peer what it lacks: a few items by name, more by the root, upon
// which it asks by itself.
func (s *syncer) offer(m Member, lacking []Item) {
	if len(lacking) == 0 {
		return
	}
	msg := append([]byte{msgRoot}, encodeSummary(summary{Root: s.r.cfg.Source.Root(), Name: s.r.cfg.Name})...)
	if len(lacking) <= maxDirect {
		msg = encodeHint(hint{Teller: s.r.cfg.Name, Items: lacking})
	}
	s.r.send(m, msg)
}

// send gives a member a message of one packet; it may get lost.
func (r *Ring) send(m Member, msg []byte) {
	ml := r.list()
	if ml == nil {
		return
	}
	if err := ml.SendToAddress(memberlist.Address{Addr: m.Addr, Name: m.Name}, msg); err != nil {
		r.log.Debug("send", "node", m.Name, "err", err)
	}
}

// choose returns one of names, by chance.
func (r *Ring) choose(names []string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return names[r.rng.IntN(len(names))]
}
