package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// DefaultPort is assumed where a seed or an advertised address names none.
const DefaultPort = "7946"

// Config makes a Ring. Everything without a remark is required.
type Config struct {
	Name string // unique in the ring
	ID   NodeID // MakeNodeID of the name and the node's public key
	// Label is the ring's id in hex: packets of another ring are dropped.
	Label string
	// Keys are the ring keys, 32 bytes each: the first encrypts, all decrypt.
	Keys [][]byte
	Bind string // HOST:PORT
	// Advertise is HOST or HOST:PORT that others reach this node at. Optional: the
	// bound address, or that of the interface on the way to the first seed.
	Advertise string
	// PeerAddr is where this node answers node-to-node requests; without a host
	// (":7947") it is the gossip address's.
	PeerAddr string
	Version  string   // of agentd, shown to others; optional
	Seeds    []string // HOST or HOST:PORT, resolved anew at every attempt; optional
	Peers    []string // HOST:PORT of members known from earlier runs; optional
	// SavePeers is given the addresses to remember, when they changed, at most
	// every ten seconds; optional.
	SavePeers func([]string)
	// Left starts the ring silently: no listening, no joining, until Rejoin.
	Left bool

	Source    Source
	Exchanger Exchanger
	Book      *Book

	// Admit may refuse a member, such as one whose name is bound to another node
	// id; optional. It is asked once per name and id until it agrees, with
	// memberlist's lock held: it must not call the Ring.
	Admit func(Member) error
	// Resolve looks a host name up; optional: the system's resolver.
	Resolve func(ctx context.Context, host string) ([]string, error)
	Log     *slog.Logger

	Tuning Tuning
}

// Tuning is for tests and simulations; the zero value is right everywhere else.
type Tuning struct {
	// Transport replaces the network. It is called at every start of the ring's
	// membership: once, and again after Leave and Rejoin.
	Transport func() (memberlist.Transport, error)
	Rejoin    time.Duration // between attempts to join absent peers; default 15 s
	Exchange  time.Duration // between exchanges of statements; default 2 s
	Mute      bool          // tell nobody of news: only comparing roots spreads it
	Seed      uint64        // of the ring's own choices; 0 draws one
}

const (
	defaultRejoin   = 15 * time.Second // docs/adr/0003: for ever
	defaultExchange = 2 * time.Second
)

// check validates cfg and fills in what is optional.
func (c *Config) check() error {
	switch {
	case c.Name == "" || len(c.Name) > MaxNodeName:
		return fmt.Errorf("node name %q: want 1 to %d bytes", c.Name, MaxNodeName)
	case len(c.Keys) == 0:
		return errors.New("no ring key: a ring without one would let anybody in")
	case len(c.Label) > memberlist.LabelMaxSize:
		return fmt.Errorf("label of %d bytes exceeds %d", len(c.Label), memberlist.LabelMaxSize)
	case c.Source == nil || c.Exchanger == nil || c.Book == nil:
		return errors.New("source, exchanger and book are required")
	}
	for i, k := range c.Keys {
		if len(k) != 32 {
			return fmt.Errorf("ring key %d has %d bytes, want 32", i+1, len(k))
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Resolve == nil {
		c.Resolve = net.DefaultResolver.LookupHost
	}
	if c.Tuning.Rejoin <= 0 {
		c.Tuning.Rejoin = defaultRejoin
	}
	if c.Tuning.Exchange <= 0 {
		c.Tuning.Exchange = defaultExchange
	}
	if _, err := encodeMeta(c.ID, c.PeerAddr, c.Version); err != nil {
		return err
	}
	return nil
}

// splitAddr cuts HOST or HOST:PORT, in which IPv6 wears brackets, into its parts.
func splitAddr(s, port string) (host, p string, err error) {
	if h, p, err := net.SplitHostPort(s); err == nil {
		if p == "" {
			p = port
		}
		return h, p, nil
	}
	h := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if h == "" || (strings.Contains(h, ":") && net.ParseIP(h) == nil) {
		return "", "", fmt.Errorf("address %q: want HOST or HOST:PORT", s)
	}
	return h, port, nil
}
