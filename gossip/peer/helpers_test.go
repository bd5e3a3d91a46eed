package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd/agentd/gossip"
)

const testRing = "00112233445566778899aabbccddeeff"

func ringKey(seed string) []byte {
	sum := sha256.Sum256([]byte(seed))
	return sum[:]
}

// source is a replicated set whose envelopes are their own payload.
type source struct {
	mu      sync.Mutex
	items   []gossip.Item
	bodies  map[gossip.Hash][]byte
	refuse  error         // what Offer answers
	offered [][]byte      // guarded by mu
	hold    chan struct{} // Offer waits for it, if not nil
}

func newSource() *source { return &source{bodies: make(map[gossip.Hash][]byte)} }

func (s *source) put(key string, generation uint64, body []byte) gossip.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := gossip.Item{Key: key, Generation: generation, Digest: sha256.Sum256(body), Signers: sha256.Sum256([]byte("signers"))}
	s.items = append(s.items, it)
	s.bodies[it.Digest] = body
	return it
}

func (s *source) Root() gossip.Hash { return gossip.Hash{} }

func (s *source) BucketHashes() (hashes [gossip.Buckets]gossip.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.items {
		b := sha256.Sum256([]byte(it.Key))[0]
		for i := range hashes[b] {
			hashes[b][i] ^= it.Digest[i]
		}
	}
	return hashes
}

func (s *source) Items(buckets []uint8) (list []gossip.Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.items {
		if bytes.IndexByte(buckets, sha256.Sum256([]byte(it.Key))[0]) >= 0 {
			list = append(list, it)
		}
	}
	return list
}

func (s *source) Wants(gossip.Item) bool { return true }

func (s *source) Body(_ string, digest gossip.Hash) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.bodies[digest]
	return b, ok
}

func (s *source) Offer(ctx context.Context, envelope []byte) (bool, error) {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return false, s.refuse
	}
	s.offered = append(s.offered, envelope)
	return true, nil
}

// logBuffer collects log lines for tests of what an operator is told.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// node is a whole node of a test ring on loopback.
type node struct {
	id       *Identity
	auth     *Authority
	bindings *Bindings
	source   *source
	book     *gossip.Book
	server   *Server
	client   *Client
	log      *logBuffer
	dir      string
	stop     func()
}

type nodeConfig struct {
	name   string
	dir    string // default: a new one
	bind   string // default: 127.0.0.1:0
	auth   *Authority
	limits Limits
	tune   func(*Server) // before it runs
}

func derivedAuthority(t testing.TB, ring string, keys ...[]byte) *Authority {
	t.Helper()
	a, err := DeriveAuthority(keys, ring)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func start(t testing.TB, name string) *node {
	t.Helper()
	return startNode(t, nodeConfig{name: name})
}

func startNode(t testing.TB, cfg nodeConfig) *node {
	t.Helper()
	n, err := tryNode(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryNode(t testing.TB, cfg nodeConfig) (*node, error) {
	t.Helper()
	if cfg.dir == "" {
		cfg.dir = t.TempDir()
	}
	if cfg.bind == "" {
		cfg.bind = "127.0.0.1:0"
	}
	if cfg.auth == nil {
		cfg.auth = derivedAuthority(t, testRing, ringKey("test"))
	}
	n := &node{auth: cfg.auth, source: newSource(), log: &logBuffer{}, dir: cfg.dir}
	log := slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if n.id, err = LoadOrCreateIdentity(filepath.Join(cfg.dir, "node.key"), cfg.name); err != nil {
		return nil, err
	}
	if n.bindings, err = OpenBindings(BindingsConfig{Path: filepath.Join(cfg.dir, "names"), Self: n.id, Log: log}); err != nil {
		return nil, err
	}
	n.book = gossip.NewBook(gossip.BookConfig{Name: cfg.name, Key: n.id.Key, Boot: 1})
	if n.server, err = NewServer(ServerConfig{
		Bind: cfg.bind, Version: "1.2.3", Identity: n.id, Authority: cfg.auth, Bindings: n.bindings,
		Source: n.source, Book: n.book, Limits: cfg.limits, Log: log,
	}); err != nil {
		return nil, err
	}
	if n.client, err = NewClient(ClientConfig{Identity: n.id, Authority: cfg.auth, Bindings: n.bindings}); err != nil {
		return nil, errors.Join(err, n.server.Close())
	}
	if cfg.tune != nil {
		cfg.tune(n.server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.server.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		n.client.Close()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: Run: %v", cfg.name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: Run did not end", cfg.name)
		}
	})
	t.Cleanup(n.stop)
	return n, nil
}

func (n *node) addr() string { return n.server.Addr().String() }

func (n *node) member() gossip.Member {
	return gossip.Member{Name: n.id.Name, ID: n.id.ID, PeerAddr: n.addr(), State: gossip.Alive}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wantError checks an error's type and that its words tell what matters.
func wantError(t *testing.T, err, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v; want %v", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func wantConflict(t *testing.T, err error) *NameConflict {
	t.Helper()
	var c *NameConflict
	if !errors.As(err, &c) {
		t.Fatalf("error is %v; want a name conflict", err)
	}
	return c
}

// eventually waits for what other goroutines are about to make true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// noLeaks fails if goroutines of this package or its connections outlive the
// test's nodes. Call it first: it looks last.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		var left string
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if left = leftOver(); left == "" {
				return
			}
		}
		t.Errorf("goroutines left over:\n%s", left)
	})
}

func leftOver() string {
	buf := make([]byte, 1<<20)
	buf = buf[:goruntime.Stack(buf, true)]
	var left []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && (strings.Contains(g, "agentd/gossip/peer.") || strings.Contains(g, "net/http.")) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v; want %v", what, got, want)
	}
}

func key(i int) string { return fmt.Sprintf("daemon/d-%d", i) }
