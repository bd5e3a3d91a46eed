package chaos

import (
	"context"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/agentd/agentd/e2e/lab"
)

// answering counts the calls that reached it.
type answering struct {
	grpc_health_v1.UnimplementedHealthServer
	heard   atomic.Int32
	waiting chan struct{} // when set, answers wait until it is closed
}

func (a *answering) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	a.heard.Add(1)
	if a.waiting != nil {
		select {
		case <-a.waiting:
		case <-ctx.Done():
		}
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func serveBehindProxy(t *testing.T) (*answering, *Proxy, func() error) {
	t.Helper()
	dir := t.TempDir()
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server, a := grpc.NewServer(), &answering{}
	grpc_health_v1.RegisterHealthServer(server, a)
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	p := NewProxy(filepath.Join(dir, "p"), filepath.Join(dir, "s"))
	if err := p.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, "p"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return a, p, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn.ResetConnectBackoff()
		_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
		return err
	}
}

// A call is cut at the moment that was asked for, once, and what was asked for
// another call leaves this one alone.
func TestProxyCuts(t *testing.T) {
	for _, c := range []struct {
		cut   Cut
		heard int32 // how often the server hears of the call that is cut
	}{
		{Cut{When: Before, Method: "Health/Check"}, 0},
		{Cut{When: During, Method: "Health/Check", Delay: 30 * time.Millisecond}, 1},
		{Cut{When: After, Method: "Health/Check"}, 1},
		{Cut{When: After}, 1}, // any call
	} {
		t.Run(string(c.cut.When)+c.cut.Method, func(t *testing.T) {
			a, p, call := serveBehindProxy(t)
			if err := call(); err != nil {
				t.Fatalf("a call with no cut armed: %v", err)
			}
			p.Arm(Cut{When: Before, Method: "Tasks/Create"})
			if err := call(); err != nil {
				t.Fatalf("a call with another's cut armed: %v", err)
			}
			if c.cut.When == During {
				a.waiting = make(chan struct{})
				t.Cleanup(func() { close(a.waiting) })
			}
			before := a.heard.Load()
			p.Arm(c.cut)
			if err := call(); status.Code(err) != codes.Unavailable {
				t.Errorf("the call that was to be cut: %v, want unavailable", err)
			}
			if got := a.heard.Load() - before; got != c.heard {
				t.Errorf("the server heard of it %d times, want %d", got, c.heard)
			}
			byWhen, total, last := p.Fired()
			if byWhen[c.cut.When] != 1 || total != 1 || last.IsZero() {
				t.Errorf("fired: %v, %d, %v", byWhen, total, last)
			}
		})
	}
}

// Closed, it is a server that was killed: its socket is there and refuses. Open
// again, it serves.
func TestProxyIsAsTheServer(t *testing.T) {
	_, p, call := serveBehindProxy(t)
	if err := call(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if conn, err := net.Dial("unix", p.path); err == nil {
		_ = conn.Close()
		t.Error("it accepts connections while closed")
	}
	if err := p.Open(); err != nil {
		t.Fatal(err)
	}
	if err := lab.Within(t.Context(), 10*time.Second, func(context.Context) error { return call() }); err != nil {
		t.Errorf("after opening it again: %v", err)
	}
}
