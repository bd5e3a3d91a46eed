package api

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A socket that the service manager made is served, and is still there after
// the end: whoever connects meanwhile is answered by the next agentd.
func TestPassedSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	made, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	manager, err := made.File() // the manager's own descriptor, which stays open
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	made.SetUnlinkOnClose(false)
	made.Close()
	for range 2 {
		l, err := net.FileListener(manager)
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(ServerConfig{Socket: path, Passed: l.(*net.UnixListener), Backend: &stub{}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		c := NewClient(path)
		if _, err := c.Status(t.Context(), StatusQuery{}); err != nil {
			t.Error(err)
		}
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Fatal("the service manager's socket was removed")
		}
		if _, err := os.Lstat(path + ".lock"); err == nil {
			t.Error("a lock was made for a socket that is another's")
		}
	}
}

func TestAdopt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if s, warning := adopt(l, path, "root"); warning != "" || s.gid != 0 {
		t.Errorf("gid %d, %q", s.gid, warning)
	}
	if s, warning := adopt(l, path, "no-such-group"); s.gid != -1 || !strings.Contains(warning, "groupadd") {
		t.Errorf("gid %d, %q", s.gid, warning)
	}
	if s, warning := adopt(l, "/elsewhere", ""); s.gid != -1 || s.path != path || !strings.Contains(warning, "/elsewhere") {
		t.Errorf("%+v, %q", s, warning)
	}
}
