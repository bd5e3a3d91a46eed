package gossip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// farewells is how many members hear of a leave directly before it is announced.
	farewells = 8
	// spread is how long a leave's statement is given to reach a ring larger than
	// that before memberlist's word of it does, so that nobody cries "failed".
	spread = 2 * time.Second
)

// Leave announces that this node goes and stops looking for others. It marks the
// node's own statement, gives it to others and then tells memberlist, within
// ctx's deadline or five seconds. The node has left even if an error says that
// nobody could be told. Run goes on, passively, until Rejoin.
func (r *Ring) Leave(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
	}
	r.mu.Lock()
	again := r.left
	r.left = true
	ml := r.ml
	r.mu.Unlock()
	r.cfg.Book.SetLeft(true)
	wake(r.view.changed)
	if again || ml == nil {
		return nil
	}
	told, others := r.farewell(ctx)
	if others > farewells {
		pause(ctx, spread)
	}
	err := r.depart(ctx, ml)
	if others > 0 && told == 0 {
		return fmt.Errorf("leave ring: none of %d members answered; they will see this node as failed", others)
	}
	if err != nil && told == 0 {
		return fmt.Errorf("leave ring: %w", err)
	}
	return nil
}

// depart lets memberlist tell others, unless Run ended meanwhile: memberlist
// panics when it is to leave after its shutdown.
func (r *Ring) depart(ctx context.Context, ml *memberlist.Memberlist) error {
	r.ending <- struct{}{}
	defer func() { <-r.ending }()
	if r.list() != ml {
		return errors.New("the membership ended meanwhile")
	}
	deadline, _ := ctx.Deadline()
	return ml.Leave(max(time.Until(deadline), 100*time.Millisecond))
}

// farewell gives the own statement to some members and returns how many took it.
func (r *Ring) farewell(ctx context.Context) (told, others int) {
	ms := r.view.list(Alive)
	others = len(ms)
	own, ok := r.cfg.Book.Own()
	if !ok {
		return 0, others
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, m := range r.some(ms, farewells) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, talkTimeout)
			defer cancel()
			if _, err := r.cfg.Exchanger.Statements(ctx, m, NoPull, 0, []Statement{own}); err == nil {
				mu.Lock()
				told++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return told, others
}

// Rejoin takes a leave back: Run starts the membership anew and looks for the
// others at the seeds, at the peers remembered and at addrs, which count as seeds
// until Run ends.
func (r *Ring) Rejoin(addrs ...string) {
	r.mu.Lock()
	was := r.left
	r.left = false
	for _, a := range addrs {
		if !slices.Contains(r.seeds, a) {
			r.seeds = append(r.seeds, a)
		}
	}
	r.mu.Unlock()
	if !was {
		return
	}
	r.cfg.Book.SetLeft(false)
	wake(r.view.changed)
	wake(r.rewake)
}
