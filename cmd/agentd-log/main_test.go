package main

import (
	"bytes"
	"errors"
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

	"github.com/agentd/agentd/e2e/lab"
)

// build makes the program once, as packages have it.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "agentd-log")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "agentd-log")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// shim plays containerd's: it starts the logger and holds the pipes.
type shim struct {
	cmd      *exec.Cmd
	out, err *os.File // what the container writes to
	done     chan error
}

func start(tb testing.TB, args ...string) *shim {
	tb.Helper()
	bin, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	s := &shim{done: make(chan error, 1)}
	outR, outW := pipes(tb)
	errR, errW := pipes(tb)
	readyR, readyW := pipes(tb)
	s.out, s.err = outW, errW
	s.cmd = exec.Command(bin, args...)
	s.cmd.Env = []string{"CONTAINER_ID=d", "CONTAINER_NAMESPACE=ns"}
	s.cmd.ExtraFiles = []*os.File{outR, errR, readyW}
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	tb.Cleanup(func() {
		_ = s.cmd.Process.Kill()
	})
	for _, f := range []*os.File{outR, errR, readyW} {
		f.Close()
	}
	if err := readyR.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	var b [2]byte
	if n, err := readyR.Read(b[:]); n != 1 || err != nil {
		tb.Fatalf("ready: %d bytes, %v", n, err)
	}
	return s
}

func pipes(tb testing.TB) (r, w *os.File) {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// leave does what the shim does when the task is deleted, and returns how long
// the logger took.
func (s *shim) leave(tb testing.TB) time.Duration {
	tb.Helper()
	begin := time.Now()
	s.out.Close()
	s.err.Close()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		tb.Fatal("it did not end")
	}
	return time.Since(begin)
}

// kib reads a line of /proc/PID/status.
func (s *shim) kib(tb testing.TB, key string) int {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				tb.Fatal(err)
			}
			return n
		}
	}
	tb.Fatalf("no %s", key)
	return 0
}

func await(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(end) {
			tb.Fatalf("not reached within 10 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func read(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		tb.Fatal(err)
	}
	return string(b)
}

func fileArgs(path string) []string {
	return []string{"sink", "file", "daemon", "d", "path", path, "rate", "-1"}
}

// As long as a container can write, no signal ends its logger; when the shim
// has let go, it ends at once, with everything written.
func TestSignals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	s := start(t, fileArgs(path)...)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTERM} {
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Fatalf("before %v: %v", sig, err)
		}
		time.Sleep(20 * time.Millisecond)
		fmt.Fprintln(s.out, "after", sig)
		await(t, "a line after "+sig.String(), func() bool { return strings.Contains(read(t, path), "after "+sig.String()+"\n") })
	}
	time.Sleep(1200 * time.Millisecond) // longer than strays have
	fmt.Fprint(s.err, "last words")
	if took := s.leave(t); took > 800*time.Millisecond {
		t.Errorf("the end took %v", took)
	}
	if !strings.HasSuffix(read(t, path), " stderr F last words\n") {
		t.Error("the last words are missing")
	}
}

// A process that outlived the container holds a pipe: the task's deletion waits
// for about a second, not for the twelve after which the shim kills us.
func TestStray(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	s := start(t, fileArgs(path)...)
	stray := exec.Command("sleep", "60")
	stray.Stdout = s.out
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	defer stray.Wait()
	defer stray.Process.Kill()
	if took := s.leave(t); took < 900*time.Millisecond || took > 4*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// flood writes as much as it can within a moment; it fails when that stalls.
func (s *shim) flood(t *testing.T) {
	t.Helper()
	chunk := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 1000)
	begin := time.Now()
	for range 200 { // 20 MB
		if err := s.out.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.out.Write(chunk); err != nil {
			t.Fatalf("the container blocked: %v", err)
		}
	}
	t.Logf("20 MB in %v", time.Since(begin))
}

// A full disk stops no container, and is told in the log once there is room.
//
// conformance: U9
func TestFullDisk(t *testing.T) {
	lab.Require(t, "root")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	path := filepath.Join(dir, "d.log")
	s := start(t, fileArgs(path)...)
	s.flood(t)
	if err := os.Truncate(path, 0); err != nil { // somebody makes room
		t.Fatal(err)
	}
	await(t, "it goes on, and tells why lines are missing", func() bool {
		fmt.Fprintln(s.out, "tick")
		return strings.Contains(read(t, path), "no space left on device")
	})
	s.leave(t)
}

func TestNoJournal(t *testing.T) {
	s := start(t, "sink", "journald", "daemon", "d", "socket", filepath.Join(t.TempDir(), "none"), "rate", "-1")
	s.flood(t)
	if took := s.leave(t); took > 3*time.Second {
		t.Errorf("the end took %v", took)
	}
}

func TestJournalDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := start(t, "sink", "journald", "daemon", "d", "socket", path, "rate", "-1")
	s.flood(t)
	if took := s.leave(t); took > 4*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// One of these runs for each container.
func TestMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	s := start(t, fileArgs(path)...)
	fmt.Fprintln(s.out, "x")
	await(t, "a line", func() bool { return read(t, path) != "" })
	idle := s.kib(t, "VmRSS")
	s.flood(t)
	time.Sleep(200 * time.Millisecond)
	busy := s.kib(t, "VmRSS")
	t.Logf("%d KiB at first, %d KiB after 20 MB, of which %d KiB its own", idle, busy, s.kib(t, "RssAnon"))
	if idle > 3600 || busy > 4500 {
		t.Errorf("%d KiB at first, %d KiB after 20 MB; want about 3,000 and 3,500", idle, busy)
	}
	s.leave(t)
}

func TestByHand(t *testing.T) {
	if err := run(nil, os.Getenv); err == nil || !strings.Contains(err.Error(), "by containerd") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkThroughput is from the container's write to the file, with what was
// lost on the way told apart.
func BenchmarkThroughput(b *testing.B) {
	path := filepath.Join(b.TempDir(), "d.log")
	s := start(b, append(fileArgs(path), "max-files", "100", "max-size", "1000000000")...)
	chunk := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 100)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := s.out.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	s.leave(b)
	written := strings.Count(read(b, path), "\n")
	b.ReportMetric(float64(written)/float64(b.N*100), "written/line")
	b.ReportMetric(float64(written)/b.Elapsed().Seconds(), "lines/s")
}
