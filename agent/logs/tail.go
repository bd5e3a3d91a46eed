package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime/logger"
)

const (
	blockSize = 64 << 10 // of one read
	// maxRaw is how long a line of a file may be; what is longer comes in pieces.
	maxRaw = 1 << 20
)

// tail reads one file, which may still grow, line by line.
type tail struct {
	f    *os.File
	info os.FileInfo // as it was when it was opened
	off  int64       // of the next byte to read
	rest []byte      // read, without a newline yet
	buf  []byte
}

func openTail(path string) (*tail, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a plain file", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &tail{f: f, info: info}, nil
}

func (t *tail) close() { _ = t.f.Close() }

// drain passes on all full lines that are there.
func (t *tail) drain(ctx context.Context, line func([]byte) error) error {
	if t.buf == nil {
		t.buf = make([]byte, blockSize)
	}
	st, err := t.f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < t.off {
		t.off, t.rest = 0, nil // it was emptied in place
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := t.f.ReadAt(t.buf, t.off)
		t.off += int64(n)
		if lerr := t.take(t.buf[:n], line); lerr != nil {
			return lerr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take cuts b, which follows rest, into lines.
func (t *tail) take(b []byte, line func([]byte) error) error {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		full := b[:i]
		if len(t.rest) > 0 {
			full = append(t.rest, full...)
			t.rest = full[:0]
		}
		if err := line(full); err != nil {
			return err
		}
		b = b[i+1:]
	}
	t.rest = append(t.rest, b...)
	if len(t.rest) > maxRaw {
		return t.flush(line)
	}
	return nil
}

// flush passes on a line that has no end.
func (t *tail) flush(line func([]byte) error) error {
	if len(t.rest) == 0 {
		return nil
	}
	rest := t.rest
	t.rest = t.rest[:0]
	return line(rest)
}

// back sets off so that the last want lines from off on are read, at most, and
// returns how many there are. A line in pieces is one; a line without an end is
// being written, and none yet.
func (t *tail) back(want int) (int, error) {
	end := t.info.Size()
	if t.off >= end {
		return 0, nil
	}
	var (
		buf   = make([]byte, blockSize)
		tail  []byte      // read, and belonging to a line that starts before
		pos   = end       // of the first byte read
		nl    = int64(-1) // of the newline that ends that line; none was seen yet
		found int
	)
	// enough looks at the line that ends at nl.
	enough := func(text []byte) bool {
		if l, ok := logger.ParseLine(text); ok && l.Partial {
			return false // counted with its end
		}
		if found == want {
			t.off = nl + 1
			return true
		}
		found++
		return false
	}
	for pos > t.off {
		n := min(int64(len(buf)), pos-t.off)
		pos -= n
		if _, err := t.f.ReadAt(buf[:n], pos); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		b := buf[:n]
		for {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if nl >= 0 && enough(join(b[i+1:], tail)) {
				return found, nil
			}
			nl, tail, b = pos+int64(i), nil, b[:i]
		}
		if nl >= 0 && len(tail) <= maxRaw {
			tail = join(b, tail)
		}
	}
	if nl >= 0 {
		enough(tail)
	}
	return found, nil
}

// join is a new slice of both.
func join(a, b []byte) []byte {
	return append(append(make([]byte, 0, len(a)+len(b)), a...), b...)
}
