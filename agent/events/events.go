// Package events keeps what happened on this node: a log on disk of bounded
// size that survives restarts, and that any number of readers may follow.
//
// Promises: Emit never blocks and never fails, whatever the disk does; events
// come out in the order in which they went in, with numbers that grow over
// restarts; the files never take more than the limit; after a crash all but the
// last moments are there, and a half-written line is cut off. What could not be
// kept is counted and told as an event of its own.
//
// It never promises that an event is on disk: nothing is decided by them. Run
// owns the only goroutine that writes; all other methods may be called from any
// goroutine.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/agentd/agentd/api"
)

const (
	// DefaultMaxBytes keeps about 20,000 events of 200 bytes.
	DefaultMaxBytes = 4 << 20
	// segments is in how many files that is; the oldest goes as a whole.
	segments = 4
	// maxQueue bounds what waits for a disk that is slow or full.
	maxQueue = 1024
	// maxReason bounds one event; reasons of ours are a sentence.
	maxReason = 2 << 10
	// retryAfter is how long a disk that failed is left alone.
	retryAfter = 10 * time.Second
)

// Config configures a Log.
type Config struct {
	Dir      string // made when missing
	Node     string // fills in api.Event.Node where it is empty
	MaxBytes int64  // of all files; 0: DefaultMaxBytes
	Log      *slog.Logger
}

// Log is the events of one node.
type Log struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // capacity 1: there is something to write

	files files // owned by Run, after Open

	mu      sync.Mutex
	next    uint64        // guarded by mu: number of the next event
	queue   []api.Event   // guarded by mu: not on disk yet, in order
	lost    int           // guarded by mu: events that found no room since it was last told
	kept    []segment     // guarded by mu: the files, oldest first
	changed chan struct{} // guarded by mu: closed at the next change; nil when nobody waits
}

// Open reads what is there. A line that was being written when the machine
// stopped is cut off.
func Open(cfg Config) (*Log, error) {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	l := &Log{cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1)}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if l.files, l.next, err = openFiles(cfg.Dir, cfg.MaxBytes); err != nil {
		return nil, fmt.Errorf("open events: %w", err)
	}
	l.kept = slices.Clone(l.files.list)
	return l, nil
}

// Emit keeps an event. Seq is given; Time and Node are filled in where they are
// empty.
func (l *Log) Emit(e api.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) >= maxQueue {
		l.lost++
		return
	}
	if l.lost > 0 {
		l.enqueue(api.Event{Type: api.EventLost, Reason: fmt.Sprintf("%d events could not be kept: the disk was too slow or full", l.lost)})
		l.lost = 0
	}
	l.enqueue(e)
}

// enqueue is called with mu held.
func (l *Log) enqueue(e api.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Round(0)
	if e.Node == "" {
		e.Node = l.cfg.Node
	}
	e.Reason = cut(e.Reason)
	e.Seq = l.next
	l.next++
	l.queue = append(l.queue, e)
	l.announce()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// announce wakes readers that follow. It is called with mu held.
func (l *Log) announce() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// cut shortens what is too long, and keeps it valid text.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxReason {
		return s
	}
	end := maxReason
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// Run writes what is emitted until ctx ends, and what is left then.
func (l *Log) Run(ctx context.Context) error {
	defer l.files.close()
	retry := time.NewTimer(retryAfter)
	retry.Stop()
	defer retry.Stop()
	failing := false
	for {
		stopping := false
		wake := l.wake
		if failing {
			wake = nil // only after the pause
		}
		select {
		case <-wake:
		case <-retry.C:
		case <-ctx.Done():
			stopping = true
		}
		err := l.flush()
		if failed := err != nil; failed != failing {
			failing = failed
			if failed {
				l.log.Warn("events can't be kept", "dir", l.cfg.Dir, "err", err)
			} else {
				l.log.Info("events are kept again", "dir", l.cfg.Dir)
			}
		}
		if stopping {
			return nil
		}
		if failing {
			retry.Reset(retryAfter)
		}
	}
}

// flush writes the queue. What can't be written stays in it.
func (l *Log) flush() error {
	l.mu.Lock()
	batch := slices.Clone(l.queue)
	l.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	n, err := l.files.append(batch)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = slices.Delete(l.queue, 0, n)
	l.kept = slices.Clone(l.files.list)
	return err
}
