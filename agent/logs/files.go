package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/agentd/agentd/runtime/logfile"
	"github.com/agentd/agentd/runtime/logger"
)

// pollEvery is how often a followed file is looked at.
const pollEvery = 200 * time.Millisecond

// Files reads the files of agentd-log, or those that containerd appends to
// itself (file://), whose lines have no times and are all of stdout. Of the
// latter, which are rotated by copying, a follower may miss what came within
// pollEvery of a rotation.
type Files struct {
	// Path is the live file of a daemon; older ones are beside it.
	Path func(daemon string) string
}

var _ Reader = Files{}

// Read implements Reader.
func (f Files) Read(ctx context.Context, q Query, emit func(Entry) error) error {
	var failed error // emit's, which is returned as it is
	j := newJoiner(q, func(e Entry) error {
		if failed = ctx.Err(); failed == nil {
			failed = emit(e)
		}
		return failed
	})
	err := f.read(ctx, q, j)
	if failed != nil {
		return failed
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the log of %q: %w", q.Daemon, err)
	}
	return err
}

func (f Files) read(ctx context.Context, q Query, j *joiner) error {
	path := f.Path(q.Daemon)
	kept, err := openAll(path)
	if err != nil {
		return err
	}
	defer func() {
		for _, t := range kept {
			t.close()
		}
	}()
	if err := skip(kept, q); err != nil {
		return err
	}
	line := func(text []byte) error { return addLine(j, text) }
	for n, t := range kept {
		live := n == len(kept)-1
		if err := t.drain(ctx, line); err != nil {
			return err
		}
		if !live || !q.Follow {
			if err := t.flush(line); err != nil {
				return err
			}
		}
	}
	if !q.Follow {
		return j.end()
	}
	return follow(ctx, path, kept, line)
}

// addLine is one line of a file, in either form.
func addLine(j *joiner, text []byte) error {
	if l, ok := logger.ParseLine(text); ok {
		return j.add(l.Time, l.Stream.String(), l.Text, l.Partial)
	}
	return j.add(time.Time{}, logger.Stdout.String(), text, false)
}

// openAll opens the files of one log, the oldest first. It goes from the newest
// to the oldest, and leaves out what it has already: a rotation in between
// then hides none of them.
func openAll(path string) ([]*tail, error) {
	var all []*tail
	missing := 0
	for n := 0; missing < 2; n++ { // one may be missing in the middle of a rotation
		t, err := openTail(logfile.Older(path, n))
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			for _, t := range all {
				t.close()
			}
			return nil, err
		}
		if len(all) > 0 && os.SameFile(all[0].info, t.info) {
			t.close()
			continue
		}
		all = append([]*tail{t}, all...)
	}
	return all, nil
}

// skip sets where to begin in each file.
func skip(kept []*tail, q Query) error {
	for _, t := range kept {
		// Nothing was written to it since.
		if !q.Since.IsZero() && t.info.ModTime().Before(q.Since) || q.Tail < 0 {
			if err := t.toEnd(); err != nil {
				return err
			}
		}
	}
	if q.Tail <= 0 {
		return nil
	}
	left := q.Tail
	for n := len(kept) - 1; n >= 0; n-- {
		if left == 0 {
			if err := kept[n].toEnd(); err != nil {
				return err
			}
			continue
		}
		found, err := kept[n].back(left)
		if err != nil {
			return err
		}
		left -= found
	}
	return nil
}

// follow goes on after the last of kept, which it closes as it moves on.
func follow(ctx context.Context, path string, kept []*tail, line func([]byte) error) error {
	var cur *tail
	if len(kept) > 0 {
		cur = kept[len(kept)-1]
	}
	defer func() {
		if cur != nil {
			cur.close()
		}
	}()
	for {
		moved, err := successor(path, cur)
		if err != nil {
			return err
		}
		if cur != nil {
			// After the look: what was written before the rotation is there now.
			if err := cur.drain(ctx, line); err != nil {
				return err
			}
		}
		if moved != nil {
			if cur != nil {
				if err := cur.flush(line); err != nil {
					return err
				}
				cur.close()
			}
			cur = moved
			continue
		}
		t := time.NewTimer(pollEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// successor opens the file that came after cur, nil while there is none.
func successor(path string, cur *tail) (*tail, error) {
	if cur == nil {
		t, err := openTail(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return t, err
	}
	missing, oldest := 0, -1
	for n := 0; missing < 2; n++ {
		st, err := os.Stat(logfile.Older(path, n))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing++
			continue
		case err != nil:
			return nil, err
		case !os.SameFile(st, cur.info):
			oldest = n
			continue
		case n == 0:
			return nil, nil // it is the live one still
		}
		next, err := openTail(logfile.Older(path, n-1))
		if err != nil {
			return nil, ignoreMissing(err) // a rotation is under way: look again
		}
		// Another rotation in between would have made us skip one.
		st, err = os.Stat(logfile.Older(path, n))
		if err != nil || !os.SameFile(st, cur.info) || os.SameFile(next.info, cur.info) {
			next.close()
			return nil, ignoreMissing(err)
		}
		return next, nil
	}
	if oldest < 0 {
		return nil, nil // removed, and nothing new yet
	}
	// It was rotated away altogether: we were too slow, or it was removed.
	t, err := openTail(logfile.Older(path, oldest))
	return t, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// toEnd makes everything that is there count as read.
func (t *tail) toEnd() error {
	end, err := t.f.Seek(0, io.SeekEnd)
	if err == nil {
		t.off = end
	}
	return err
}
