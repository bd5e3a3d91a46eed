package gossip

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	talkTimeout = 5 * time.Second
	// talkPause is the least time between two rounds in which own news is pushed.
	talkPause = 200 * time.Millisecond
	// relayPause is the least time between two rounds that pass on others' news.
	relayPause = 300 * time.Millisecond
	// greetPause lets the joins of one meeting come in together.
	greetPause = 100 * time.Millisecond
	pushes     = 3  // members that own news is pushed to
	relays     = 2  // members that others' news is passed on to
	neighbours = 3  // members asked in turn
	wander     = 5  // every so many exchanges a random member is asked instead
	maxRumour  = 32 // statements passed on at once; more is somebody catching up
	maxPages   = 64 // of one exchange
	pageLimit  = 512

	talkBackoff    = time.Second
	maxTalkBackoff = 30 * time.Second
)

// talker exchanges statements. Own news goes to three members at once, others'
// news is passed on once to two, and what this misses comes by asking a few fixed
// neighbours, and now and then a random member, for what they learned lately.
type talker struct {
	r     *Ring
	peers *backoff

	met chan struct{} // capacity 1: somebody joined
	ask chan struct{} // capacity 1: news is missing that others have

	inform   chan struct{} // capacity 1: informs is not empty
	informed atomic.Uint64 // requests that Inform has cost

	mu      sync.Mutex
	with    map[NodeID]*talk    // guarded by mu
	informs map[NodeID]struct{} // guarded by mu: who waits for this node's word
}

// talk is where this node stands with one other.
type talk struct {
	busy     bool
	missed   bool   // own news came while busy
	instance string // of the peer's book
	cursor   uint64
	boot     uint64 // of the own statement last given
	seq      uint64

	toldBoot, toldSeq uint64 // of the own statement that Inform last gave
}

func newTalker(r *Ring) *talker {
	return &talker{
		r: r, peers: newBackoff(talkBackoff, maxTalkBackoff, maxStatements),
		met: make(chan struct{}, 1), ask: make(chan struct{}, 1), with: make(map[NodeID]*talk),
		inform: make(chan struct{}, 1), informs: make(map[NodeID]struct{}),
	}
}

func (t *talker) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	book := t.r.cfg.Book
	turn := time.NewTimer(t.r.jitter(t.r.cfg.Tuning.Exchange))
	defer turn.Stop()
	var pushAt, relayAt time.Time
	push, relay, greet := time.NewTimer(time.Hour), time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer push.Stop()
	defer relay.Stop()
	defer greet.Stop()
	cursor := book.Page(NoPull, 0, 0).Cursor
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-book.mine:
			push.Reset(time.Until(pushAt))
		case <-push.C: // once an hour without need, too
			pushAt = time.Now().Add(talkPause)
			for _, m := range t.r.some(t.r.view.list(Alive), pushes) {
				t.start(ctx, &wg, m, true)
			}
		case <-book.leaves:
			wake(t.r.view.changed) // a failed member may turn out to have left
		case <-book.news:
			relay.Reset(time.Until(relayAt))
		case <-relay.C:
			relayAt = time.Now().Add(relayPause)
			cursor = t.relay(ctx, &wg, cursor)
		case <-t.inform:
			t.tell(ctx, &wg)
		case <-t.met:
			greet.Reset(greetPause)
		case <-greet.C:
			t.greet(ctx, &wg)
		case <-t.ask:
			for _, m := range t.r.some(t.r.view.list(Alive), relays) {
				t.start(ctx, &wg, m, false)
			}
		case <-turn.C:
			turn.Reset(t.r.jitter(t.r.cfg.Tuning.Exchange))
			if m, ok := t.partner(n); ok {
				t.start(ctx, &wg, m, false)
			}
			n++
		}
	}
}

// partner returns the member to ask at turn n.
func (t *talker) partner(n int) (Member, bool) {
	ms := t.r.view.list(Alive)
	if len(ms) == 0 {
		return Member{}, false
	}
	t.prune(ms)
	if len(ms) > neighbours && n%wander == wander-1 {
		return t.r.some(ms, 1)[0], true
	}
	near := t.near(ms)
	return near[n%len(near)], true
}

// near returns this node's neighbours: those of least hash with it, which changes
// little as members come and go, so that cursors stay useful.
func (t *talker) near(ms []Member) []Member {
	if len(ms) <= neighbours {
		return ms
	}
	type ranked struct {
		rank Hash
		m    Member
	}
	rs := make([]ranked, 0, len(ms))
	for _, m := range ms {
		rs = append(rs, ranked{sha256.Sum256(append(t.r.cfg.ID[:], m.ID[:]...)), m})
	}
	slices.SortFunc(rs, func(a, b ranked) int { return slices.Compare(a.rank[:], b.rank[:]) })
	out := make([]Member, 0, neighbours)
	for _, r := range rs[:neighbours] {
		out = append(out, r.m)
	}
	return out
}

// greet exchanges with members that were never met: in a small ring with all of
// them, in a large one only until the neighbours' worth is reached, or every join
// would make the whole ring talk.
func (t *talker) greet(ctx context.Context, wg *sync.WaitGroup) {
	ms := t.r.view.list(Alive)
	var strangers []Member
	t.mu.Lock()
	for _, m := range ms {
		if t.with[m.ID] == nil {
			strangers = append(strangers, m)
		}
	}
	met := len(ms) - len(strangers)
	t.mu.Unlock()
	if len(ms) > pushes && met >= neighbours {
		return
	}
	for _, m := range t.r.some(strangers, pushes) {
		t.start(ctx, wg, m, false)
	}
}

// prune forgets where this node stood with those that are gone.
func (t *talker) prune(ms []Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.with) <= 2*len(ms)+16 {
		return
	}
	here := make(map[NodeID]bool, len(ms))
	for _, m := range ms {
		here[m.ID] = true
	}
	for id, k := range t.with {
		if !here[id] && !k.busy {
			delete(t.with, id)
		}
	}
}

// again asks everybody for everything once more: what was refused may now be taken.
func (t *talker) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.with)
}

// start begins an exchange with m unless one is under way.
func (t *talker) start(ctx context.Context, wg *sync.WaitGroup, m Member, news bool) {
	if !t.peers.ready(m.Name) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.with[m.ID]
	if k == nil {
		k = &talk{}
		t.with[m.ID] = k
	}
	if k.busy {
		k.missed = k.missed || news
		return
	}
	k.busy = true
	wg.Go(func() {
		err := t.exchange(ctx, m, k)
		t.mu.Lock()
		k.busy = false
		missed := k.missed
		k.missed = false
		t.mu.Unlock()
		if err != nil {
			if ctx.Err() == nil {
				wait := t.peers.fail(m.Name)
				t.r.log.Debug("exchange statements", "node", m.Name, "retry_in", wait, "err", err)
			}
			return
		}
		t.peers.reset(m.Name)
		if missed {
			wake(t.r.cfg.Book.mine)
		}
	})
}

// exchange gives m the own statement, if m has not got it, and takes what m learned
// since the last time. Only one goroutine at a time uses k, the busy one.
func (t *talker) exchange(ctx context.Context, m Member, k *talk) error {
	for range maxPages {
		var push []Statement
		own, ok := t.r.cfg.Book.Own()
		if ok && (own.Boot != k.boot || own.Seq != k.seq) {
			push = []Statement{own}
		}
		page, err := t.call(ctx, m, k.instance, k.cursor, push)
		if err != nil {
			k.boot, k.seq = 0, 0
			return err
		}
		if page.Instance != k.instance { // another run of the peer: it may have lost ours
			k.boot, k.seq = 0, 0
		}
		if push != nil {
			k.boot, k.seq = own.Boot, own.Seq
		}
		t.r.cfg.Book.Accept(page.Statements)
		k.instance, k.cursor = page.Instance, page.Cursor
		if !page.More {
			return nil
		}
	}
	return nil
}

func (t *talker) call(ctx context.Context, m Member, instance string, cursor uint64, push []Statement) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, talkTimeout)
	defer cancel()
	return t.r.cfg.Exchanger.Statements(ctx, m, instance, cursor, push)
}

// relay passes on what was learned since cursor and returns the new one. In a ring
// so small that everybody pushes to all, there is nothing to pass on.
func (t *talker) relay(ctx context.Context, wg *sync.WaitGroup, cursor uint64) uint64 {
	book := t.r.cfg.Book
	ms := t.r.view.list(Alive)
	page := book.Page(book.instance, cursor, maxRumour+1)
	var news []Statement
	for _, st := range page.Statements {
		if st.ID() != book.id {
			news = append(news, st)
		}
	}
	if page.More || len(news) > maxRumour {
		return book.Page(NoPull, 0, 0).Cursor
	}
	if len(ms) <= pushes || len(news) == 0 {
		return page.Cursor
	}
	for _, m := range t.r.some(ms, relays) {
		if !t.peers.ready(m.Name) {
			continue
		}
		wg.Go(func() {
			if _, err := t.call(ctx, m, NoPull, 0, news); err != nil && ctx.Err() == nil {
				t.peers.fail(m.Name)
			}
		})
	}
	return page.Cursor
}
