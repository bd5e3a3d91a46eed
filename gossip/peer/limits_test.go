package peer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// dialFrom connects from another loopback address: another machine, to the server.
func dialFrom(t testing.TB, from, to string) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", to)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// Callers that connect and say nothing take up places of their own address
// only, and only for a while.
func TestSilentCallers(t *testing.T) {
	noLeaks(t)
	a := startNode(t, nodeConfig{name: "a", limits: Limits{Conns: 20, ConnsPerIP: 8}, tune: func(s *Server) { s.listener.patience = time.Second }})
	b := start(t, "b")
	begin := time.Now()
	for range 40 {
		if _, err := dialFrom(t, "127.0.0.9", a.addr()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.client.Hello(testContext(t), a.addr()); err != nil {
		t.Fatalf("another machine is not let in: %v", err)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	c, err := dialFrom(t, "127.0.0.9", a.addr())
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("one connection too many of an address: %v; want it closed at once", err)
	}
	eventually(t, "the silent ones are given up", func() bool {
		a.server.listener.gate.mu.Lock()
		defer a.server.listener.gate.mu.Unlock()
		return a.server.listener.gate.all <= 2
	})
}

// A member that drips its request, its body, or nothing at all is given up.
func TestSlowMembers(t *testing.T) {
	noLeaks(t)
	const short = 200 * time.Millisecond
	a := startNode(t, nodeConfig{name: "a", tune: func(s *Server) {
		s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.WriteTimeout, s.http.IdleTimeout = short, 2*short, 2*short, 2*short
	}})
	b := start(t, "b")
	large := a.source.put("blob/x", 1, make([]byte, MaxEnvelope))
	for name, text := range map[string]string{
		"says nothing":            "",
		"never ends its headers":  "GET /v1/hello HTTP/1.1\r\nHost: a\r\n",
		"never ends its body":     "POST /v1/push HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc",
		"never reads":             strings.Repeat("GET /v1/body?key=blob/x&digest="+large.Digest.String()+" HTTP/1.1\r\nHost: a\r\n\r\n", 8),
		"keeps a connection idle": "GET /v1/hello HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := rogueConn(t, b, a.addr())
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is given up", func() bool {
				a.server.listener.gate.mu.Lock()
				defer a.server.listener.gate.mu.Unlock()
				return a.server.listener.gate.all == 0
			})
		})
	}
	if len(a.source.offered) > 0 {
		t.Error("half a record was offered")
	}
}

// Requests that make no sense are answered, and the next caller is served.
func TestNonsenseRequests(t *testing.T) {
	noLeaks(t)
	a, b := start(t, "a"), start(t, "b")
	post := func(path, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	}
	chunked := "POST /v1/push HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	cases := map[string]struct {
		say    string
		status int
		body   string
	}{
		"no HTTP":              {"\x00\x01\x02\r\n\r\n", 400, ""},
		"HTTP/2":               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ""},
		"unknown path":         {"GET /v2/hello HTTP/1.1\r\nHost: a\r\n\r\n", 404, ""},
		"wrong method":         {"DELETE /v1/body HTTP/1.1\r\nHost: a\r\n\r\n", 405, ""},
		"path that climbs":     {"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 307, ""},
		"endless headers":      {"GET /v1/hello HTTP/1.1\r\nX: " + strings.Repeat("x", 100<<10), 431, ""},
		"body without key":     {"GET /v1/body?digest=00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"},
		"body, short digest":   {"GET /v1/body?key=a/b&digest=00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"},
		"too many buckets":     {post("/v1/items", strings.Repeat("x", 257)), 413, "too-large"},
		"statements, garbage":  {post("/v1/statements", "\xff\xff\xff\xff"), 400, "malformed"},
		"statements, empty":    {post("/v1/statements", ""), 400, "malformed"},
		"a body of a terabyte": {"POST /v1/push HTTP/1.1\r\nHost: a\r\nContent-Length: 1099511627776\r\n\r\n", 413, "too-large"},
		"negative length":      {"POST /v1/push HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, ""},
		"broken chunk":         {chunked + "zz\r\n", 400, "malformed"},
		"endless chunks":       {chunked + strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", MaxEnvelope>>16+1), 413, "too-large"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			conn := rogueConn(t, b, a.addr())
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			go io.WriteString(conn, c.say)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			mustEqual(t, "status", resp.StatusCode, c.status)
			if !bytes.Contains(body, []byte(c.body)) {
				t.Errorf("answer %q does not say %q", body, c.body)
			}
		})
	}
	if len(a.source.offered) > 0 {
		t.Errorf("%d records were offered", len(a.source.offered))
	}
	if _, err := b.client.Hello(testContext(t), a.addr()); err != nil {
		t.Error(err)
	}
}

// What one node keeps busy is not taken from the others, and who comes too
// late is told at once.
func TestBusy(t *testing.T) {
	noLeaks(t)
	a := startNode(t, nodeConfig{name: "a", limits: Limits{RequestsPerID: 2, Pushes: 3}})
	b, c := start(t, "b"), start(t, "c")
	a.source.hold = make(chan struct{})
	ctx := testContext(t)
	var held sync.WaitGroup
	hold := func(n *node) {
		held.Go(func() {
			if err := n.client.Push(ctx, a.member(), []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	inside := func(n int) func() bool {
		return func() bool { return len(a.server.pushes) == n }
	}
	hold(b)
	hold(b)
	eventually(t, "two pushes are under way", inside(2))
	begin := time.Now()
	_, err := b.client.BucketHashes(ctx, a.member())
	wantError(t, err, ErrBusy, "a is busy")
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("busy was said only after %v", d)
	}
	if _, err := c.client.BucketHashes(ctx, a.member()); err != nil {
		t.Errorf("another node: %v", err)
	}
	hold(c)
	eventually(t, "three pushes are under way", inside(3))
	wantError(t, c.client.Push(ctx, a.member(), []byte("x")), ErrBusy)
	if _, err := c.client.BucketHashes(ctx, a.member()); err != nil {
		t.Errorf("another question while pushes are busy: %v", err)
	}
	close(a.source.hold)
	held.Wait()
	if _, err := b.client.BucketHashes(ctx, a.member()); err != nil {
		t.Errorf("after all is done: %v", err)
	}
	a.server.requests.mu.Lock()
	defer a.server.requests.mu.Unlock()
	mustEqual(t, "nodes remembered when nobody asks", len(a.server.requests.id.n)+len(a.server.requests.ip.n), 0)
}

// When most places are taken, connections are not kept between requests.
func TestCrowdedServerKeepsNoConnections(t *testing.T) {
	a := startNode(t, nodeConfig{name: "a", limits: Limits{Conns: 4}})
	for range 3 {
		if _, err := dialFrom(t, "127.0.0.9", a.addr()); err != nil {
			t.Fatal(err)
		}
	}
	b := start(t, "b")
	for range 5 {
		if _, err := b.client.BucketHashes(testContext(t), a.member()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the connection is closed", func() bool {
			a.server.listener.gate.mu.Lock()
			defer a.server.listener.gate.mu.Unlock()
			return a.server.listener.gate.all <= 3
		})
	}
}

// A server that stops does not wait for what hangs.
func TestStopWhileBusy(t *testing.T) {
	noLeaks(t)
	a, b := start(t, "a"), start(t, "b")
	a.source.hold = make(chan struct{})
	ctx := testContext(t)
	done := make(chan error, 1)
	go func() { done <- b.client.Push(ctx, a.member(), []byte("x")) }()
	eventually(t, "a push is under way", func() bool { return len(a.server.pushes) == 1 })
	if _, err := dialFrom(t, "127.0.0.9", a.addr()); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { a.stop(); close(stopped) }()
	wantError(t, <-done, ErrUnreachable)
	close(a.source.hold) // a Source ends with its context; this one just now
	<-stopped
}

func TestGate(t *testing.T) {
	g := newGate(3, 2, 1)
	ip := func(i int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32) }
	steps := []struct {
		ip, id int
		want   bool
		why    string
	}{
		{1, 1, true, "empty"},
		{1, 1, false, "one per id"},
		{1, 2, true, "another id"},
		{1, 3, false, "two per address"},
		{2, 3, true, "another address"},
		{3, 4, false, "three in all"},
	}
	for _, s := range steps {
		mustEqual(t, s.why, g.enter(ip(s.ip), nodeID(s.id)), s.want)
	}
	g.leave(ip(1), nodeID(1))
	mustEqual(t, "after one left", g.enter(ip(3), nodeID(4)), true)
}

func TestPrefixOf(t *testing.T) {
	for addr, want := range map[string]string{
		"10.1.2.3:99":                   "10.1.2.3/32",
		"[::ffff:10.1.2.3]:99":          "10.1.2.3/32",
		"[2001:db8:1:2:3:4:5:6]:99":     "2001:db8:1:2::/64",
		"[fe80::1%eth0]:99":             "fe80::/64",
		"[2001:db8:1:2:ffff:4:5:6]:100": "2001:db8:1:2::/64",
	} {
		mustEqual(t, addr, prefixOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))).String(), want)
	}
}

func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &seldom{pause: time.Minute}
		mustEqual(t, "first", s.ok("a"), true)
		mustEqual(t, "again", s.ok("a"), false)
		mustEqual(t, "another", s.ok("b"), true)
		for i := range maxSeldom {
			s.ok(fmt.Sprint(i))
		}
		mustEqual(t, "remembered", len(s.last), maxSeldom)
		mustEqual(t, "when full", s.ok("c"), false)
		time.Sleep(time.Minute)
		mustEqual(t, "later", s.ok("c"), true)
		mustEqual(t, "remembered", len(s.last), 1)
	})
}

// Whatever a rogue member answers, a call ends with an error of its own kind,
// soon, and without taking in more than it asked for.
func TestRogueServers(t *testing.T) {
	noLeaks(t)
	a := start(t, "a")
	endless := func(head string) func(net.Conn) {
		return func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, head)
			block := bytes.Repeat([]byte("x"), 64<<10)
			for sent := 0; sent < 64<<20; sent += len(block) {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
			t.Error("the client took 64 MiB")
		}
	}
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) { readRequest(c); io.WriteString(c, text) }
	}
	silent := func(text string) func(net.Conn) {
		return func(c net.Conn) { readRequest(c); io.WriteString(c, text); io.Copy(io.Discard, c) }
	}
	cases := map[string]struct {
		serve func(net.Conn)
		want  error
		words string
	}{
		"garbage":           {say("\x00\x01garbage\r\n\r\n"), ErrProtocol, "malformed"},
		"nothing":           {say(""), ErrUnreachable, ""},
		"silence":           {silent(""), ErrUnreachable, "no answer in time"},
		"silence in body":   {silent("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), ErrUnreachable, "no answer in time"},
		"endless body":      {endless("HTTP/1.1 200 OK\r\n\r\n"), ErrProtocol, "an answer of more than"},
		"endless header":    {endless("HTTP/1.1 200 OK\r\nX: "), ErrProtocol, "exceeded"},
		"endless interim":   {say(strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n\r\n", 10_000)), ErrProtocol, "exceeded"},
		"announced too big": {say("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), ErrProtocol, "an answer of more than"},
		"cut short":         {say("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc"), ErrProtocol, "EOF"},
		"nonsense inside":   {say(httpAnswer("200 OK", strings.Repeat("\xff", 99))), ErrProtocol, "makes no sense"},
		"redirect":          {say("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"), ErrProtocol, "status 302"},
		"endless problem":   {endless("HTTP/1.1 500 No\r\n\r\n"), ErrProtocol, "status 500"},
		"problem, terminal": {say(httpAnswer("422 No", `{"code":"refused","detail":"\u001b[2J\nlevel=ERROR"}`)), ErrRefused, "?[2J?level=ERROR"},
		"problem, long":     {say(httpAnswer("422 No", `{"code":"refused","detail":"`+strings.Repeat("ä", 1000)+`"}`)), ErrRefused, "ä…"},
		"unknown problem":   {say(httpAnswer("418 No", `{"code":"teapot"}`)), ErrProtocol, ""},
		"conflict, no ids":  {say(httpAnswer("409 No", `{"code":"conflict","name":"a"}`)), ErrProtocol, "without ids"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := rogueServer(t, "rogue-"+hexKey([]byte(name)), c.serve)
			calls := map[string]func(context.Context) error{
				"summary":    func(ctx context.Context) error { _, err := a.client.BucketHashes(ctx, m); return err },
				"items":      func(ctx context.Context) error { _, err := a.client.Items(ctx, m, []uint8{1}); return err },
				"statements": func(ctx context.Context) error { _, err := a.client.Statements(ctx, m, "", 0, nil); return err },
				"hello":      func(ctx context.Context) error { _, err := a.client.Hello(ctx, m.PeerAddr); return err },
			}
			for call, f := range calls {
				ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
				err := f(ctx)
				cancel()
				wantError(t, err, c.want, c.words)
				if t.Failed() {
					t.Fatalf("call: %s", call)
				}
			}
		})
	}
}
