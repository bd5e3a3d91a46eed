package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// disk is what the store needs of a file system. Tests put one in its place
// that loses, at a crash, whatever was not synced.
type disk interface {
	MkdirAll(dir string) error
	// ReadDir returns the names of the regular files of a folder, sorted; none
	// when there is no such folder.
	ReadDir(dir string) ([]string, error)
	// ReadFile fails when the file has more than limit bytes.
	ReadFile(name string, limit int) ([]byte, error)
	// Create makes a file or empties the one that is there.
	Create(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the names of a folder last.
	SyncDir(dir string) error
}

type file interface {
	Write(b []byte) (int, error)
	// Sync makes the content last, not the name.
	Sync() error
	Close() error
}

// osDisk is the real one. Records may hold what a daemon's environment holds,
// so that only the agent's user may read them.
type osDisk struct{}

func (osDisk) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osDisk) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (osDisk) ReadFile(name string, limit int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, errTooLong
	}
	return b, nil
}

func (osDisk) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) Remove(name string) error     { return os.Remove(name) }

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// DiskError is a failed write. Whatever was there before is still there.
type DiskError struct {
	Op  string // "write record daemon/x"
	Dir string
	Err error
}

func (e *DiskError) Error() string {
	cause := e.Err.Error()
	switch {
	case errors.Is(e.Err, syscall.ENOSPC), errors.Is(e.Err, syscall.EDQUOT):
		cause = fmt.Sprintf("the disk that holds %s is full; free some space and try again (%v)", e.Dir, e.Err)
	case errors.Is(e.Err, syscall.EROFS):
		cause = fmt.Sprintf("%s is mounted read-only (%v)", e.Dir, e.Err)
	case errors.Is(e.Err, fs.ErrPermission):
		cause = fmt.Sprintf("agentd may not write to %s (%v)", e.Dir, e.Err)
	}
	return e.Op + ": " + cause + "; nothing was changed"
}

func (e *DiskError) Unwrap() error { return e.Err }

// writeFile puts b under name so that a crash at any moment leaves either the
// old file or the new one, and that once it returned nil the new one is there
// for good: write, fsync, rename, fsync the folder. (A file that is renamed but
// not synced comes back empty after a power cut.) The steps of internal/durable,
// on a disk that tests can cut off between any two of them.
func writeFile(d disk, name string, b []byte) error {
	tmp := name + tmpSuffix
	if err := writeSynced(d, tmp, b); err != nil {
		_ = d.Remove(tmp) // the error of the write says more
		return err
	}
	if err := d.Rename(tmp, name); err != nil {
		_ = d.Remove(tmp)
		return err
	}
	return d.SyncDir(filepath.Dir(name))
}

func writeSynced(d disk, name string, b []byte) error {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
