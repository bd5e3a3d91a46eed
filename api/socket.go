package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSunPath is the size of sockaddr_un's sun_path, with its closing zero
// (unix(7)); longer paths are reached through /proc/self/fd.
const maxSunPath = 108

// socket is a listener that owns its path: a lock file beside it ("PATH.lock",
// held with flock for as long as the process lives) tells a socket in use from
// one that a killed agent left behind.
type socket struct {
	*net.UnixListener
	path string
	lock *os.File    // nil: adopted
	info os.FileInfo // of the socket file, so that only ours is removed
	gid  int         // the group that may connect; -1: none
}

// listen makes the socket at path. warning says why only root may connect,
// when a group was asked for.
func listen(path, group string) (s *socket, warning string, err error) {
	if path == "" {
		return nil, "", errors.New("listen on the api socket: no path is set")
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", fmt.Errorf("make the folder of socket %s: %w", path, err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, "", fmt.Errorf("listen on %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if err := clearStale(path); err != nil {
		return nil, "", fmt.Errorf("listen on %s: %w", path, err)
	}

	// Bound under another name and renamed when mode and group are right, so
	// that the path never names a socket that is open to more than it should.
	temp := filepath.Join(dir, fmt.Sprintf(".%s.%d", filepath.Base(path), os.Getpid()))
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("listen on %s: %w", path, err)
	}
	var l *net.UnixListener
	err = withShortPath(temp, func(short string) error {
		var err error
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	defer func() {
		if err != nil {
			l.Close()
			os.Remove(temp)
		}
	}()
	gid, warning, err := giveToGroup(temp, group)
	if err != nil {
		return nil, "", fmt.Errorf("set the rights of socket %s: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, "", fmt.Errorf("listen on %s: %w", path, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, "", fmt.Errorf("listen on %s: %w", path, err)
	}
	return &socket{UnixListener: l, path: path, lock: lock, info: info, gid: gid}, warning, nil
}

// release closes the listener and removes the socket, if it is still ours. The
// lock file stays: removing it would let two processes lock two files.
func (s *socket) release() {
	s.Close()
	if s.lock == nil {
		return // adopted: it is not ours to remove
	}
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.info) {
		os.Remove(s.path)
	}
	s.lock.Close()
}

// giveToGroup sets mode 0660 with that group, or 0600 and says why; gid is -1
// then.
func giveToGroup(path, group string) (gid int, warning string, err error) {
	if err := os.Chmod(path, 0o600); err != nil || group == "" {
		return -1, "", err
	}
	gid, ok := groupID(group)
	if !ok {
		return -1, fmt.Sprintf("group %q does not exist; make it with: groupadd --system %s", group, group), nil
	}
	if err := os.Lchown(path, -1, gid); err != nil {
		return -1, fmt.Sprintf("cannot give it to group %q: %v", group, err), nil
	}
	return gid, "", os.Chmod(path, 0o660)
}

func groupID(name string) (gid int, ok bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, false
	}
	gid, err = strconv.Atoi(g.Gid)
	return gid, err == nil
}

// lockFile opens and locks path for the life of the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another agentd is running with this socket; stop it, or give this one another [api] socket")
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// clearStale removes a socket that nobody answers on.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file that is not a socket; move it away")
	}
	conn, err := dialUnix(path, time.Second)
	if err == nil {
		conn.Close()
		return errors.New("another program answers on this socket; stop it, or set another [api] socket")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func dialUnix(path string, timeout time.Duration) (net.Conn, error) {
	var conn net.Conn
	err := withShortPath(path, func(short string) error {
		var err error
		conn, err = net.DialTimeout("unix", short, timeout)
		return err
	})
	return conn, err
}

// withShortPath calls f with a name of path that fits into a socket address:
// path itself, or one through a descriptor of its folder.
func withShortPath(path string, f func(short string) error) error {
	if len(path) < maxSunPath {
		return f(path)
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(fd)
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path)))
}
