package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxAnswer bounds what the client reads; the status of 1,000 nodes with 50
// daemons each takes about 20 MB.
const maxAnswer = 128 << 20

// Client talks to agentd over its socket. Its methods return a *Problem when
// agentd refused, an *UnreachableError when it could not be asked. They may be
// called concurrently; each has a deadline besides ctx's.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the agentd that listens on socket; "" is
// DefaultSocket. It connects when it is first used.
func NewClient(socket string) *Client {
	if socket == "" {
		socket = DefaultSocket
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var conn net.Conn
		err := withShortPath(socket, func(short string) error {
			var err error
			conn, err = new(net.Dialer).DialContext(ctx, "unix", short)
			return err
		})
		return conn, err
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableCompression: true, MaxIdleConns: 2, IdleConnTimeout: idleTime / 2,
	}}}
}

// Socket returns the path that the client connects to.
func (c *Client) Socket() string { return c.socket }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status returns the ring and its daemons.
func (c *Client) Status(ctx context.Context, q StatusQuery) (Status, error) {
	v := url.Values{}
	for _, name := range q.Names {
		v.Add("name", name)
	}
	if q.Node != "" {
		v.Set("node", q.Node)
	}
	if q.All {
		v.Set("all", "1")
	}
	return get[Status](ctx, c, "/v1/status", v)
}

// Nodes returns the members of the ring.
func (c *Client) Nodes(ctx context.Context) (Nodes, error) {
	return get[Nodes](ctx, c, "/v1/nodes", nil)
}

// Why explains a daemon, on one node when node is not "".
func (c *Client) Why(ctx context.Context, name, node string) (Why, error) {
	v := url.Values{}
	if node != "" {
		v.Set("node", node)
	}
	return get[Why](ctx, c, "/v1/why/"+url.PathEscape(name), v)
}

// Rollout tells where the ring stands on its way to a daemon's newest record.
func (c *Client) Rollout(ctx context.Context, name string) (Rollout, error) {
	return get[Rollout](ctx, c, "/v1/rollouts/"+url.PathEscape(name), nil)
}

// History lists what the ring ran of a daemon, newest first.
func (c *Client) History(ctx context.Context, name string) (History, error) {
	return get[History](ctx, c, "/v1/history/"+url.PathEscape(name), nil)
}

// Records returns the records of one kind, or all when kind is "".
func (c *Client) Records(ctx context.Context, kind string) (Records, error) {
	path := "/v1/records"
	if kind != "" {
		path += "/" + url.PathEscape(kind)
	}
	return get[Records](ctx, c, path, nil)
}

// Record returns one record; a *Problem with status 404 when there is none.
func (c *Client) Record(ctx context.Context, kind, name string) (Record, error) {
	return get[Record](ctx, c, recordPath(kind, name), nil)
}

// PutRecord brings a signed envelope.
func (c *Client) PutRecord(ctx context.Context, kind, name string, envelope []byte) (Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPut, recordPath(kind, name), nil, envelope, putTime)
}

// Roster returns what a signer needs to know of the ring.
func (c *Client) Roster(ctx context.Context) (Roster, error) {
	return get[Roster](ctx, c, "/v1/roster", nil)
}

// Info says who answers.
func (c *Client) Info(ctx context.Context) (Info, error) {
	return get[Info](ctx, c, "/v1/info", nil)
}

// Leave takes the node out of its ring; it returns when its daemons stopped.
func (c *Client) Leave(ctx context.Context) (LeaveReport, error) {
	return call[LeaveReport](ctx, c, http.MethodPost, "/v1/leave", nil, nil, leaveTime)
}

// Rejoin takes a node that left back into its ring.
func (c *Client) Rejoin(ctx context.Context, addrs []string) (Info, error) {
	body, err := json.Marshal(RejoinRequest{Addresses: addrs})
	if err != nil {
		return Info{}, err
	}
	return call[Info](ctx, c, http.MethodPost, "/v1/rejoin", nil, body, putTime)
}

func recordPath(kind, name string) string {
	return "/v1/records/" + url.PathEscape(kind) + "/" + url.PathEscape(name)
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return call[T](ctx, c, http.MethodGet, path, query, nil, readTime)
}

func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, body []byte, timeout time.Duration) (T, error) {
	var out T
	// The server's own deadline comes first, and tells more.
	ctx, cancel := context.WithTimeout(ctx, timeout+headerTime)
	defer cancel()
	req, err := newRequest(ctx, method, path, query, body)
	if err != nil {
		return out, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return out, c.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return out, c.unreachable(err)
	}
	if len(answer) > maxAnswer {
		return out, fmt.Errorf("agentd's answer to %s %s is larger than %d bytes", method, path, maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return out, decodeProblem(resp.StatusCode, resp.Header.Get("Content-Type"), answer)
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("read agentd's answer to %s %s: %w", method, path, err)
	}
	return out, nil
}

func newRequest(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "agentd", Path: path, RawQuery: query.Encode()}
	if raw, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = raw, path
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request %s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// unreachable tells a connection that could not be made, or broke, from the
// end of the caller's context.
func (c *Client) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return newUnreachable(c.socket, err)
}
