package supervise

import (
	"hash/fnv"
	"strconv"
	"time"

	"github.com/agentd/agentd/spec"
)

// Backoff says how long to wait before the next attempt.
type Backoff struct {
	Base time.Duration // after the first failure that waits
	Max  time.Duration
	Free int // failures that are answered at once
}

// jitter is the part of a delay that is drawn: with it, a fleet that lost its
// registry does not come back in step. It only ever shortens a delay, so that
// the written limits hold.
const jitter = 0.2

// Retries of steps that the spec says nothing about. The numbers follow the
// image pull back-off of Kubernetes (10 s doubling to 5 min), with a faster
// start, since most registry errors here are those of a booting network.
var (
	pullBackoff = Backoff{Base: time.Second, Max: 5 * time.Minute}
	stopBackoff = Backoff{Base: 500 * time.Millisecond, Max: time.Minute}
)

// Delay returns the pause after the n-th failure in a row, n counting from 1.
// seed makes the jitter: the same seed and n give the same delay.
func (b Backoff) Delay(n int, seed string) time.Duration {
	n -= b.Free
	if n <= 0 || b.Base <= 0 {
		return 0
	}
	d := b.Base
	for i := 1; i < n && d < b.Max; i++ {
		d *= 2
	}
	if b.Max > 0 && d > b.Max {
		d = b.Max
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(seed + "#" + strconv.Itoa(n))) // never fails
	part := float64(h.Sum64()%1000) / 1000
	return d - time.Duration(float64(d)*jitter*part)
}

// crashBackoff is the spec's own: the first crash is answered at once.
func crashBackoff(r spec.Restart) Backoff {
	return Backoff{Base: r.Backoff.D(), Max: r.BackoffMax.D(), Free: 1}
}

// startBackoff is for containers that could not be started at all.
func startBackoff(r spec.Restart) Backoff {
	return Backoff{Base: max(r.Backoff.D(), 100*time.Millisecond), Max: max(r.BackoffMax.D(), time.Second)}
}
