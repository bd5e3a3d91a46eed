package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

func attempt(t *testing.T, a *Asker, p spec.Probe, exec Exec) Outcome {
	t.Helper()
	if p.Timeout == 0 {
		p.Timeout = spec.Duration(2 * time.Second)
	}
	ctx, cancel := context.WithTimeout(t.Context(), p.Timeout.D())
	defer cancel()
	began := time.Now()
	o := a.Ask(ctx, p, exec)
	if took := time.Since(began); took > p.Timeout.D()+sureLimit+time.Second {
		t.Fatalf("the attempt took %v", took)
	}
	return o
}

func TestHTTP(t *testing.T) {
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "agentd-probe" || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	mux.HandleFunc("/busy", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/busy", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-hang })
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) })
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	defer close(hang)
	closed := httptest.NewServer(mux)
	closed.Close()
	a := NewAsker(nil)
	tests := []struct {
		name, url string
		timeout   time.Duration
		want      Outcome
	}{
		{"well", plain.URL, 0, Outcome{Result: Passed}},
		{"well over TLS, whoever signed it", secure.URL, 0, Outcome{Result: Passed}},
		{"not well", plain.URL + "/busy", 0, Outcome{Failed, "answered 503"}},
		{"sent elsewhere: an answer, and not followed", plain.URL + "/moved", 0, Outcome{Result: Passed}},
		{"an answer without end is cut", plain.URL + "/endless", 0, Outcome{Result: Passed}},
		{"too slow", plain.URL + "/hang", 50 * time.Millisecond, Outcome{Failed, "timed out after 50ms"}},
		{"nobody listens", closed.URL, 0, Outcome{Failed, "refused"}},
		{"too many headers", plain.URL + "/headers", 0, Outcome{Failed, "failed: "}},
		{"no URL", "http://[::1", 0, Outcome{Failed, "cannot be asked: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := attempt(t, a, spec.Probe{HTTP: tt.url, Timeout: spec.Duration(tt.timeout)}, nil)
			if got.Result != tt.want.Result || !strings.HasPrefix(got.How, tt.want.How) {
				t.Fatalf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// No connection outlives its attempt.
func TestNoConnectionIsKept(t *testing.T) {
	var mu sync.Mutex
	open, most := map[string]bool{}, 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	gone := make(chan struct{}, 100)
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch s {
		case http.StateNew:
			open[c.RemoteAddr().String()] = true
		case http.StateClosed:
			delete(open, c.RemoteAddr().String())
			gone <- struct{}{}
		}
		most = max(most, len(open))
	}
	srv.Start()
	defer srv.Close()
	a := NewAsker(nil)
	for range 20 {
		if o := attempt(t, a, spec.Probe{HTTP: srv.URL}, nil); o.Result != Passed {
			t.Fatalf("got %+v", o)
		}
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			t.Fatal("a connection was kept")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if most != 1 {
		t.Fatalf("%d connections at once", most)
	}
}

func TestTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	a := NewAsker(nil)
	if o := attempt(t, a, spec.Probe{TCP: addr}, nil); o.Result != Passed {
		t.Fatalf("got %+v", o)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if o := attempt(t, a, spec.Probe{TCP: addr}, nil); o != (Outcome{Failed, "refused"}) {
		t.Fatalf("got %+v", o)
	}
}

func TestExec(t *testing.T) {
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	well := func(context.Context) error { return nil }
	hangs := func(ctx context.Context, _ []string) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
	answers := func(code int, err error) Exec {
		return func(context.Context, []string) (int, error) { return code, err }
	}
	tests := []struct {
		name  string
		exec  Exec
		ready func(context.Context) error
		want  Outcome
	}{
		{"well", answers(0, nil), well, Outcome{Result: Passed}},
		{"not well", answers(3, nil), well, Outcome{Failed, "exited with code 3"}},
		{"hangs", hangs, well, Outcome{Failed, "timed out after 20ms"}},
		{"the runtime hangs", hangs, silent, Outcome{Unknown, "the container runtime does not answer"}},
		{"the runtime is away", answers(0, fmt.Errorf("exec: %w", runtime.ErrUnavailable)), well, Outcome{Unknown, "exec: runtime unavailable"}},
		{"the instance ended", answers(0, fmt.Errorf("exec: %w", runtime.ErrNotFound)), well, Outcome{Unknown, "exec: not found"}},
		{"no such command", answers(0, errors.New("exec: /nope: no such file")), well, Outcome{Failed, "failed: exec: /nope"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := attempt(t, NewAsker(tt.ready), spec.Probe{Exec: []string{"/check"}, Timeout: spec.Duration(20 * time.Millisecond)}, tt.exec)
			if got.Result != tt.want.Result || !strings.HasPrefix(got.How, tt.want.How) {
				t.Fatalf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Commands of many daemons do not all run at once, and one that waited in vain
// says nothing about its daemon.
func TestExecSlots(t *testing.T) {
	a := NewAsker(nil)
	hold := make(chan struct{})
	begun := make(chan struct{}, execSlots)
	var wg sync.WaitGroup
	for range execSlots {
		wg.Go(func() {
			a.Ask(t.Context(), spec.Probe{Exec: []string{"x"}}, func(context.Context, []string) (int, error) {
				begun <- struct{}{}
				<-hold
				return 0, nil
			})
		})
	}
	for range execSlots {
		<-begun
	}
	o := attempt(t, a, spec.Probe{Exec: []string{"x"}, Timeout: spec.Duration(20 * time.Millisecond)}, func(context.Context, []string) (int, error) {
		t.Error("one more runs")
		return 0, nil
	})
	if o.Result != Unknown {
		t.Fatalf("got %+v", o)
	}
	close(hold)
	wg.Wait()
}

// A probe's cost: 20 daemons that are asked every 10 s make two of these per
// second, which at 1 % of a core may cost 5 ms each.
func BenchmarkHTTP(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }))
	defer srv.Close()
	a, p := NewAsker(nil), spec.Probe{HTTP: srv.URL, Timeout: spec.Duration(time.Second)}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), p.Timeout.D())
		if o := a.Ask(ctx, p, nil); o.Result != Passed {
			b.Fatal(o)
		}
		cancel()
	}
}

func BenchmarkTCP(b *testing.B) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	a, p := NewAsker(nil), spec.Probe{TCP: srv.Listener.Addr().String()}
	b.ReportAllocs()
	for b.Loop() {
		if o := a.Ask(b.Context(), p, nil); o.Result != Passed {
			b.Fatal(o)
		}
	}
}
