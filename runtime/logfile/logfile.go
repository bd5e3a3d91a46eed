// Package logfile keeps a file that others append to from growing without
// bounds, by copytruncate: the writer (a containerd shim, which opens the file
// with O_APPEND and never again) keeps its descriptor.
//
// It promises that the folder never holds more than the live file and
// MaxFiles-1 older ones of at most 9/8 MaxSize each, that it never makes the writer
// wait, and that a crash at any point loses nothing but what a copy under way
// had not copied. What the writer appends between the end of the copy and the
// truncation, microseconds, is lost: that is the price of copytruncate.
//
// Rotate is meant to be called from one goroutine per file.
package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Limits of one log. The live file may be larger than MaxSize until the next
// Rotate.
type Limits struct {
	MaxSize  int64 // bytes; 0 or less: never rotate
	MaxFiles int   // with the live one; 1 or less keeps no older file
}

// Rotate copies path to path.1, after path.1 became path.2 and so on, and
// empties it, when it is larger than the limit. Of a file that outgrew the
// limit only the last MaxSize bytes are copied, from the start of a line on. A
// file that is not there is fine.
func Rotate(path string, limits Limits) error {
	if limits.MaxSize <= 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing is written through it
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("rotate log %s: not a plain file", path)
	}
	if st.Size() <= limits.MaxSize {
		return nil
	}
	if limits.MaxFiles > 1 {
		if err := keep(f, path, st.Mode().Perm(), limits); err != nil {
			// An endless file is worse than a lost one: on a full disk the
			// container would block on its own output.
			return errors.Join(fmt.Errorf("rotate log %s: %w", path, err), f.Truncate(0))
		}
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("rotate log %s: %w", path, err)
	}
	return nil
}

// Older is the path of the n-th older file; 0 is the live one.
func Older(path string, n int) string {
	if n == 0 {
		return path
	}
	return older(path, n)
}

func older(path string, n int) string { return path + "." + strconv.Itoa(n) }

// keep makes room and copies the end of f to path.1.
func keep(f *os.File, path string, mode fs.FileMode, limits Limits) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// What is beyond the limits goes first, so that its space is free.
	if err := drop(path, limits.MaxFiles); err != nil {
		return err
	}
	if err := copyTail(f, tmp, mode, limits.MaxSize); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := shift(path, limits.MaxFiles); err != nil {
		return err
	}
	return os.Rename(tmp, older(path, 1))
}

// Shift renames path to path.1, after path.1 became path.2 and so on, so that
// at most files of them are left when path is made anew. It is for a writer
// that opens path again; the files of one that does not are for Rotate.
func Shift(path string, files int) error {
	if err := drop(path, files); err != nil {
		return fmt.Errorf("rotate log %s: %w", path, err)
	}
	if files <= 1 {
		return remove(path)
	}
	if err := shift(path, files); err != nil {
		return fmt.Errorf("rotate log %s: %w", path, err)
	}
	if err := os.Rename(path, older(path, 1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

// drop removes what is too old when there will be one file more, and what was
// kept under a higher limit before.
func drop(path string, files int) error {
	for n := max(files-1, 1); ; n++ {
		if err := os.Remove(older(path, n)); errors.Is(err, fs.ErrNotExist) {
			if n >= files {
				return nil
			}
		} else if err != nil {
			return err
		}
	}
}

// shift gives each older file the next number; the last one has to be gone.
func shift(path string, files int) error {
	for n := files - 2; n >= 1; n-- {
		if err := os.Rename(older(path, n), older(path, n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove log: %w", err)
	}
	return nil
}

// copyTail copies at most limit bytes from the end of f as it is now.
func copyTail(f *os.File, to string, mode fs.FileMode, limit int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	from := max(0, st.Size()-limit)
	if from > 0 {
		if from, err = lineStart(f, from, st.Size()); err != nil {
			return err
		}
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(f, from, st.Size()-from))
	if err == nil {
		// What came while we copied, as long as it is little: a writer that is
		// faster than we are must not keep us here.
		end := st.Size()
		if st, err = f.Stat(); err == nil && st.Size() > end {
			_, err = io.Copy(out, io.NewSectionReader(f, end, min(st.Size()-end, limit/8)))
		}
	}
	return errors.Join(err, out.Close())
}

// lineStart is where the first line that begins at or after from does, or from
// when none does near.
func lineStart(f *os.File, from, end int64) (int64, error) {
	var buf [4096]byte
	start := from - 1 // a newline there makes from the start of a line
	n, err := f.ReadAt(buf[:min(int64(len(buf)), end-start)], start)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
		return start + int64(i) + 1, nil
	}
	return from, nil
}

// Remove deletes a log and all its older files.
func Remove(path string) error {
	for _, p := range []string{path, path + ".tmp"} {
		if err := remove(p); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		if err := os.Remove(older(path, n)); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("remove log: %w", err)
		}
	}
}
