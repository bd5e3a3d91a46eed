package gossip

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	fetchers     = 4               // hints followed at the same time
	fetchTimeout = 5 * time.Second // for one body
	maxWanted    = 512             // items that wait to be fetched
	maxTellers   = 4               // remembered per item
	fanout       = 3               // members told at once by who has news; a ring of four hears it all
	// hintBudget bounds how many hints are followed per second, whoever tells:
	// beyond it the root brings what is genuine. Far above the 5.6 per second that
	// broadcasts can carry in a large ring, far below what would hurt.
	hintBudget = 100
)

// fetcher follows hints: it asks who told for the body, then others.
type fetcher struct {
	r       *Ring
	tellers *backoff // by node name: hints that led nowhere

	mu     sync.Mutex
	wanted map[string]*wanted // by item, guarded by mu
	queue  []*wanted          // not yet taken by a worker; guarded by mu
	spent  int                // of the budget; guarded by mu
	second int64              // that spent belongs to; guarded by mu

	wake chan struct{} // capacity fetchers
}

// wanted is an item that is being looked for.
type wanted struct {
	item    Item
	tellers []string // guarded by fetcher.mu
}

func newFetcher(r *Ring) *fetcher {
	return &fetcher{
		r: r, tellers: newBackoff(itemBackoff, maxPeerBackoff, maxStatements),
		wanted: make(map[string]*wanted), wake: make(chan struct{}, fetchers),
	}
}

// add takes a hint. It is called with memberlist's locks held.
func (f *fetcher) add(h hint) {
	if h.Teller == f.r.cfg.Name || !f.tellers.ready(h.Teller) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, it := range h.Items {
		w, ok := f.wanted[itemKey(it)]
		if !ok {
			if len(f.wanted) >= maxWanted {
				return
			}
			w = &wanted{item: it}
			f.wanted[itemKey(it)] = w
			f.queue = append(f.queue, w)
		}
		if len(w.tellers) < maxTellers && !slices.Contains(w.tellers, h.Teller) {
			w.tellers = append(w.tellers, h.Teller)
		}
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// take returns the next item to look for.
func (f *fetcher) take() *wanted {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		return nil
	}
	w := f.queue[0]
	f.queue = f.queue[1:]
	return w
}

// afford takes one fetch off this second's budget.
func (f *fetcher) afford() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now().Unix(); now != f.second {
		f.second, f.spent = now, 0
	}
	f.spent++
	return f.spent <= hintBudget
}

func (f *fetcher) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range fetchers {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-f.wake:
				}
				for w := f.take(); w != nil && ctx.Err() == nil; w = f.take() {
					f.follow(ctx, w)
				}
			}
		})
	}
}

// follow fetches one item.
func (f *fetcher) follow(ctx context.Context, w *wanted) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.wanted, itemKey(w.item))
	}()
	tried := make(map[string]bool)
	others := 0
	for f.r.cfg.Source.Wants(w.item) && ctx.Err() == nil {
		m, told, ok := f.candidate(w, tried)
		if !ok || !f.afford() {
			return
		}
		if !told {
			if others++; others > 2 {
				return
			}
		}
		tried[m.Name] = true
		fctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		changed, err := f.r.sync.obtain(fctx, m, w.item)
		cancel()
		if err != nil {
			if told {
				f.tellers.fail(m.Name)
			}
			f.r.log.Debug("hint led nowhere", "node", m.Name, "key", w.item.Key, "err", err)
			if errors.Is(err, ErrNotHere) {
				others = maxTellers // only who told may still have it
			}
			continue
		}
		f.tellers.reset(m.Name)
		if changed {
			f.r.refresh()
			f.r.Hint(w.item)
		}
		return
	}
}

// candidate returns a member to ask: who told, then anybody.
func (f *fetcher) candidate(w *wanted, tried map[string]bool) (m Member, told, ok bool) {
	f.mu.Lock()
	tellers := slices.Clone(w.tellers)
	f.mu.Unlock()
	for _, name := range tellers {
		m, ok := f.r.view.get(name)
		if ok && !tried[name] && (m.State == Alive || m.State == Suspect) && f.r.sync.mayFetch(name, w.item) {
			return m, true, true
		}
	}
	for _, m := range f.r.some(f.r.view.list(Alive), maxDirect) {
		if !tried[m.Name] && f.r.sync.mayFetch(m.Name, w.item) {
			return m, false, true
		}
	}
	return Member{}, false, false
}

// hintCast is a hint in memberlist's queue; a newer one of the same item replaces it.
type hintCast struct {
	name string
	msg  []byte
}

var _ memberlist.NamedBroadcast = (*hintCast)(nil)

func (h *hintCast) Name() string    { return h.name }
func (h *hintCast) Message() []byte { return h.msg }
func (h *hintCast) Finished()       {}
func (h *hintCast) Invalidates(o memberlist.Broadcast) bool {
	n, ok := o.(memberlist.NamedBroadcast)
	return ok && n.Name() == h.name
}

// tellLoop spreads hints: directly to a few members, which in a small ring is
// everybody at once (memberlist's gossip waits for its 200 ms tick), and by
// broadcast to the rest.
func (r *Ring) tellLoop(ctx context.Context) {
	for {
		var it Item
		select {
		case <-ctx.Done():
			return
		case it = <-r.tells:
		}
		r.refresh()
		if r.cfg.Tuning.Mute || len(it.Key) > maxKey {
			continue
		}
		msg := encodeHint(hint{Teller: r.cfg.Name, Items: []Item{it}})
		if len(msg) > maxHint {
			continue
		}
		for _, m := range r.some(r.view.list(Alive), fanout) {
			r.send(m, msg)
		}
		r.hints.QueueBroadcast(&hintCast{name: itemKey(it), msg: msg})
		if r.hints.NumQueued() > maxQueued {
			r.hints.Prune(maxQueued)
		}
	}
}
