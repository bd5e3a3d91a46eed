package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// FileError is a problem with a file as such: it can't be read, or somebody
// else could have written it. It unwraps to the cause, such as fs.ErrNotExist.
type FileError struct {
	File string
	Msg  string
	Fix  string // what to do, a command where there is one; may be empty
	Err  error  // may be nil
}

// Error returns "FILE: what is wrong". What to do is Hint's.
func (e *FileError) Error() string { return e.File + ": " + e.Msg }

// Hint says what to do about it.
func (e *FileError) Hint() string { return e.Fix }

func (e *FileError) Unwrap() error { return e.Err }

// Modes that a file must not have.
const (
	writableByOthers = fs.FileMode(0o022)
	openToOthers     = fs.FileMode(0o077)
)

// readTrusted reads a file that only root, or the user that runs this, may be
// able to write. The file that is checked is the file that is read: it is
// opened once. forbidden are the mode bits that it must not have.
func readTrusted(path string, forbidden fs.FileMode, maxSize int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, openError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &FileError{File: path, Msg: "is not a regular file"}
	}
	if err := checkOwner(path, info, forbidden, os.Geteuid()); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, openError(path, err)
	}
	if int64(len(b)) > maxSize {
		return nil, &FileError{File: path, Msg: fmt.Sprintf("larger than %d bytes", maxSize)}
	}
	return b, nil
}

// checkDir checks a folder whose files are trusted: who can write a folder can
// put another file of root's in the place of one.
func checkDir(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return openError(path, err)
	}
	if !info.IsDir() {
		return &FileError{File: path, Msg: "is not a folder"}
	}
	return checkOwner(path, info, writableByOthers, os.Geteuid())
}

// CheckSecretFile returns an error unless path is a file that only root, or
// the user that runs this, can read and write (mode 0600 or tighter).
func CheckSecretFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return openError(path, err)
	}
	if !info.Mode().IsRegular() {
		return &FileError{File: path, Msg: "is not a regular file"}
	}
	return checkOwner(path, info, openToOthers, os.Geteuid())
}

// checkOwner checks owner and mode. euid is who runs this: besides root, it
// may own the file.
func checkOwner(path string, info fs.FileInfo, forbidden fs.FileMode, euid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return &FileError{File: path, Msg: "its owner can't be told"}
	}
	if uid := int(stat.Uid); uid != 0 && uid != euid {
		msg, owner := fmt.Sprintf("is owned by user %d, not by root", uid), "root:root"
		if euid != 0 {
			msg = fmt.Sprintf("is owned by user %d, neither by root nor by user %d, who runs this", uid, euid)
			owner = fmt.Sprintf("%d", euid)
		}
		return &FileError{File: path, Msg: msg, Fix: "chown " + owner + " " + shellQuote(path)}
	}
	bad := info.Mode().Perm() & forbidden
	if bad == 0 {
		return nil
	}
	e := &FileError{File: path}
	if forbidden == openToOthers {
		e.Msg = fmt.Sprintf("holds a secret and has mode %04o, which lets others read or write it", info.Mode().Perm())
		e.Fix = "chmod 600 " + shellQuote(path)
	} else {
		e.Msg = fmt.Sprintf("has mode %04o, so others than its owner can write it", info.Mode().Perm())
		e.Fix = "chmod go-w " + shellQuote(path)
	}
	return e
}

// openError words why a file can't be opened.
func openError(path string, err error) *FileError {
	e := &FileError{File: path, Err: err}
	var pe *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Msg = "no such file"
	case errors.Is(err, fs.ErrPermission):
		e.Msg, e.Fix = "no permission to read it", "run this as root (sudo)"
	case errors.As(err, &pe):
		e.Msg = pe.Err.Error()
	default:
		e.Msg = err.Error()
	}
	return e
}

// shellQuote returns a path as a shell takes it.
func shellQuote(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
