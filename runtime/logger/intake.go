package logger

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// intakeSize bounds what waits to be written; as much again may be under
	// way in the writer.
	intakeSize = 128 << 10
	// A reader may wait for the writer for a twentieth of its time, so that a
	// burst is not lost only because the writer was not scheduled yet; the
	// container feels that as a pipe that is 5 % slower at worst.
	waitShare = 20
	waitMost  = 100 * time.Millisecond
	headSize  = 16 // of one record: time, length, flags
)

// intake is the bounded buffer between the two readers and the writer. Lines
// that find no room, or no token, are counted and dropped.
type intake struct {
	room chan struct{} // capacity 1: the writer took everything
	wake chan struct{} // capacity 1: there is something to write or to tell

	mu         sync.Mutex // guards what follows
	bucket     bucket
	records    []byte
	suppressed uint64           // lines over the rate that were not told of yet
	lost       uint64           // lines that found no room and were not told of yet
	allowance  time.Duration    // how long readers may wait for room
	counted    time.Time        // when allowance was right
	stuck      bool             // a wait was in vain, and nothing was taken since
	open, torn [Stderr + 1]bool // by stream: the last line taken goes on; a piece of it was dropped
}

func newIntake(b bucket) *intake {
	return &intake{
		room: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		bucket: b, records: make([]byte, 0, intakeSize), counted: b.last, allowance: waitMost,
	}
}

// put takes one line in. It copies l.Text.
func (q *intake) put(l Line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer signal(q.wake)
	if !q.bucket.take(l.Time) {
		q.suppressed++
		q.torn[l.Stream] = true
		return
	}
	for 2*headSize+len(l.Text) > cap(q.records)-len(q.records) {
		if !q.await() {
			q.lost++
			q.torn[l.Stream] = true
			return
		}
	}
	if q.torn[l.Stream] && q.open[l.Stream] {
		// The rest of the line before is missing: end it, or this one would
		// be taken for it.
		q.records = appendRecord(q.records, Line{Time: l.Time, Stream: l.Stream})
	}
	q.records = appendRecord(q.records, l)
	q.torn[l.Stream], q.open[l.Stream] = false, l.Partial
}

// await lets the writer take what is there; false when it did not, or when
// waiting has gone on for too long. mu is held, but not while waiting.
func (q *intake) await() bool {
	now := time.Now()
	if d := now.Sub(q.counted); d > 0 {
		q.allowance = min(waitMost, q.allowance+d/waitShare)
	}
	q.counted = now
	if q.stuck || q.allowance <= 0 {
		return false
	}
	signal(q.wake)
	t := time.NewTimer(q.allowance)
	defer t.Stop()
	q.mu.Unlock()
	took := true
	select {
	case <-q.room:
	case <-t.C:
		took = false
	}
	q.mu.Lock()
	q.allowance -= time.Since(now)
	q.counted = time.Now()
	q.stuck = q.stuck || !took
	return took
}

// take swaps the buffer for an empty one and returns what waited.
func (q *intake) take(empty []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	full := q.records
	if len(full) == 0 {
		return empty[:0]
	}
	q.records = empty[:0]
	q.stuck = false
	signal(q.room)
	return full
}

// waiting reports whether there are lines to write, and dropped ones to tell of.
func (q *intake) waiting() (lines, dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records) > 0, q.suppressed+q.lost > 0
}

// tell returns the counts of what was dropped, and starts anew.
func (q *intake) tell() (suppressed, lost uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	suppressed, lost = q.suppressed, q.lost
	q.suppressed, q.lost = 0, 0
	return suppressed, lost
}

// signal puts a value into a channel of capacity 1, if it has none.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Flags of a record.
const (
	flagStderr  = 1
	flagPartial = 2
	flagNote    = 4 // the logger's own words
)

func appendRecord(b []byte, l Line) []byte {
	var flags uint32
	if l.Stream == Stderr {
		flags |= flagStderr
	}
	if l.Partial {
		flags |= flagPartial
	}
	return appendFlagged(b, l.Time, flags, l.Text)
}

func appendFlagged(b []byte, t time.Time, flags uint32, text []byte) []byte {
	b = binary.NativeEndian.AppendUint64(b, uint64(t.UnixNano()))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(text)))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return append(b, text...)
}

// record cuts the first record off b, which has at least one.
func record(b []byte) (l Line, note bool, size int) {
	size = headSize + int(binary.NativeEndian.Uint32(b[8:]))
	flags := binary.NativeEndian.Uint32(b[12:])
	l = Line{
		Time:   time.Unix(0, int64(binary.NativeEndian.Uint64(b))),
		Stream: Stdout, Partial: flags&flagPartial != 0, Text: b[headSize:size],
	}
	if flags&flagStderr != 0 {
		l.Stream = Stderr
	}
	return l, flags&flagNote != 0, size
}
