// Package logs reads what the container loggers of this node wrote: rotated
// files, or journald's entries.
//
// It promises lines in the order in which they were written, a long line in
// one piece (up to maxJoined), and with Query.Follow every line across
// rotations, as long as the reader is not slower than all kept files together.
// It never writes, and never waits for a logger. Values may be used by several
// goroutines at once; Read returns when everything was emitted, when emit
// fails, or when its context ends.
package logs

import (
	"context"
	"time"
)

// Query asks for one daemon's lines.
type Query struct {
	Daemon string
	// Tail is how many of the last lines are meant; 0: all that are kept, less:
	// none of them, only what comes.
	Tail   int
	Since  time.Time // lines before it are left out; zero: none are
	Follow bool      // go on with what comes, until the context ends
}

// Entry is one line.
type Entry struct {
	Time   time.Time // when the logger got it; zero when nobody noted it
	Stream string    // stdout or stderr
	Line   string    // without the newline; any bytes
}

// Reader reads logs, wherever they are.
type Reader interface {
	// Read calls emit for each line, from one goroutine. An error of emit ends
	// it and is returned as it is. A daemon without a log has no lines.
	Read(ctx context.Context, q Query, emit func(Entry) error) error
}

// maxJoined is how long a joined line may become; what is longer comes in
// pieces, so that a reader's memory is bounded.
const maxJoined = 1 << 20

// joiner puts the pieces of long lines together again, by stream.
type joiner struct {
	open map[string]*Entry
	text map[string][]byte
	emit func(Entry) error
}

func newJoiner(q Query, emit func(Entry) error) *joiner {
	filtered := func(e Entry) error {
		if !q.Since.IsZero() && !e.Time.IsZero() && e.Time.Before(q.Since) {
			return nil
		}
		return emit(e)
	}
	return &joiner{open: map[string]*Entry{}, text: map[string][]byte{}, emit: filtered}
}

// add takes one piece; partial says that more follow.
func (j *joiner) add(t time.Time, stream string, text []byte, partial bool) error {
	if len(j.text[stream])+len(text) > maxJoined {
		if err := j.close(stream); err != nil {
			return err
		}
	}
	first := j.open[stream]
	if first == nil && !partial {
		return j.emit(Entry{Time: t, Stream: stream, Line: string(text)})
	}
	if first == nil {
		first = &Entry{Time: t, Stream: stream}
		j.open[stream] = first
	}
	j.text[stream] = append(j.text[stream], text...)
	if partial {
		return nil
	}
	return j.close(stream)
}

// close emits what there is of a line.
func (j *joiner) close(stream string) error {
	e := j.open[stream]
	if e == nil {
		return nil
	}
	e.Line = string(j.text[stream])
	delete(j.open, stream)
	delete(j.text, stream)
	return j.emit(*e)
}

// end emits lines whose last piece never came.
func (j *joiner) end() error {
	for _, stream := range []string{"stdout", "stderr"} {
		if err := j.close(stream); err != nil {
			return err
		}
	}
	return nil
}
