package logger

import "time"

// bucket is a token bucket: burst lines at once, rate lines per second for long.
type bucket struct {
	rate, burst float64
	tokens      float64
	last        time.Time // when tokens was right
}

// newBucket returns a full one; a negative rate never refuses.
func newBucket(rate, burst int, now time.Time) bucket {
	return bucket{rate: float64(rate), burst: float64(burst), tokens: float64(burst), last: now}
}

// take reports whether one more line may pass. A clock that goes back refills
// nothing.
func (b *bucket) take(now time.Time) bool {
	if b.rate < 0 {
		return true
	}
	if d := now.Sub(b.last); d > 0 {
		b.tokens = min(b.burst, b.tokens+d.Seconds()*b.rate)
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
