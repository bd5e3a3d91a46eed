package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/agentd/agentd/gossip"
)

// dialed is a connection to a peer that proved who it is.
type dialed struct {
	net.Conn
	peer    Peer
	refused atomic.Pointer[error] // the alert that told so
}

// Read notes when the peer says that it does not accept our certificate: in TLS
// 1.3 it does so after our end of the handshake is done.
func (d *dialed) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	if err != nil && isCertAlert(err) {
		d.refused.Store(&err)
	}
	return n, err
}

// Write fails for the reason that the peer gave, if it gave one.
func (d *dialed) Write(b []byte) (int, error) {
	n, err := d.Conn.Write(b)
	if refused := d.refused.Load(); err != nil && refused != nil {
		err = *refused
	}
	return n, err
}

// dial connects to the very node that m is.
func (c *Client) dial(ctx context.Context, m target) (*dialed, error) {
	d, err := c.handshake(ctx, m.addr)
	if err != nil {
		return nil, err
	}
	if d.peer.Name != m.name || d.peer.ID != m.id {
		d.Close()
		return nil, &dialError{fmt.Errorf("%s %w: %s with id %s, not %s with id %s", m.addr, ErrWrongPeer, d.peer.Name, d.peer.ID, m.name, m.id)}
	}
	return d, nil
}

// handshake connects to whoever is at addr.
func (c *Client) handshake(ctx context.Context, addr string) (*dialed, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	raw, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, &dialError{fmt.Errorf("%s %w: %w", addr, ErrUnreachable, reason(err))}
	}
	var p Peer
	t := tls.Client(raw, c.creds.config(&p))
	if err := t.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &dialError{c.explainHandshake(addr, err)}
	}
	if err := c.cfg.Bindings.CheckAt(p.Name, p.ID, addr); err != nil {
		raw.Close()
		return nil, &dialError{err}
	}
	return &dialed{Conn: t, peer: p}, nil
}

// dialError marks errors that say all there is to say.
type dialError struct{ error }

// explain turns what went wrong under a request into words.
func (c *Client) explain(by string, err error) error {
	var dial *dialError
	switch {
	case errors.As(err, &dial):
		return dial.error
	case isCertAlert(err): // it judges our certificate after we judged its own
		return fmt.Errorf("%s %w", by, c.creds.authority.refused())
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", by, context.Canceled)
	}
	if isNetwork(err) {
		return fmt.Errorf("%s %w: %w", by, ErrUnreachable, reason(err))
	}
	return fmt.Errorf("%s %w: %w", by, ErrProtocol, err)
}

// isNetwork tells what the network, or a peer that ended, does to a connection
// from what a peer says on it.
func isNetwork(err error) bool {
	var op *net.OpError
	return isTimeout(err) || errors.As(err, &op) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func (c *Client) explainHandshake(addr string, err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, ErrNotAgentd), errors.Is(err, ErrRingKey), errors.Is(err, ErrCertificate):
		return fmt.Errorf("%s %w", addr, err)
	case isCertAlert(err):
		return fmt.Errorf("%s %w", addr, c.creds.authority.refused())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%s %w: it closed the connection at once; either it is too busy, or that is not the [peer] port of an agentd", addr, ErrUnreachable)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%s %w: %w", addr, ErrUnreachable, reason(err))
	case errors.As(err, &op) && op.Op != "remote error":
		return fmt.Errorf("%s %w: %w", addr, ErrUnreachable, reason(err))
	}
	return fmt.Errorf("%s %w (%w)", addr, ErrNotAgentd, err)
}

// reason strips what the caller's words say already, and adds what to look at.
func reason(err error) error {
	var (
		sys syscall.Errno
		dns *net.DNSError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return errors.New("no answer in time; is the machine up, and does a firewall let TCP to that port through?")
	case errors.As(err, &dns):
		return dns
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w; is agentd running there?", syscall.ECONNREFUSED)
	case errors.As(err, &sys):
		return sys
	}
	return err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// target is whom a pooled transport connects to. A member that comes back
// under another id or address is another target.
type target struct {
	name string
	id   gossip.NodeID
	addr string
}

// pool keeps one transport per peer, each with few connections, for the peers
// asked last.
type pool struct {
	limit int
	dial  func(context.Context, target) (*dialed, error)

	mu    sync.Mutex
	peers map[target]*http.Transport // guarded by mu
	order []target                   // the one asked last comes last; guarded by mu
}

func newPool(limit int, dial func(context.Context, target) (*dialed, error)) *pool {
	return &pool{limit: limit, dial: dial, peers: make(map[target]*http.Transport)}
}

func (p *pool) get(m gossip.Member) *http.Transport {
	t := target{m.Name, m.ID, m.PeerAddr}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.order, t); i >= 0 {
		p.order = append(slices.Delete(p.order, i, i+1), t)
		return p.peers[t]
	}
	if len(p.order) >= p.limit {
		oldest := p.order[0]
		p.order = slices.Delete(p.order, 0, 1)
		retire(p.peers[oldest])
		delete(p.peers, oldest)
	}
	tr := newTransport(func(ctx context.Context) (*dialed, error) { return p.dial(ctx, t) })
	p.peers[t] = tr
	p.order = append(p.order, t)
	return tr
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.peers {
		retire(t)
	}
	clear(p.peers)
	p.order = nil
}

// retire closes a transport's idle connections now and the busy ones once they
// are idle: from here on it keeps none.
func retire(t *http.Transport) { t.CloseIdleConnections() }

// newTransport returns a transport for a single peer.
func newTransport(dial func(context.Context) (*dialed, error)) *http.Transport {
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return d, nil
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    2,
		MaxConnsPerHost:        4,
		IdleConnTimeout:        clientIdle,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         4 << 10,
		WriteBufferSize:        4 << 10,
	}
}
