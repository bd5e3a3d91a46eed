package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/agentd/agentd/gossip"
)

// conn is a connection whose other end proved who it is.
type conn struct {
	*tls.Conn
	peer Peer
	addr string
	from netip.Prefix
	born time.Time
	free func() // gives the connection's place back; once
}

func (c *conn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// listener accepts connections and shakes hands with many callers at a time:
// one that is slow, silent or a stranger holds up nobody else.
type listener struct {
	raw   net.Listener
	creds *credentials
	gate  *gate
	log   *slog.Logger
	quiet *seldom
	// patience is how long a caller may take to say who it is.
	patience time.Duration

	ready   chan *conn
	stopped chan struct{} // closed when the accept loop ended
	failed  error         // why it ended; read after stopped
	shakes  sync.WaitGroup
}

// bind opens the socket; its errors say what to do.
func bind(addr string) (net.Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	raw, err := config.Listen(context.Background(), "tcp", addr)
	if err == nil {
		return raw, nil
	}
	cause := err
	var sys syscall.Errno
	if errors.As(err, &sys) {
		cause = sys
	}
	hint := "set [peer] bind"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another program, or another agentd, listens there: stop it, or set [peer] bind to a free port (see: ss -ltnp)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this machine has no such address: set [peer] bind, or [ring] bind, to one of its own"
	case errors.Is(err, syscall.EACCES):
		hint = "ports below 1024 need root: set [peer] bind to a higher port"
	}
	return nil, fmt.Errorf("listen on %s for other nodes: %w: %s", addr, cause, hint)
}

// keepAlive finds dead peers in about two and a half minutes, without waking
// an idle machine every 15 s for each connection as Go's default does.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 90 * time.Second, Interval: 20 * time.Second, Count: 3}

// run accepts until ctx ends or the socket fails, and returns after all
// handshakes have ended.
func (l *listener) run(ctx context.Context) {
	defer close(l.stopped)
	defer l.shakes.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.raw.Close() })
	defer stop()

	const maxPause = time.Second
	pause := 5 * time.Millisecond
	for {
		raw, err := l.raw.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			l.shakes.Add(1)
			go func() {
				defer l.shakes.Done()
				l.admit(ctx, raw)
			}()
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			l.failed = net.ErrClosed
			return
		}
		// Out of descriptors, most likely: that passes.
		if l.quiet.ok("accept") {
			l.log.Warn("connections from other nodes can't be accepted", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// admit finds out who calls and hands the connection on.
func (l *listener) admit(ctx context.Context, raw net.Conn) {
	from := prefixOf(raw.RemoteAddr())
	if !l.gate.enter(from, gossip.NodeID{}) {
		raw.Close()
		return
	}
	free := sync.OnceFunc(func() { l.gate.leave(from, gossip.NodeID{}) })

	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	var p Peer
	t := tls.Server(raw, l.creds.config(&p))
	if err := t.HandshakeContext(ctx); err != nil {
		l.turnedAway(raw.RemoteAddr(), err)
		linger(ctx, raw)
		free()
		return
	}
	if err := l.creds.authority.problem(); err != nil && l.quiet.ok("authority") {
		l.log.Warn("certificate files changed and can't be read; the old ones stay in use", "err", err)
	}
	select {
	case l.ready <- &conn{Conn: t, peer: p, addr: raw.RemoteAddr().String(), from: from, born: time.Now(), free: free}:
	case <-ctx.Done():
		raw.Close()
		free()
	}
}

// turnedAway logs why a caller was not let in: an operator must find out about
// a node with the wrong key from either machine's log. Scanners and health
// checks are not news.
func (l *listener) turnedAway(addr net.Addr, err error) {
	switch host, _, _ := net.SplitHostPort(addr.String()); {
	case errors.Is(err, ErrRingKey), errors.Is(err, ErrCertificate), isCertAlert(err):
		if l.quiet.ok(host) {
			l.log.Warn("caller turned away", "addr", addr.String(), "err", err)
		}
	default:
		l.log.Debug("caller turned away", "addr", addr.String(), "err", err)
	}
}

// linger closes a connection such that the other end can read the TLS alert
// which says why: closing at once with unread bytes would reset it.
func linger(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	tcp, ok := raw.(*net.TCPConn)
	if !ok || ctx.Err() != nil || tcp.CloseWrite() != nil {
		return
	}
	if tcp.SetDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = tcp.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, _ = io.CopyN(io.Discard, tcp, 2*MaxEnvelope) // whatever it still says
}

// Accept, Close and Addr make listener a net.Listener for http.Server.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.stopped:
		return nil, l.failed
	}
}

func (l *listener) Close() error   { return l.raw.Close() }
func (l *listener) Addr() net.Addr { return l.raw.Addr() }

// isCertAlert reports whether the other end told, by a TLS alert, that it does
// not accept our certificate. crypto/tls keeps the alert's type to itself.
func isCertAlert(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	switch op.Err.Error() {
	case "tls: bad certificate", "tls: unknown certificate authority", "tls: certificate required",
		"tls: unknown certificate", "tls: expired certificate", "tls: unsupported certificate":
		return true
	}
	return false
}
