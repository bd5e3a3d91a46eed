package gossip

import (
	"slices"
	"time"
)

// SetSeeds replaces the seeds that were configured, was, by those that are now.
// Those that Rejoin added stay. A node that is alone looks for them at once.
func (r *Ring) SetSeeds(was, now []string) {
	r.mu.Lock()
	kept := slices.DeleteFunc(slices.Clone(r.seeds), func(s string) bool { return slices.Contains(was, s) })
	for _, s := range now {
		if !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	r.seeds = kept
	r.mu.Unlock()
	for _, s := range was {
		if !slices.Contains(now, s) {
			r.notes.clear("seed " + s)
			r.notes.clear("alone " + s)
		}
	}
	wake(r.joined)
}

// Turned returns when the ring last looked after itself, which it does every
// second once it takes part; zero before. A time that gets old tells that
// something in here, memberlist included, waits for ever.
func (r *Ring) Turned() time.Time {
	if at := r.turned.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// turn notes that the ring's locks and memberlist's could all be had.
func (r *Ring) turn() {
	if ml := r.list(); ml != nil {
		ml.NumMembers()
	}
	now := time.Now()
	r.turned.Store(&now)
}
