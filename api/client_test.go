package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
)

func TestClientCallsEveryRoute(t *testing.T) {
	b := &stub{}
	socket, _ := serve(t, ServerConfig{Backend: b})
	c, ctx := NewClient(socket), t.Context()
	check := func(name string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.Status(ctx, StatusQuery{})
	check("status", err)
	_, err = c.Nodes(ctx)
	check("nodes", err)
	w, err := c.Why(ctx, "a", "n")
	check("why", err)
	if w.Daemon != "a" || w.Reason != "n" {
		t.Errorf("why %+v", w)
	}
	_, err = c.Records(ctx, "")
	check("records", err)
	_, err = c.Records(ctx, "daemon")
	check("records of a kind", err)
	r, err := c.Record(ctx, "daemon", "a")
	check("record", err)
	if r.Kind != "daemon" || r.Name != "a" {
		t.Errorf("record %+v", r)
	}
	_, err = c.PutRecord(ctx, "daemon", "a", []byte("envelope"))
	check("put", err)
	if string(b.put) != "envelope" {
		t.Errorf("put %q", b.put)
	}
	_, err = c.Roster(ctx)
	check("roster", err)
	_, err = c.Info(ctx)
	check("info", err)
	_, err = c.Leave(ctx)
	check("leave", err)
	_, err = c.Rejoin(ctx, []string{"10.0.0.1"})
	check("rejoin", err)
	if len(b.addrs) != 1 || b.addrs[0] != "10.0.0.1" {
		t.Errorf("rejoin at %q", b.addrs)
	}
}

func TestClientGetsProblems(t *testing.T) {
	socket, _ := serve(t, ServerConfig{Backend: &stub{err: &Problem{Status: 409, Detail: "changed meanwhile", Hint: "look again"}}})
	_, err := NewClient(socket).PutRecord(t.Context(), "daemon", "a", []byte("x"))
	var p *Problem
	if !errors.As(err, &p) || p.Status != 409 || p.Hint != "look again" || err.Error() != "changed meanwhile" {
		t.Fatalf("got %v", err)
	}
}

// What is too large is refused in words, not by a broken connection.
func TestClientSendsTooMuch(t *testing.T) {
	socket, _ := serve(t, ServerConfig{Backend: &stub{}})
	_, err := NewClient(socket).PutRecord(t.Context(), "daemon", "a", bytes.Repeat([]byte("x"), 4*maxEnvelope))
	var p *Problem
	if !errors.As(err, &p) || p.Status != 413 {
		t.Fatalf("got %v", err)
	}
}

// A name with a slash can't leave its place in the path.
func TestClientEscapesNames(t *testing.T) {
	socket, _ := serve(t, ServerConfig{Backend: &stub{}})
	_, err := NewClient(socket).Record(t.Context(), "daemon", "../../leave")
	var p *Problem
	if !errors.As(err, &p) || p.Status != 400 {
		t.Fatalf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mute := filepath.Join(dir, "mute")
	m, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	go func() {
		for {
			conn, err := m.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()

	for _, c := range []struct{ socket, reason, hint string }{
		{filepath.Join(dir, "missing"), "no such file", "agentd is not running; try: "},
		{filepath.Join(dir, "no-folder", "missing"), "no such file", "agentd is not running; try: "},
		{filepath.Join(dir, strings.Repeat("x", 60), strings.Repeat("y", 60), "missing"), "no such file", "agentd is not running"},
		{stale, "connection refused", "agentd is not running any more"},
		{file, "connection refused", "agentd is not running any more"}, // what connect(2) says of a file
		{filepath.Join(file, "below"), "not a socket", "--socket"},
		{mute, "it closed the connection without an answer", "stopped"},
	} {
		_, err := NewClient(c.socket).Info(t.Context())
		var u *UnreachableError
		if !errors.As(err, &u) {
			t.Errorf("%s: %v", c.socket, err)
			continue
		}
		if u.Reason != c.reason || !strings.Contains(u.Hint, c.hint) {
			t.Errorf("%s: reason %q, hint %q", filepath.Base(c.socket), u.Reason, u.Hint)
		}
		if want := fmt.Sprintf("cannot reach agentd at %s: %s", c.socket, c.reason); err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
}

// Causes that a test can't make happen as root.
func TestUnreachableCauses(t *testing.T) {
	for _, c := range []struct {
		err          error
		reason, hint string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}, "permission denied", "sudo, or add yourself to group agentd"},
		{fs.ErrNotExist, "no such file", "agentd is not running; try: sudo systemctl start agentd"},
		{context.DeadlineExceeded, "no answer in time", "journalctl"},
		{syscall.ECONNRESET, "it closed the connection without an answer", "systemctl status"},
		{&net.OpError{Op: "dial", Err: syscall.EMFILE}, "too many open files", "systemctl status"},
	} {
		u := newUnreachable(DefaultSocket, c.err)
		if u.Reason != c.reason || !strings.Contains(u.Hint, c.hint) || !errors.Is(u, c.err) {
			t.Errorf("%v: %+v", c.err, u)
		}
	}
}

func TestCanceledIsNoTrouble(t *testing.T) {
	socket, _ := serve(t, ServerConfig{Backend: &stub{block: make(chan struct{})}})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, nil)
	defer cancel()
	_, err := NewClient(socket).Info(ctx)
	var u *UnreachableError
	if !errors.As(err, &u) || u.Reason != "no answer in time" {
		t.Errorf("deadline: %v", err)
	}
	ctx2, cancel2 := context.WithCancel(t.Context())
	cancel2()
	if _, err := NewClient(socket).Info(ctx2); !errors.Is(err, context.Canceled) || errors.As(err, &u) && u == nil {
		t.Errorf("canceled: %v", err)
	}
}

// Whatever answers on the socket, the client returns an error and no panic.
func TestGarbageAnswers(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"html":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502); fmt.Fprint(w, "<html>\x1b[31mbad") },
		"no json":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
		"half a json": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"schema":1`) },
		"wrong types": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"schema":"one"}`) },
		"empty problem": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", problemType)
			w.WriteHeader(500)
		},
		"problem that lies": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", problemType)
			w.WriteHeader(404)
			fmt.Fprint(w, `{"status":200}`)
		},
		"redirect": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://elsewhere/")
			w.WriteHeader(302)
		},
	}
	for name, h := range answers {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
			srv.Start()
			defer srv.Close()
			_, err = NewClient(path).Info(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			if strings.ContainsRune(err.Error(), '\x1b') {
				t.Errorf("escape sequence in %q", err)
			}
		})
	}
}

func TestValidNames(t *testing.T) {
	for _, s := range []string{"a", "node-exporter", "forget.web-1", "a_b", strings.Repeat("a", 63)} {
		if !ValidName(s) {
			t.Errorf("%q should be valid", s)
		}
	}
	for _, s := range []string{"", "-a", "a-", ".a", "A", "a b", "a/b", "..", "ä", strings.Repeat("a", 64)} {
		if ValidName(s) {
			t.Errorf("%q should not be valid", s)
		}
	}
	for s, want := range map[string]bool{"daemon": true, "": false, "Daemon": false, "dae-mon": false, "abcdefghijklmnopq": false} {
		if ValidKind(s) != want {
			t.Errorf("kind %q: %v", s, !want)
		}
	}
}

func FuzzProblem(f *testing.F) {
	f.Add(404, problemType, []byte(`{"type":"about:blank","title":"Not Found","status":404,"detail":"x","hint":"y"}`))
	f.Add(500, "text/html", []byte("<html>\x1b[2J"))
	f.Add(999, problemType+"; charset=utf-8", []byte("null"))
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		p := decodeProblem(status, contentType, body)
		if p == nil || p.Status != status || p.Error() == "" {
			t.Fatalf("%+v", p)
		}
		if p.Detail == "" {
			return
		}
		if !strings.HasPrefix(contentType, problemType) && strings.ContainsFunc(p.Detail, unicode.IsControl) {
			t.Errorf("control characters in %q", p.Detail)
		}
	})
}
