package gossip

import (
	"sync"
	"time"
)

// backoff remembers what failed and until when it is not to be tried again: base
// after the first failure, doubling up to max. It forgets the oldest verdicts
// when it holds more than limit. Safe for concurrent use.
type backoff struct {
	base, max time.Duration
	limit     int

	mu sync.Mutex
	m  map[string]strike
}

type strike struct {
	n     int
	until time.Time
}

func newBackoff(base, max time.Duration, limit int) *backoff {
	return &backoff{base: base, max: max, limit: limit, m: make(map[string]strike)}
}

// ready reports whether key may be tried.
func (b *backoff) ready(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.m[key]
	return !ok || !time.Now().Before(s.until)
}

// fail notes a failure and returns how long key has to wait.
func (b *backoff) fail(key string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.m[key]
	if !ok && len(b.m) >= b.limit {
		b.shrink()
	}
	wait := b.max
	if s.n < 32 {
		wait = min(b.max, b.base<<s.n)
		if wait < b.base { // shifted out of range
			wait = b.max
		}
	}
	b.m[key] = strike{n: s.n + 1, until: time.Now().Add(wait)}
	return wait
}

// reset forgets key's failures.
func (b *backoff) reset(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.m, key)
}

// shrink drops what waits least long. Called with mu held.
func (b *backoff) shrink() {
	now := time.Now()
	var first string
	var at time.Time
	for k, s := range b.m {
		if s.until.Add(b.max).Before(now) {
			delete(b.m, k)
		} else if first == "" || s.until.Before(at) {
			first, at = k, s.until
		}
	}
	if len(b.m) >= b.limit {
		delete(b.m, first)
	}
}
