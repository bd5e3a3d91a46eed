package events

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/agentd/agentd/api"
)

// Read emits the events that happened at or after since, oldest first. With
// follow it goes on with those that come, until ctx ends (then it returns
// ctx.Err()). An error of emit ends it and is returned as it is. A reader that
// is slower than the log turns loses the events in between, and holds up
// nobody.
func (l *Log) Read(ctx context.Context, since time.Time, follow bool, emit func(api.Event) error) error {
	r := reader{since: since, emit: emit}
	for {
		l.mu.Lock()
		kept, queue := slices.Clone(l.kept), slices.Clone(l.queue)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if err := r.read(ctx, kept, queue); err != nil || !follow {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reader is how far one caller has read.
type reader struct {
	since time.Time
	emit  func(api.Event) error

	last    uint64 // number of the newest event that was seen
	segment uint64 // first event of the file that was read last
	offset  int64  // in that file
}

// read takes what is new in the files, then what is on its way there.
func (r *reader) read(ctx context.Context, kept []segment, queue []api.Event) error {
	for _, s := range kept {
		if s.first < r.segment {
			continue
		}
		if s.first > r.segment {
			r.segment, r.offset = s.first, 0
		}
		if s.size <= r.offset {
			continue
		}
		take := func(e api.Event) error { return r.take(ctx, e) }
		if err := readLines(s, r.offset, take); err != nil {
			return r.failed(err)
		}
		r.offset = s.size
	}
	for _, e := range queue {
		if err := r.take(ctx, e); err != nil {
			return r.failed(err)
		}
	}
	return nil
}

// emitError tells an error of the caller's from one of the files.
type emitError struct{ err error }

func (e *emitError) Error() string { return e.err.Error() }

func (r *reader) take(ctx context.Context, e api.Event) error {
	if err := ctx.Err(); err != nil {
		return &emitError{err}
	}
	if e.Seq <= r.last {
		return nil // was seen before it was on disk
	}
	r.last = e.Seq
	if e.Time.Before(r.since) {
		return nil
	}
	if err := r.emit(e); err != nil {
		return &emitError{err}
	}
	return nil
}

func (r *reader) failed(err error) error {
	if own, ok := err.(*emitError); ok { //nolint:errorlint // it is never wrapped
		return own.err
	}
	return fmt.Errorf("read events: %w", err)
}
