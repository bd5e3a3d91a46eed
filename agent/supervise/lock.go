package supervise

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDir holds a lock file per runtime address and namespace.
const lockDir = "/run/agentd/locks"

// NodeLock keeps a second agent away from the same state and the same
// containers. The kernel releases it when the process ends, however it ends.
type NodeLock struct{ files []*os.File }

// Lock takes both locks of a node: on its data_dir, and on the containers of
// (runtimeAddr, namespace), so that another data_dir with the same namespace is
// refused too. The error names the process that holds it.
func Lock(dataDir, runtimeAddr, namespace string) (*NodeLock, error) {
	return lockIn(lockDir, dataDir, runtimeAddr, namespace)
}

func lockIn(dir, dataDir, runtimeAddr, namespace string) (*NodeLock, error) {
	l := &NodeLock{}
	err := l.take(filepath.Join(dataDir, "agentd.lock"), fmt.Sprintf("data_dir %s", dataDir))
	if err == nil && runtimeAddr != "" {
		err = l.takeRuntime(dir, runtimeAddr, namespace)
	}
	if err != nil {
		l.Unlock()
		return nil, err
	}
	return l, nil
}

func (l *NodeLock) takeRuntime(dir, addr, namespace string) error {
	path := strings.TrimPrefix(addr, "unix://")
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(real, filepath.Base(path)) // the socket may come later
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		if !errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("make folder for locks: %w", err)
		}
		// Not root: no containerd either, except one of the user's own.
		dir = filepath.Join(os.TempDir(), "agentd-locks-"+strconv.Itoa(os.Geteuid()))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder for locks: %w", err)
		}
	}
	sum := sha256.Sum256([]byte(path + "\x00" + namespace))
	return l.take(filepath.Join(dir, fmt.Sprintf("%x.lock", sum[:12])),
		fmt.Sprintf("the containers in namespace %q of %s", namespace, addr))
}

// take locks one file and writes our pid into it. The file is never removed:
// removing it would let two processes lock two files of one name.
func (l *NodeLock) take(path, what string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("lock %s: %w", what, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder := "another agentd"
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0) // an empty file names nobody
		if pid, perr := strconv.Atoi(strings.TrimSpace(string(b[:n]))); perr == nil {
			holder = fmt.Sprintf("another agentd (pid %d)", pid)
		}
		return errors.Join(fmt.Errorf("lock %s: %s holds it; stop that one first, or give this one a name, data_dir, ports, socket and containerd namespace of its own", what, holder), f.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock %s: %w", what, err), f.Close())
	}
	l.files = append(l.files, f)
	return nil
}

// Unlock releases the lock; the end of the process does so too.
func (l *NodeLock) Unlock() {
	for _, f := range l.files {
		_ = f.Close() // closing releases the lock, and nothing is buffered
	}
	l.files = nil
}
