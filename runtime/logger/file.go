package logger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime/logfile"
)

// writeSize is how much is written to a file at once.
const writeSize = 32 << 10

// fileSink writes to a file that is rotated when it is full. Two of them may
// write to one path for a moment, when the logger of a replaced container still
// drains: each write is one append, and each looks whether the other rotated.
type fileSink struct {
	path  string
	size  int64 // of one file, at most
	files int

	f    *os.File // nil: has to be opened
	out  []byte   // formatted and not written yet
	torn bool     // the last write ended within a line
}

func newFileSink(o Options) *fileSink {
	return &fileSink{path: o.Path, size: o.MaxSize, files: o.MaxFiles, out: make([]byte, 0, writeSize+maxLine+64)}
}

// write implements sink.
func (s *fileSink) write(batch []byte) (int, error) {
	n := 0
	for {
		for n < len(batch) && len(s.out) < writeSize {
			l, _, size := record(batch[n:])
			s.out = AppendLine(s.out, l)
			n += size
		}
		if len(s.out) == 0 {
			return n, nil
		}
		if err := s.flush(); err != nil {
			return n, err
		}
	}
}

// flush writes out. What a full disk took of it is not written again.
func (s *fileSink) flush() error {
	if err := s.open(); err != nil {
		return err
	}
	st, err := s.f.Stat()
	if err != nil {
		return s.drop(err)
	}
	if st.Size() > 0 && st.Size()+int64(len(s.out)) > s.size && !s.torn {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	n, err := s.f.Write(s.out)
	if n > 0 {
		s.torn = s.out[n-1] != '\n'
		s.out = s.out[:copy(s.out, s.out[n:])]
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		return s.drop(err)
	}
	return err
}

// drop gives the descriptor up: it may be what is wrong.
func (s *fileSink) drop(err error) error {
	_ = s.f.Close()
	s.f = nil
	return err
}

// open makes f the file of that name: somebody may have removed or renamed it.
func (s *fileSink) open() error {
	if s.f != nil {
		if s.same() {
			return nil
		}
		_ = s.f.Close()
		s.f = nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o750); err != nil {
		return fmt.Errorf("make the log folder: %w", err)
	}
	// Never waiting: a fifo in its place would not let us go.
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_APPEND|os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("open the log: %s is not a plain file", s.path)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	s.f = f
	s.mend(st.Size())
	return nil
}

// mend ends a line that was torn before us, unless what comes goes on with it.
func (s *fileSink) mend(size int64) {
	var last [1]byte
	if size == 0 {
		s.torn = false
		return
	}
	if _, err := s.f.ReadAt(last[:], size-1); err != nil || last[0] == '\n' || s.torn {
		return
	}
	_, _ = s.f.Write([]byte{'\n'})
}

// same reports whether f is still the file of that name.
func (s *fileSink) same() bool {
	mine, err := s.f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(s.path)
	return err == nil && os.SameFile(mine, named)
}

// rotate starts a new file.
func (s *fileSink) rotate() error {
	if s.same() {
		if err := logfile.Shift(s.path, s.files); err != nil {
			// Better the old lines than the new ones, and than no bound.
			if terr := s.f.Truncate(0); terr != nil {
				return errors.Join(err, terr)
			}
			return nil
		}
	}
	_ = s.f.Close()
	s.f = nil
	return s.open()
}

// close implements sink.
func (s *fileSink) close() {
	if s.f != nil {
		_ = s.f.Close()
	}
}
