package logger

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listen plays journald.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestJournalFields(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	c := listen(t, path)
	s := newJournalSink(Options{Daemon: "web", Container: "web.next", Namespace: "ns", Socket: path})
	defer s.close()
	long := strings.Repeat("x", maxLine)
	batch := appendRecord(nil, Line{Stream: Stdout, Text: []byte("out \x00 PRIORITY=0")})
	batch = appendRecord(batch, Line{Stream: Stderr, Partial: true, Text: []byte(long)})
	batch = appendFlagged(batch, time.Now(), flagStderr|flagNote, []byte("suppressed"))
	if n, err := s.write(batch); n != len(batch) || err != nil {
		t.Fatal(n, err)
	}
	const fixed = "SYSLOG_IDENTIFIER=web\nAGENTD_DAEMON=web\nCONTAINER_NAME=web.next\nAGENTD_NAMESPACE=ns\n"
	for _, want := range []string{
		fixed + "PRIORITY=6\nMESSAGE=out \x00 PRIORITY=0\n",
		fixed + "PRIORITY=3\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=" + long + "\n",
		fixed + "PRIORITY=4\nMESSAGE=suppressed\n",
	} {
		if got := receive(t, c); got != want {
			t.Errorf("got %.300q, want %.300q", got, want)
		}
	}
}

// journald that is gone, comes back, or does not read is an error within a
// bounded time, and nothing is lost by it.
func TestJournalTrouble(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	s := newJournalSink(Options{Daemon: "d", Socket: path})
	defer s.close()
	if n, err := s.write(batchOf("x")); n != 0 || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("without a socket: %d, %v", n, err)
	}
	for range 2 { // the second time over a connection that was lost
		c := listen(t, path)
		err := errors.New("not tried")
		for range 2 { // a lost connection is noticed by the first
			if _, err = s.write(batchOf("back")); err == nil {
				break
			}
		}
		if err != nil || !strings.HasSuffix(receive(t, c), "MESSAGE=back\n") {
			t.Fatalf("after a restart: %v", err)
		}
		c.Close()
		os.Remove(path)
	}

	c := listen(t, path)
	var batch []byte
	for range 5000 { // more than a socket holds
		batch = append(batch, batchOf("unread")...)
	}
	begin := time.Now()
	n, err := 0, error(nil)
	for err == nil && n < len(batch) || n == 0 {
		n, err = s.write(batch)
	}
	if err == nil || n == len(batch) {
		t.Fatal("5,000 entries went to nobody")
	}
	if took := time.Since(begin); took > 20*sendLimit*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	one := len(batchOf("unread"))
	go func() { // journald reads again
		b := make([]byte, 4096)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	}()
	for tries := 0; n < len(batch) && tries < 100; tries++ {
		m, _ := s.write(batch[n:])
		n += m
	}
	if n != len(batch) || n%one != 0 {
		t.Fatalf("%d of %d bytes went", n, len(batch))
	}
}

func BenchmarkJournal(b *testing.B) {
	path := filepath.Join(b.TempDir(), "socket")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}()
	s := newJournalSink(Options{Daemon: "d", Socket: path})
	defer s.close()
	batch := bytes.Repeat(batchOf(strings.Repeat("x", 99)), 100)
	b.SetBytes(100 * 100)
	for b.Loop() {
		for n := 0; n < len(batch); {
			m, _ := s.write(batch[n:])
			n += m
		}
	}
}
