package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// netTransport is memberlist's own, except that shutting it down also ends the
// connections under way: a peer behind a dead link would otherwise hold up the
// end of Run for memberlist's ten seconds.
type netTransport struct {
	*memberlist.NetTransport

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil after Shutdown; guarded by mu
	stops map[int]func()        // of dials under way; guarded by mu
	next  int                   // guarded by mu
}

var _ memberlist.NodeAwareTransport = (*netTransport)(nil)

func newNetTransport(host string, port int, logger *log.Logger) (*netTransport, error) {
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{host}, BindPort: port, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s port %d: %w", host, port, err)
	}
	return &netTransport{NetTransport: t, conns: make(map[net.Conn]struct{}), stops: make(map[int]func())}, nil
}

func (t *netTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *netTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	// memberlist gives no context; the transport's life bounds this one.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	t.mu.Lock()
	if t.conns == nil {
		t.mu.Unlock()
		return nil, net.ErrClosed
	}
	id := t.next
	t.next++
	t.stops[id] = cancel
	t.mu.Unlock()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.Addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.stops, id)
	if err != nil {
		return nil, err
	}
	if t.conns == nil {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	tc := &trackedConn{Conn: c, t: t}
	t.conns[tc] = struct{}{}
	return tc, nil
}

// Shutdown ends what is under way, then the listeners.
func (t *netTransport) Shutdown() error {
	t.mu.Lock()
	for _, stop := range t.stops {
		stop()
	}
	open := t.conns
	t.conns = nil
	t.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
	return t.NetTransport.Shutdown()
}

// trackedConn is a connection that its transport can close.
type trackedConn struct {
	net.Conn
	t *netTransport
}

func (c *trackedConn) Close() error {
	c.t.mu.Lock()
	if c.t.conns != nil {
		delete(c.t.conns, c)
	}
	c.t.mu.Unlock()
	return c.Conn.Close()
}
