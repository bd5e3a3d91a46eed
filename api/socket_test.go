package api

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnknownGroupIsAWarning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, warning, err := listen(path, "no-such-group-here")
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	if !strings.Contains(warning, "groupadd") || l.gid != -1 {
		t.Errorf("warning %q, gid %d", warning, l.gid)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A socket that a killed agent left behind is replaced.
func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	socket, _ := serve(t, ServerConfig{Socket: path, Backend: &stub{}})
	if _, err := NewClient(socket).Info(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLiveSocketIsRefused(t *testing.T) {
	socket, _ := serve(t, ServerConfig{Backend: &stub{}})
	err := NewServer(ServerConfig{Socket: socket, Backend: &stub{}}).Listen()
	if err == nil || !strings.Contains(err.Error(), "another agentd is running") {
		t.Fatalf("a second server: %v", err)
	}
	if _, err := NewClient(socket).Info(t.Context()); err != nil {
		t.Errorf("the first server no longer answers: %v", err)
	}
}

// Another program's socket, for which nobody holds our lock.
func TestForeignSocketIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	err = NewServer(ServerConfig{Socket: path, Backend: &stub{}}).Listen()
	if err == nil || !strings.Contains(err.Error(), "another program answers") {
		t.Fatalf("got %v", err)
	}
}

func TestFileInTheWayIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := NewServer(ServerConfig{Socket: path, Backend: &stub{}}).Listen()
	if err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Fatalf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file now holds %q", b)
	}
}

// A path that is longer than a socket address works on both sides.
func TestLongPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("long", 20), strings.Repeat("path", 20), "agentd.sock")
	socket, stop := serve(t, ServerConfig{Socket: path, Backend: &stub{}})
	if _, err := NewClient(socket).Info(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// An end does not remove a socket that somebody else has put there since.
func TestReleaseKeepsAForeignSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, _, err := listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	l.release()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other socket is gone: %v", err)
	}
}
