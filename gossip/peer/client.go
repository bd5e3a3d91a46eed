package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/agentd/agentd/gossip"
)

// ClientConfig makes a Client.
type ClientConfig struct {
	Identity  *Identity
	Authority *Authority
	Bindings  *Bindings
	Kept      int // peers whose connection is kept open, default 32
}

// Client asks other nodes. It implements gossip.Exchanger.
type Client struct {
	cfg   ClientConfig
	creds *credentials
	pool  *pool
}

var _ gossip.Exchanger = (*Client)(nil)

// NewClient returns a client that has no connection yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Identity == nil || cfg.Authority == nil || cfg.Bindings == nil {
		return nil, errors.New("peer client: no identity, authority or bindings")
	}
	if cfg.Kept <= 0 {
		cfg.Kept = 32
	}
	creds, err := newCredentials(cfg.Authority, cfg.Identity)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, creds: creds}
	c.pool = newPool(cfg.Kept, c.dial)
	return c, nil
}

// Close closes the connections that are not in use. Calls under way end with
// their contexts.
func (c *Client) Close() { c.pool.close() }

// HelloReply is who answered a Hello.
type HelloReply struct {
	Peer
	Version string // of its agentd
	Self    bool   // it is this node: the address is one of our own
}

// Hello finds out who serves at addr, HOST:PORT of a peer port, and whether it
// takes this node for who it is. Errors: a *NameConflict, which names in By
// the peer that refuses this node's name; ErrRingKey; ErrNotAgentd;
// ErrUnreachable; ErrCertificate; ErrBusy. Each starts with addr.
func (c *Client) Hello(ctx context.Context, addr string) (HelloReply, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	var reply HelloReply
	t := newTransport(func(ctx context.Context) (*dialed, error) {
		d, err := c.handshake(ctx, addr)
		if err == nil {
			reply.Peer = d.peer // the round trip below waits for this
		}
		return d, err
	})
	defer t.CloseIdleConnections()
	b, err := c.roundTrip(ctx, t, addr, request{method: http.MethodGet, path: pathHello, limit: 4 << 10})
	if err != nil {
		return HelloReply{}, err
	}
	var a helloAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return HelloReply{}, fmt.Errorf("%s %w: hello: %w", addr, ErrProtocol, err)
	}
	reply.Version = clean(a.Version, maxVersion)
	reply.Self = reply.ID == c.cfg.Identity.ID
	return reply, nil
}

// BucketHashes implements gossip.Exchanger.
func (c *Client) BucketHashes(ctx context.Context, m gossip.Member) ([gossip.Buckets]gossip.Hash, error) {
	b, err := c.call(ctx, m, request{method: http.MethodGet, path: pathSummary, limit: 33 * gossip.Buckets})
	if err != nil {
		return [gossip.Buckets]gossip.Hash{}, err
	}
	hashes, err := parseSummary(b)
	return hashes, c.named(m, err)
}

// Items implements gossip.Exchanger. A list that is too long for one answer is
// asked for in parts.
func (c *Client) Items(ctx context.Context, m gossip.Member, buckets []uint8) ([]gossip.Item, error) {
	if len(buckets) == 0 {
		return nil, nil
	}
	b, err := c.call(ctx, m, request{method: http.MethodPost, path: pathItems, body: buckets, limit: maxPage})
	if errors.Is(err, errTooLarge) && len(buckets) > 1 {
		half := len(buckets) / 2
		first, err := c.Items(ctx, m, buckets[:half])
		if err != nil {
			return nil, err
		}
		second, err := c.Items(ctx, m, buckets[half:])
		return append(first, second...), err
	}
	if err != nil {
		return nil, err
	}
	items, err := parseItems(b)
	return items, c.named(m, err)
}

// Body implements gossip.Exchanger; ErrNotFound when the peer does not hold it.
func (c *Client) Body(ctx context.Context, m gossip.Member, key string, digest gossip.Hash) ([]byte, error) {
	q := url.Values{"key": {key}, "digest": {digest.String()}}
	return c.call(ctx, m, request{method: http.MethodGet, path: pathBody, query: q.Encode(), limit: MaxEnvelope, timeout: bodyTimeout})
}

// Statements implements gossip.Exchanger.
func (c *Client) Statements(ctx context.Context, m gossip.Member, instance string, cursor uint64, push []gossip.Statement) (gossip.Page, error) {
	for i := range push {
		if !sound(&push[i]) {
			return gossip.Page{}, fmt.Errorf("statement of %q has impossible sizes", push[i].Node)
		}
	}
	body := appendExchange(nil, exchange{instance, cursor, push})
	b, err := c.call(ctx, m, request{method: http.MethodPost, path: pathStatements, body: body, limit: maxPage})
	if err != nil {
		return gossip.Page{}, err
	}
	page, err := parsePage(b)
	return page, c.named(m, err)
}

// Push asks a peer to verify a record and to have it on disk. It returns nil
// once the peer says so; ErrRefused, with the peer's reason, if it does not
// take the record.
func (c *Client) Push(ctx context.Context, m gossip.Member, envelope []byte) error {
	_, err := c.call(ctx, m, request{method: http.MethodPost, path: pathPush, body: envelope, timeout: bodyTimeout})
	return err
}

// request is one question to a peer. All are safe to repeat.
type request struct {
	method, path, query string
	body                []byte
	limit               int64         // of the answer, in bytes
	timeout             time.Duration // default callTimeout
}

func (c *Client) call(ctx context.Context, m gossip.Member, r request) ([]byte, error) {
	if r.timeout == 0 {
		r.timeout = callTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return c.roundTrip(ctx, c.pool.get(m), m.Name, r)
}

// roundTrip asks; by names the peer in errors.
func (c *Client) roundTrip(ctx context.Context, t http.RoundTripper, by string, r request) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, (&url.URL{Scheme: "https", Host: "agentd", Path: r.path, RawQuery: r.query}).String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header["User-Agent"] = nil
	// Present but without a value: tells the transport that it may try again on
	// a new connection if a kept one turns out to be closed; sends nothing.
	req.Header["Idempotency-Key"] = nil
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, c.explain(by, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return nil, c.problem(by, resp)
	}
	b, err := readAll(resp.Body, resp.ContentLength, r.limit)
	if errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("%s %w: an answer of more than %d bytes", by, ErrProtocol, r.limit)
	}
	if err != nil {
		return nil, c.explain(by, err)
	}
	return b, nil
}

// problem reads an answer that is no success.
func (c *Client) problem(by string, resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	var p problem
	if err != nil || json.Unmarshal(b, &p) != nil || p.Code == "" {
		return fmt.Errorf("%s %w: HTTP status %d; perhaps its agentd is of another version", by, ErrProtocol, resp.StatusCode)
	}
	err = p.err(by)
	var conflict *NameConflict
	if errors.As(err, &conflict) {
		if conflict.Name != c.cfg.Identity.Name {
			return fmt.Errorf("%s %w: it refuses this node for the name of another", by, ErrProtocol)
		}
		c.cfg.Bindings.report(*conflict)
	}
	return err
}

func (c *Client) named(m gossip.Member, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %w", m.Name, err)
}
