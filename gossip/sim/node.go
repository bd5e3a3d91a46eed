package sim

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/agentd/agentd/gossip"
)

// callTimeout is the deadline of a request, as the real client has one.
const callTimeout = 5 * time.Second

// NodeConfig makes a Node.
type NodeConfig struct {
	Name   string
	Key    string // another key under the same name; default: the name
	Source gossip.Source
	Seeds  []string // names of nodes
	Peers  []string // addresses remembered from an earlier run
	Boot   uint64   // of the book; default: the virtual time
	Left   bool
	Mute   bool     // send no hints of news
	Silent bool     // exchange no statements by turns: for rings where only records matter
	Keys   [][]byte // default: Key
	Label  string   // default: Label
	Allow  func(node string, key ed25519.PublicKey) bool
	Admit  func(gossip.Member) error
	Log    *slog.Logger
}

// Node is a running member of a simulated ring.
type Node struct {
	Name   string
	Ring   *gossip.Ring
	Book   *gossip.Book
	Source gossip.Source
	net    *Net
	cancel context.CancelFunc
	done   chan error

	mu    sync.Mutex
	peers []string // guarded by mu
}

// Label and Key are the ring id and key of simulated rings.
const Label = "00112233445566778899aabbccddeeff"

// Key returns the ring key of simulated rings.
func Key() []byte { return []byte("0123456789abcdef0123456789abcdef") }

// NodeKey returns the node key that belongs to a name, always the same.
func NodeKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("sim node " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Start runs a node until Stop.
func (n *Net) Start(cfg NodeConfig) (*Node, error) {
	if cfg.Key == "" {
		cfg.Key = cfg.Name
	}
	if cfg.Boot == 0 {
		cfg.Boot = uint64(time.Now().UnixNano())
	}
	if cfg.Keys == nil {
		cfg.Keys = [][]byte{Key()}
	}
	if cfg.Label == "" {
		cfg.Label = Label
	}
	h := n.host(cfg.Name)
	key := NodeKey(cfg.Key)
	d := &Node{Name: cfg.Name, Source: cfg.Source, net: n, done: make(chan error, 1), peers: cfg.Peers}
	d.Book = gossip.NewBook(gossip.BookConfig{Name: cfg.Name, Key: key, Boot: cfg.Boot, Allow: cfg.Allow, Log: cfg.Log})
	var seeds []string
	for _, s := range cfg.Seeds {
		seeds = append(seeds, n.Addr(s))
	}
	tuning := gossip.Tuning{
		Transport: func() (memberlist.Transport, error) { return n.listen(h) },
		Mute:      cfg.Mute,
		Seed:      n.draw(),
	}
	if cfg.Silent {
		tuning.Exchange = time.Hour
	}
	ring, err := gossip.New(gossip.Config{
		Name: cfg.Name, ID: d.Book.ID(), Label: cfg.Label, Keys: cfg.Keys,
		Bind: h.addr.String(), PeerAddr: ":7947", Version: "sim",
		Seeds: seeds, Peers: cfg.Peers, SavePeers: d.savePeers, Left: cfg.Left,
		Source: cfg.Source, Exchanger: &exchanger{n: n, from: cfg.Name}, Book: d.Book,
		Admit: cfg.Admit, Log: cfg.Log, Tuning: tuning,
	})
	if err != nil {
		return nil, err
	}
	d.Ring = ring
	n.mu.Lock()
	h.node = d
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go func() { d.done <- ring.Run(ctx) }()
	return d, nil
}

// Stop ends the node as a crash would: without a word. It returns what Run did.
func (d *Node) Stop() error {
	d.net.mu.Lock()
	if h := d.net.names[d.Name]; h.node == d {
		h.node = nil
	}
	d.net.mu.Unlock()
	d.cancel()
	return <-d.done
}

// Peers returns the addresses that the node would remember on disk.
func (d *Node) Peers() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers
}

func (d *Node) savePeers(p []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peers = p
}

func (n *Net) draw() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rng.Uint64() | 1
}

// exchanger asks nodes of the same network directly.
type exchanger struct {
	n    *Net
	from string
}

var _ gossip.Exchanger = (*exchanger)(nil)

// call waits for the network and returns the node that answers.
func (e *exchanger) call(ctx context.Context, m gossip.Member, op string) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	e.n.mu.Lock()
	e.n.calls[Call{e.from, m.Name, op}]++
	e.n.mu.Unlock()
	d, ok := e.n.roundTrip(e.from, m.Name)
	if !ok {
		<-ctx.Done()
		return nil, fmt.Errorf("ask %s for %s: %w", m.Name, op, ctx.Err())
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s for %s: %w", m.Name, op, ctx.Err())
	case <-t.C:
	}
	e.n.mu.Lock()
	defer e.n.mu.Unlock()
	h := e.n.names[m.Name]
	if h == nil || h.node == nil {
		return nil, fmt.Errorf("ask %s for %s: connection refused", m.Name, op)
	}
	if h.node.Book.ID() != m.ID {
		return nil, fmt.Errorf("ask %s for %s: it is another node", m.Name, op)
	}
	return h.node, nil
}

func (e *exchanger) BucketHashes(ctx context.Context, m gossip.Member) ([gossip.Buckets]gossip.Hash, error) {
	d, err := e.call(ctx, m, "buckets")
	if err != nil {
		return [gossip.Buckets]gossip.Hash{}, err
	}
	return d.Source.BucketHashes(), nil
}

func (e *exchanger) Items(ctx context.Context, m gossip.Member, buckets []uint8) ([]gossip.Item, error) {
	d, err := e.call(ctx, m, "items")
	if err != nil {
		return nil, err
	}
	return d.Source.Items(buckets), nil
}

func (e *exchanger) Body(ctx context.Context, m gossip.Member, key string, digest gossip.Hash) ([]byte, error) {
	d, err := e.call(ctx, m, "body")
	if err != nil {
		return nil, err
	}
	b, ok := d.Source.Body(key, digest)
	if !ok {
		return nil, fmt.Errorf("body of %s: %w", key, gossip.ErrNotHere)
	}
	return b, nil
}

func (e *exchanger) Statements(ctx context.Context, m gossip.Member, instance string, cursor uint64, push []gossip.Statement) (gossip.Page, error) {
	d, err := e.call(ctx, m, "statements")
	if err != nil {
		return gossip.Page{}, err
	}
	d.Book.Accept(push)
	return d.Book.Page(instance, cursor, 0), nil
}
