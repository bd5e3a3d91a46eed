package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/gossip"
)

func TestHello(t *testing.T) {
	noLeaks(t)
	for _, bind := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(bind, func(t *testing.T) {
			a := startNode(t, nodeConfig{name: "a", bind: bind})
			b := start(t, "b")
			got, err := b.client.Hello(testContext(t), a.addr())
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, "name", got.Name, "a")
			mustEqual(t, "id", got.ID, a.id.ID)
			mustEqual(t, "version", got.Version, "1.2.3")
			mustEqual(t, "self", got.Self, false)
			if id, ok := a.bindings.Lookup("b"); !ok || id != b.id.ID {
				t.Error("the caller's name was not bound to its key")
			}
			if id, ok := b.bindings.Lookup("a"); !ok || id != a.id.ID {
				t.Error("the called node's name was not bound to its key")
			}
		})
	}
}

// A machine that takes the connection and then hangs costs no more than the
// caller allows.
func TestHelloToSilence(t *testing.T) {
	noLeaks(t)
	a := start(t, "a")
	addr := serveRaw(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := a.client.Hello(ctx, addr)
	wantError(t, err, ErrUnreachable, addr, "no answer in time")
}

// A node's own address may be among the seeds.
func TestHelloToSelf(t *testing.T) {
	a := start(t, "a")
	got, err := a.client.Hello(testContext(t), a.addr())
	if err != nil || !got.Self {
		t.Fatalf("hello to oneself: %+v, %v", got, err)
	}
}

// Each way in which a seed may be the wrong address has words of its own.
func TestHelloTellsWhatIsThere(t *testing.T) {
	noLeaks(t)
	a := start(t, "a")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	cases := map[string]struct {
		addr  string
		want  error
		words string
	}{
		"nothing listens":  {closed.Addr().String(), ErrUnreachable, "connection refused; is agentd running there?"},
		"no such host":     {"nowhere.invalid:7947", ErrUnreachable, "nowhere.invalid"},
		"plain HTTP":       {serveRaw(t, reply("HTTP/1.1 400 Bad Request\r\n\r\n")), ErrNotAgentd, "is not the [peer] port"},
		"SSH":              {serveRaw(t, reply("SSH-2.0-OpenSSH_9.2p1\r\n")), ErrNotAgentd, "is not the [peer] port"},
		"closes at once":   {serveRaw(t, func(c net.Conn) {}), ErrUnreachable, "closed the connection"},
		"HTTPS of another": {serveTLS(t, "h2", "http/1.1"), ErrNotAgentd, "is not the [peer] port"},
		"TLS without ALPN": {serveTLS(t), ErrNotAgentd, "is not the [peer] port"},
		"not an address":   {"web-1", ErrUnreachable, "missing port"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := a.client.Hello(testContext(t), c.addr)
			wantError(t, err, c.want, c.addr, c.words)
		})
	}
}

func TestSwapRecords(t *testing.T) {
	noLeaks(t)
	a, b := start(t, "a"), start(t, "b")
	ctx := testContext(t)

	hashes, err := b.client.BucketHashes(ctx, a.member())
	if err != nil || hashes != [gossip.Buckets]gossip.Hash{} {
		t.Fatalf("hashes of an empty set: %v, %v", hashes, err)
	}
	large := bytes.Repeat([]byte("x"), MaxEnvelope)
	one := a.source.put("daemon/one", 7, []byte("body of one"))
	two := a.source.put("blob/two", 1<<63, large)
	if hashes, err = b.client.BucketHashes(ctx, a.member()); err != nil || hashes != a.source.BucketHashes() {
		t.Fatalf("hashes differ: %v", err)
	}
	all := make([]uint8, gossip.Buckets)
	for i := range all {
		all[i] = uint8(i)
	}
	items, err := b.client.Items(ctx, a.member(), all)
	if err != nil || len(items) != 2 || items[0] != one || items[1] != two {
		t.Fatalf("items: %+v, %v", items, err)
	}
	if items, err := b.client.Items(ctx, a.member(), nil); err != nil || len(items) != 0 {
		t.Fatalf("items of no bucket: %v, %v", items, err)
	}
	body, err := b.client.Body(ctx, a.member(), one.Key, one.Digest)
	if err != nil || string(body) != "body of one" {
		t.Fatalf("body: %q, %v", body, err)
	}
	if body, err = b.client.Body(ctx, a.member(), two.Key, two.Digest); err != nil || !bytes.Equal(body, large) {
		t.Fatalf("largest body: %d bytes, %v", len(body), err)
	}
	_, err = b.client.Body(ctx, a.member(), one.Key, gossip.Hash{1})
	wantError(t, err, ErrNotFound, "a does not have it")
	wantError(t, err, gossip.ErrNotHere, "a does not have it")
}

// A list of items that does not fit one answer comes in parts.
func TestItemsInParts(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	const n = 40_000 // 3.4 MB
	for i := range n {
		a.source.put(key(i), uint64(i), []byte(key(i)))
	}
	all := make([]uint8, gossip.Buckets)
	for i := range all {
		all[i] = uint8(i)
	}
	items, err := b.client.Items(testContext(t), a.member(), all)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, it := range items {
		seen[it.Key] = true
	}
	mustEqual(t, "number of items", len(seen), n)
}

func TestStatements(t *testing.T) {
	noLeaks(t)
	a, b := start(t, "a"), start(t, "b")
	ctx := testContext(t)
	for n, text := range map[*node]string{a: "a is well", b: "b is well"} {
		if err := n.book.Set([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	own, _ := b.book.Own()
	page, err := b.client.Statements(ctx, a.member(), "", 0, []gossip.Statement{own})
	if err != nil {
		t.Fatal(err)
	}
	if n := b.book.Accept(page.Statements); n != 1 || page.More {
		t.Fatalf("%d new statements in %+v", n, page)
	}
	if st, ok := a.book.Get(b.id.ID); !ok || string(st.Body) != "b is well" {
		t.Error("the pushed statement did not arrive")
	}
	if st, ok := b.book.Get(a.id.ID); !ok || string(st.Body) != "a is well" {
		t.Error("the pulled statement did not arrive")
	}
	page, err = b.client.Statements(ctx, a.member(), page.Instance, page.Cursor, nil)
	if err != nil || len(page.Statements) != 0 {
		t.Fatalf("nothing is new, but: %+v, %v", page, err)
	}
}

func TestPush(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	ctx := testContext(t)
	if err := b.client.Push(ctx, a.member(), []byte("signed")); err != nil {
		t.Fatal(err)
	}
	if len(a.source.offered) != 1 || string(a.source.offered[0]) != "signed" {
		t.Fatalf("offered: %q", a.source.offered)
	}
	a.source.refuse = errors.New("no trusted\nsignature")
	wantError(t, b.client.Push(ctx, a.member(), []byte("x")), ErrRefused, "a refused it: no trusted?signature")
	wantError(t, b.client.Push(ctx, a.member(), make([]byte, MaxEnvelope+1)), ErrProtocol, "too much")
}

// A call goes to the node that was meant or to none.
func TestWrongPeer(t *testing.T) {
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	m := b.member()
	m.PeerAddr = c.addr()
	_, err := a.client.BucketHashes(testContext(t), m)
	wantError(t, err, ErrWrongPeer, "c with id", "not b with id")
	m = b.member()
	m.ID = c.id.ID
	_, err = a.client.BucketHashes(testContext(t), m)
	wantError(t, err, ErrWrongPeer)
}

// Kept connections survive neither end's restart, and nobody notices.
func TestRestart(t *testing.T) {
	noLeaks(t)
	a, b := start(t, "a"), start(t, "b")
	ctx := testContext(t)
	if _, err := b.client.BucketHashes(ctx, a.member()); err != nil {
		t.Fatal(err)
	}
	addr := a.addr()
	a.stop()
	_, err := b.client.BucketHashes(ctx, a.member())
	wantError(t, err, ErrUnreachable, "refused")

	again := startNode(t, nodeConfig{name: "a", dir: a.dir, bind: addr})
	mustEqual(t, "id after a restart", again.id.ID, a.id.ID)
	if id, ok := again.bindings.Lookup("b"); !ok || id != b.id.ID {
		t.Error("the restarted node forgot whom a name belongs to")
	}
	if err := b.client.Push(ctx, again.member(), []byte("x")); err != nil {
		t.Fatal(err)
	}
}

// A server that restarts between two requests costs no error, although the
// client still holds a connection to the old one.
func TestStaleConnection(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	ctx := testContext(t)
	for i := range 5 {
		if err := b.client.Push(ctx, a.member(), []byte("x")); err != nil {
			t.Fatalf("push %d: %v", i, err)
		}
		addr := a.addr()
		a.stop()
		a = startNode(t, nodeConfig{name: "a", dir: a.dir, bind: addr})
	}
}

func TestConnectionIsKept(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	for range 10 {
		if _, err := b.client.Statements(testContext(t), a.member(), "", 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	a.server.listener.gate.mu.Lock()
	defer a.server.listener.gate.mu.Unlock()
	mustEqual(t, "connections after ten calls", a.server.listener.gate.all, 1)
}

// Only the peers asked last keep a connection.
func TestKeptConnectionsAreBounded(t *testing.T) {
	noLeaks(t)
	id, err := LoadOrCreateIdentity(filepath.Join(t.TempDir(), "k"), "me")
	if err != nil {
		t.Fatal(err)
	}
	bindings, err := OpenBindings(BindingsConfig{Self: id})
	if err != nil {
		t.Fatal(err)
	}
	client, err := NewClient(ClientConfig{Identity: id, Authority: derivedAuthority(t, testRing, ringKey("test")), Bindings: bindings, Kept: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var nodes []*node
	for i := range 4 {
		n := start(t, fmt.Sprintf("n%d", i))
		nodes = append(nodes, n)
		if _, err := client.BucketHashes(testContext(t), n.member()); err != nil {
			t.Fatal(err)
		}
	}
	open := func() (n int) {
		for _, x := range nodes {
			x.server.listener.gate.mu.Lock()
			n += x.server.listener.gate.all
			x.server.listener.gate.mu.Unlock()
		}
		return n
	}
	eventually(t, "2 of 4 connections are kept", func() bool { return open() == 2 })
}

func TestCallsEndWithTheirContext(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	a.source.hold = make(chan struct{})
	defer close(a.source.hold)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	wantError(t, b.client.Push(ctx, a.member(), []byte("x")), ErrUnreachable, "no answer in time")
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	wantError(t, b.client.Push(ctx, a.member(), []byte("x")), context.Canceled)
}

func TestBindErrors(t *testing.T) {
	a := start(t, "a")
	_, err := tryNode(t, nodeConfig{name: "b", bind: a.addr()})
	wantError(t, err, syscall.EADDRINUSE, a.addr(), "address already in use", "[peer] bind")
	_, err = tryNode(t, nodeConfig{name: "b", bind: "192.0.2.1:7947"})
	wantError(t, err, syscall.EADDRNOTAVAIL, "no such address")
	if _, err = tryNode(t, nodeConfig{name: "b", bind: "127.0.0.1:x"}); err == nil || strings.Count(err.Error(), "127.0.0.1") > 1 {
		t.Errorf("malformed address: %v", err)
	}
}
