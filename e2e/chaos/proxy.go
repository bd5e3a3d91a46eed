package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Proxy stands between an agent and containerd's socket and breaks the agent's
// connection at a chosen moment of a chosen call. It understands just enough of
// HTTP/2 for that, and passes every byte on as it came.
//
// Its methods may be called from any goroutine.
type Proxy struct {
	path, upstream string
	serving        sync.WaitGroup

	mu    sync.Mutex
	ln    net.Listener       // guarded by mu; nil while closed
	conns map[*pair]struct{} // guarded by mu
	armed *Cut               // guarded by mu
	fired map[When]int       // guarded by mu
	last  time.Time          // guarded by mu: of the last cut
}

// NewProxy prepares a proxy at path for the socket upstream; Open starts it.
func NewProxy(path, upstream string) *Proxy {
	return &Proxy{path: path, upstream: upstream, conns: map[*pair]struct{}{}, fired: map[When]int{}}
}

// Open listens, as a server that has just been started.
func (p *Proxy) Open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil {
		return nil
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ln, err := net.Listen("unix", p.path)
	if err != nil {
		return fmt.Errorf("open proxy: %w", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as the socket of a server that was killed
	p.ln = ln
	p.serving.Go(func() { p.serve(ln) })
	return nil
}

// Close stops listening and breaks all connections, as when the server is
// killed: the socket's file stays, and nobody listens at it.
func (p *Proxy) Close() {
	p.mu.Lock()
	if p.ln != nil {
		_ = p.ln.Close()
		p.ln = nil
	}
	for c := range p.conns {
		c.cut()
	}
	p.mu.Unlock()
	p.serving.Wait()
}

// Arm makes the next call that fits break the connection; an older order that
// met no call is forgotten.
func (p *Proxy) Arm(c Cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = &c
}

// Disarm forgets an order that met no call.
func (p *Proxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = nil
}

// Fired counts the calls that were cut, and tells when the last was.
func (p *Proxy) Fired() (byWhen map[When]int, total int, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	byWhen = map[When]int{}
	for w, n := range p.fired {
		byWhen[w] = n
		total += n
	}
	return byWhen, total, p.last
}

func (p *Proxy) serve(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if err != nil {
			return // closed
		}
		var d net.Dialer
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		server, err := d.DialContext(ctx, "unix", p.upstream)
		cancel()
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &pair{p: p, client: client, server: server}
		p.mu.Lock()
		open := p.ln == ln
		if open {
			p.conns[c] = struct{}{}
		}
		p.mu.Unlock()
		if !open {
			c.cut()
			continue
		}
		var both sync.WaitGroup
		both.Go(c.requests)
		both.Go(c.answers)
		p.serving.Go(func() {
			both.Wait()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		})
	}
}

// meets takes the armed cut when it is about this call.
func (p *Proxy) meets(method string) *Cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.armed
	if c == nil || !strings.HasSuffix(method, c.Method) || strings.HasSuffix(method, "Events/Subscribe") {
		return nil
	}
	p.armed = nil
	return c
}

func (p *Proxy) did(c *Cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fired[c.When]++
	p.last = time.Now()
}

// pair is one connection through the proxy.
type pair struct {
	p              *Proxy
	client, server net.Conn

	mu     sync.Mutex
	doomed uint32 // guarded by mu: stream whose answer breaks the connection; 0: none
	order  *Cut   // guarded by mu: what the doomed one was about
}

func (c *pair) cut() {
	_ = c.client.Close()
	_ = c.server.Close()
}

// requests passes on what the client sends, and knows each call by its path.
func (c *pair) requests() {
	defer c.cut()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.client, preface); err != nil {
		return
	}
	if _, err := c.server.Write(preface); err != nil {
		return
	}
	var path string
	decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":path" {
			path = f.Value
		}
	})
	var during *Cut // the call that is cut some time after its request ended
	var stream uint32
	for {
		head, frame, err := readFrame(c.client)
		if err != nil {
			return
		}
		if head.Type == http2.FrameHeaders || head.Type == http2.FrameContinuation {
			if _, err := decoder.Write(fragment(head, frame)); err != nil {
				return
			}
		}
		if head.Type == http2.FrameHeaders && head.Flags.Has(http2.FlagHeadersEndHeaders) {
			if order := c.p.meets(path); order != nil {
				switch order.When {
				case Before:
					c.p.did(order)
					return
				case During:
					during, stream = order, head.StreamID
				case After:
					c.mu.Lock()
					c.doomed, c.order = head.StreamID, order
					c.mu.Unlock()
				}
			}
		}
		if _, err := c.server.Write(frame); err != nil {
			return
		}
		ends := (head.Type == http2.FrameHeaders || head.Type == http2.FrameData) && head.Flags.Has(http2.FlagDataEndStream)
		if during != nil && ends && head.StreamID == stream {
			order := during
			during = nil
			defer time.AfterFunc(order.Delay, func() { c.p.did(order); c.cut() }).Stop()
		}
	}
}

// answers passes on what the server sends, except the end of a doomed call.
func (c *pair) answers() {
	defer c.cut()
	for {
		head, frame, err := readFrame(c.server)
		if err != nil {
			return
		}
		c.mu.Lock()
		doomed, order := c.doomed, c.order
		c.mu.Unlock()
		ends := (head.Type == http2.FrameHeaders || head.Type == http2.FrameData) && head.Flags.Has(http2.FlagDataEndStream)
		if doomed != 0 && head.StreamID == doomed && (ends || head.Type == http2.FrameData) {
			c.p.did(order)
			return
		}
		if _, err := c.client.Write(frame); err != nil {
			return
		}
	}
}

// readFrame reads one frame of RFC 9113 and returns it with its head decoded.
func readFrame(r io.Reader) (http2.FrameHeader, []byte, error) {
	const headLen = 9
	raw := make([]byte, headLen)
	if _, err := io.ReadFull(r, raw); err != nil {
		return http2.FrameHeader{}, nil, err
	}
	head, err := http2.ReadFrameHeader(bytes.NewReader(raw))
	if err != nil {
		return head, nil, err
	}
	frame := make([]byte, headLen+int(head.Length))
	copy(frame, raw)
	_, err = io.ReadFull(r, frame[headLen:])
	return head, frame, err
}

// fragment is the part of a HEADERS or CONTINUATION frame that hpack decodes.
func fragment(head http2.FrameHeader, frame []byte) []byte {
	b := frame[9:]
	if head.Type != http2.FrameHeaders {
		return b
	}
	pad := 0
	if head.Flags.Has(http2.FlagHeadersPadded) && len(b) > 0 {
		pad, b = int(b[0]), b[1:]
	}
	if head.Flags.Has(http2.FlagHeadersPriority) && len(b) >= 5 {
		b = b[5:] // the stream that it depends on, and a weight
	}
	return b[:max(0, len(b)-pad)]
}
