package gossip

import (
	"context"
	"sync"
)

// maxInformed bounds the members that wait to be informed; there are others from
// whom the rest will hear.
const maxInformed = 256

// Inform gives this node's own statement to the named members at once, for those
// who wait for just this word: the epidemic takes a second or two to reach one
// certain node. It is one request to each member that was not given this
// statement before, and none to one that is away or this node itself; whoever
// can't be reached hears it as everybody does. It never blocks.
func (r *Ring) Inform(ids ...NodeID) {
	t := r.talk
	t.mu.Lock()
	for _, id := range ids {
		if id != r.cfg.ID && len(t.informs) < maxInformed {
			t.informs[id] = struct{}{}
		}
	}
	t.mu.Unlock()
	wake(t.inform)
}

// Informed returns how many requests Inform has cost so far.
func (r *Ring) Informed() uint64 { return r.talk.informed.Load() }

// tell informs those who wait for it.
func (t *talker) tell(ctx context.Context, wg *sync.WaitGroup) {
	own, ok := t.r.cfg.Book.Own()
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.informs) == 0 {
		return
	}
	for _, m := range t.r.view.list(Alive) {
		if _, asked := t.informs[m.ID]; asked {
			t.tellLocked(ctx, wg, m, own)
		}
	}
	clear(t.informs)
}

// tellLocked pushes own to m, unless m has it. It is apart from exchange, which
// may be under way with an older word, and asks for nothing. Called with mu held.
func (t *talker) tellLocked(ctx context.Context, wg *sync.WaitGroup, m Member, own Statement) {
	k := t.with[m.ID]
	if k == nil {
		k = &talk{}
		t.with[m.ID] = k
	}
	if k.toldBoot == own.Boot && k.toldSeq == own.Seq || !t.peers.ready(m.Name) {
		return
	}
	k.toldBoot, k.toldSeq = own.Boot, own.Seq
	t.informed.Add(1)
	wg.Go(func() {
		_, err := t.call(ctx, m, NoPull, 0, []Statement{own})
		if err == nil || ctx.Err() != nil {
			return
		}
		wait := t.peers.fail(m.Name)
		t.r.log.Debug("inform", "node", m.Name, "retry_in", wait, "err", err)
		t.mu.Lock()
		defer t.mu.Unlock()
		if k.toldBoot == own.Boot && k.toldSeq == own.Seq {
			k.toldBoot, k.toldSeq = 0, 0
		}
	})
}
