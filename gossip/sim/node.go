package sim

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

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
	seat   *Seat
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
	key := NodeKey(cfg.Key)
	d := &Node{Name: cfg.Name, Source: cfg.Source, done: make(chan error, 1), peers: cfg.Peers}
	d.Book = gossip.NewBook(gossip.BookConfig{Name: cfg.Name, Key: key, Boot: cfg.Boot, Allow: cfg.Allow, Log: cfg.Log})
	d.seat = n.Sit(cfg.Name, cfg.Source, d.Book)
	var seeds []string
	for _, s := range cfg.Seeds {
		seeds = append(seeds, n.Addr(s))
	}
	tuning := d.seat.Tuning()
	tuning.Mute = cfg.Mute
	if cfg.Silent {
		tuning.Exchange = time.Hour
	}
	ring, err := gossip.New(gossip.Config{
		Name: cfg.Name, ID: d.Book.ID(), Label: cfg.Label, Keys: cfg.Keys,
		Bind: d.seat.Addr(), PeerAddr: ":7947", Version: "sim",
		Seeds: seeds, Peers: cfg.Peers, SavePeers: d.savePeers, Left: cfg.Left,
		Source: cfg.Source, Exchanger: d.seat, Book: d.Book,
		Admit: cfg.Admit, Log: cfg.Log, Tuning: tuning,
	})
	if err != nil {
		d.seat.Close()
		return nil, err
	}
	d.Ring = ring
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go func() { d.done <- ring.Run(ctx) }()
	return d, nil
}

// Stop ends the node as a crash would: without a word. It returns what Run did.
func (d *Node) Stop() error {
	d.seat.Close()
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
