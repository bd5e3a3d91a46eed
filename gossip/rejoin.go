package gossip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxKnown bounds the addresses that are remembered for rejoining.
const maxKnown = 512

// known is the addresses of members seen, in this run or an earlier one. They are
// tried for as long as they are remembered: memberlist itself forgets a peer that
// was away for 30 s, and a ring that was cut in two would stay so for ever.
type known struct {
	mu    sync.Mutex
	at    map[string]time.Time // when it was last alive; zero if that was in an earlier run
	saved []string
}

func newKnown(peers []string) *known {
	k := &known{at: make(map[string]time.Time)}
	for _, p := range peers[:min(len(peers), maxKnown)] {
		k.at[p] = time.Time{}
	}
	k.saved = k.sorted()
	return k
}

func (k *known) add(addr string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.at[addr]; !ok && len(k.at) >= maxKnown {
		oldest := ""
		for a, t := range k.at {
			if oldest == "" || t.Before(k.at[oldest]) {
				oldest = a
			}
		}
		delete(k.at, oldest)
	}
	k.at[addr] = time.Now()
}

func (k *known) drop(addr string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.at, addr)
}

// sorted returns the addresses. Called with mu held, or before k is shared.
func (k *known) sorted() []string {
	out := make([]string, 0, len(k.at))
	for a := range k.at {
		out = append(out, a)
	}
	slices.Sort(out)
	return out
}

func (k *known) list() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sorted()
}

// unsaved returns the addresses if they differ from those returned last.
func (k *known) unsaved() ([]string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.sorted()
	if slices.Equal(now, k.saved) {
		return nil, false
	}
	k.saved = now
	return slices.Clone(now), true
}

// savePeers remembers who is here and hands the list out if it changed.
func (r *Ring) savePeers() {
	for _, m := range r.view.list(Alive) {
		r.known.add(m.Addr)
	}
	for _, m := range r.view.list(Failed) {
		r.settle(m) // a node that left is not to be called back
	}
	for _, m := range r.view.list(Left) {
		r.known.drop(m.Addr)
	}
	if peers, ok := r.known.unsaved(); ok && r.cfg.SavePeers != nil {
		r.cfg.SavePeers(peers)
	}
}

// rejoinLoop looks for absent members for ever: every 15 s one known peer and one
// seed, faster as long as this node is alone.
func (r *Ring) rejoinLoop(ctx context.Context) {
	wait := tick / 2
	for {
		r.rejoin(ctx)
		if len(r.view.list(Alive)) > 0 {
			wait = r.cfg.Tuning.Rejoin
		} else {
			wait = min(2*wait, r.cfg.Tuning.Rejoin)
		}
		t := time.NewTimer(r.jitter(wait))
	waiting:
		for {
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
				break waiting
			case <-r.joined:
				r.savePeers()
				if len(r.view.list(Alive)) == 0 { // started anew: look at once
					t.Stop()
					wait = tick / 2
					break waiting
				}
			}
		}
	}
}

// rejoin joins one absent peer and one seed, several of each when alone.
func (r *Ring) rejoin(ctx context.Context) {
	ml := r.list()
	if ml == nil || r.hasLeft() {
		return
	}
	n := 1
	present := map[string]bool{r.Self().Addr: true}
	alive := r.view.list(Alive)
	for _, m := range alive {
		present[m.Addr] = true
	}
	if len(alive) == 0 {
		n = 3
	}
	var targets []string
	targets = append(targets, r.pick(r.absent(), n, present)...)
	targets = append(targets, r.pickSeeds(ctx, n, present)...)
	slices.Sort(targets)
	targets = slices.Compact(targets)
	var wg sync.WaitGroup
	for _, addr := range targets {
		wg.Go(func() {
			if _, err := ml.Join([]string{addr}); err != nil && ctx.Err() == nil {
				r.joinFailed(addr, err)
			}
		})
	}
	wg.Wait()
}

// absent returns where to look for peers: every other time only where members
// were within a day, lest they drown in addresses that nobody has any more.
func (r *Ring) absent() []string {
	failed := r.view.list(Failed)
	r.mu.Lock()
	recent := len(failed) > 0 && r.rng.IntN(2) == 0
	r.mu.Unlock()
	if !recent {
		return r.known.list()
	}
	addrs := make([]string, 0, len(failed))
	for _, m := range failed {
		addrs = append(addrs, m.Addr)
	}
	return addrs
}

// joinFailed says what a failed attempt means. A peer that is just not there is
// no more than what the membership tells anyway, unless this node is alone.
func (r *Ring) joinFailed(addr string, err error) {
	r.say(func() { r.log.Debug("join failed", "addr", addr, "err", err) })
	switch {
	case strings.Contains(err.Error(), "no installed keys could decrypt"):
		r.note("key", hostOf(addr), "the answer of "+hostOf(addr)+" could not be decrypted: another ring key?")
	case len(r.view.list(Alive)) == 0:
		cause := err
		if first := errors.Unwrap(err); first != nil { // memberlist makes a list of one
			cause = first
		}
		r.note("alone", addr, fmt.Sprintf("no other member is in reach; %s: %v", addr, flat(cause)))
	}
}

// flat returns an error's words on one line.
func flat(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// pick returns up to n of the addresses, in random order, that are not present.
func (r *Ring) pick(addrs []string, n int, present map[string]bool) []string {
	r.mu.Lock()
	r.rng.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	r.mu.Unlock()
	var out []string
	for _, a := range addrs {
		if len(out) == n {
			break
		}
		if !present[a] {
			out = append(out, a)
		}
	}
	return out
}

// pickSeeds returns the addresses of up to n seeds that are not present. Names are
// resolved anew; one that cannot be is noted and tried again next time. A seed
// that is present is left alone: joining it again would cost the whole
// membership, 15 s after 15 s, from every node of the ring.
func (r *Ring) pickSeeds(ctx context.Context, n int, present map[string]bool) []string {
	var out []string
	r.mu.Lock()
	seeds := slices.Clone(r.seeds)
	r.mu.Unlock()
	for _, s := range r.pick(seeds, len(seeds), nil) {
		if n == 0 {
			break
		}
		addrs, err := r.resolve(ctx, s)
		if err != nil {
			if ctx.Err() == nil {
				r.note("seed", s, fmt.Sprintf("ring.join %s: %v", s, err))
			}
			continue
		}
		r.notes.clear("seed " + s)
		if addrs = r.pick(addrs, 1, present); len(addrs) > 0 {
			out = append(out, addrs[0])
			n--
		}
	}
	return out
}
