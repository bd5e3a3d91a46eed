package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

// systemd is a notify socket.
type systemd struct {
	t    *testing.T
	conn *net.UnixConn
	all  []string
}

func newSystemd(t *testing.T) *systemd {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "2000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	return &systemd{t: t, conn: conn}
}

// until reads until a state begins like this, and returns it.
func (s *systemd) until(prefix string) string {
	s.t.Helper()
	b := make([]byte, 4096)
	if err := s.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	for {
		n, err := s.conn.Read(b)
		if err != nil {
			s.t.Fatalf("waiting for %s: %v; told so far: %q", prefix, err, s.all)
		}
		s.all = append(s.all, string(b[:n]))
		if strings.HasPrefix(string(b[:n]), prefix) {
			return string(b[:n])
		}
	}
}

// install writes the files of a node that has no containerd.
func install(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	alice, err := record.GenerateKey("alice")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	write("ring.key", string(config.NewRingKey().Marshal()), 0o600)
	write("trust.d/alice.pub", string(alice.Public().Marshal()), 0o644)
	write("agentd.toml", fmt.Sprintf(`
[node]
name = "n1"
data_dir = "%[1]s/data"
[ring]
bind = "127.0.0.1:%[2]d"
key_file = "%[1]s/ring.key"
[trust]
dir = "%[1]s/trust.d"
[runtime]
address = "%[1]s/nobody.sock"
[api]
socket = "%[1]s/a.sock"
group = ""
[metrics]
listen = ""
`, dir, port), 0o644)
	return dir
}

// output is a stderr that a test may read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// The whole program, as systemd sees it, on a machine whose containerd does not
// answer: up, watched over, reloaded, and stopped with success.
//
// conformance: F5
func TestLifeUnderSystemd(t *testing.T) {
	s, dir, stderr := newSystemd(t), install(t), &output{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"--config", filepath.Join(dir, "agentd.toml")}, &output{}, stderr) }()
	if got := s.until("READY=1\n"); !strings.Contains(got, "\nSTATUS=node n1 of ring default: ") {
		t.Errorf("told %q", got)
	}
	for range 3 { // containerd's absence is no reason to end agentd
		s.until("WATCHDOG=1")
	}
	if all := strings.Join(s.all, "\n"); !strings.Contains(all, "no daemon is meant for it; 1 node alive; the container runtime does not answer") {
		t.Errorf("told %q", all)
	}
	drop := filepath.Join(dir, "agentd.d", "bind.toml")
	if err := os.Mkdir(filepath.Dir(drop), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(drop, []byte("[ring]\nname = \"other\"\n[log]\nlevel = \"debug\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.until("RELOADING=1\nMONOTONIC_USEC=")
	if got := s.until("READY=1\n"); !strings.Contains(got, "[ring] name changed: takes a restart") {
		t.Errorf("told %q", got)
	}
	s.until("WATCHDOG=1")
	if !strings.Contains(stderr.String(), "configuration reloaded") {
		t.Errorf("log:\n%s", stderr)
	}
	cancel()
	s.until("STOPPING=1\n")
	if got := <-code; got != 0 {
		t.Errorf("exit code %d; log:\n%s", got, stderr)
	}
}

func TestCommandLine(t *testing.T) {
	dir := install(t)
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"--version"}, 0, "agentd ", ""},
		{[]string{"--help"}, 0, "", "Usage:"},
		{[]string{"--nonsense"}, 2, "", "flag provided but not defined"},
		{[]string{"status"}, 2, "", "hint: agentctl is the command for operators"},
		{[]string{"--check", "--config", filepath.Join(dir, "agentd.toml")}, 0, `name = "n1"`, ""},
		{[]string{"--check", "--config", filepath.Join(dir, "none.toml")}, 1, "", "agentctl init makes one"},
	} {
		var stdout, stderr output
		if got := run(t.Context(), c.args, &stdout, &stderr); got != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", c.args, got, stdout.String(), stderr.String())
		}
	}
}

// TestMain also is agentd: with AGENTD_TEST_RUN, the binary runs it.
func TestMain(m *testing.M) {
	if os.Getenv("AGENTD_TEST_RUN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A socket unit's socket is taken by a new process, as systemd passes it: as
// descriptor 3, for one process by its id.
func TestSocketActivation(t *testing.T) {
	dir := install(t)
	path := filepath.Join(dir, "a.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info := func() (api.Info, error) {
		c := api.NewClient(path)
		defer c.Close()
		return c.Info(t.Context())
	}
	answer := make(chan api.Info, 1)
	go func() { // asked before agentd was started
		got, err := info()
		if err != nil {
			t.Error(err)
		}
		answer <- got
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stderr output
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" --config "$1"`, self, filepath.Join(dir, "agentd.toml"))
	cmd.Env = append(os.Environ(), "AGENTD_TEST_RUN=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=agentd.socket")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{f}, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got.PID != cmd.Process.Pid {
		t.Errorf("answered by %d, not by %d; log:\n%s", got.PID, cmd.Process.Pid, &stderr)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v; log:\n%s", err, &stderr)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error("systemd's socket was removed")
	}
}
