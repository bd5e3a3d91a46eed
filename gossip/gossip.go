// Package gossip says HOW news travels: the ring of nodes, who is in it, and
// how two nodes find out that they hold different records and swap what is
// missing. It is the only importer of memberlist.
//
// It knows nothing of daemons: what it moves are opaque keys, versions, hashes
// and bytes. What they mean, which are valid and which wins is decided by the
// Source, which verifies everything before it stores or relays it.
//
// Promises: any two nodes that can exchange packets agree within seconds,
// whatever was lost before and however long they were apart; membership is
// news, never a command. Callbacks out of this package run on its own
// goroutines and may take their time; they never hold memberlist's locks.
package gossip

import (
	"context"
	"encoding/hex"
	"errors"
	"time"
)

// Hash is a SHA-256 sum.
type Hash [32]byte

// String returns h in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Buckets is how many parts the replicated set's hash is cut into; a key's
// bucket is the first byte of its SHA-256.
const Buckets = 256

// Item names one version of one entry. A forked entry has two items.
type Item struct {
	Key        string // "daemon/node-exporter"
	Generation uint64
	Digest     Hash // of the signed payload
	Signers    Hash // over the verified signers: differs when signatures are to be merged
}

// Source is the local replicated set. Implementations are safe for concurrent use.
type Source interface {
	// Root hashes all items; two nodes with equal roots hold the same set.
	Root() Hash
	// BucketHashes returns the hash of each bucket (zero for an empty one).
	BucketHashes() [Buckets]Hash
	// Items lists the items of the named buckets.
	Items(buckets []uint8) []Item
	// Wants reports whether offering that item's body could change the set.
	Wants(Item) bool
	// Body returns the signed envelope of an item held here, current or in history.
	Body(key string, digest Hash) ([]byte, bool)
	// Offer verifies and merges an envelope that came from a peer and reports
	// whether the set changed. An error says why it was refused.
	Offer(ctx context.Context, envelope []byte) (changed bool, err error)
}

// NodeID names a node for good: a hash of its name and its own public key.
type NodeID [16]byte

// String returns id in hex.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// MemberState is a member's state as this node sees it.
type MemberState string

const (
	Alive   MemberState = "alive"
	Suspect MemberState = "suspect"
	Failed  MemberState = "failed"
	Left    MemberState = "left"
)

// Member is one node of the ring as this node sees it.
type Member struct {
	Name     string
	ID       NodeID
	Addr     string // HOST:PORT of gossip
	PeerAddr string // HOST:PORT of node-to-node requests
	Version  string // of agentd
	State    MemberState
	Since    time.Time // of the state
	LastSeen time.Time // last time it was known to be alive
}

// Statement is what one node says of itself: opaque, signed with its node key,
// so that anybody may relay it. Only its owner raises (Boot, Seq); a smaller
// one never replaces a larger one.
type Statement struct {
	Node string `json:"node"`
	Key  []byte `json:"key"` // the node's Ed25519 public key; NodeID = hash(Node, Key)
	Boot uint64 `json:"boot"`
	Seq  uint64 `json:"seq"`
	// Left says that the node took leave of the ring: its absence is no failure.
	Left bool   `json:"left,omitempty"`
	Body []byte `json:"body"`
	Sig  []byte `json:"sig"`
}

// Page is a part of a peer's statements: those it learned after Cursor, which
// is only meaningful to the peer's running process Instance.
type Page struct {
	Instance   string      `json:"instance"`
	Cursor     uint64      `json:"cursor"`
	More       bool        `json:"more"`
	Statements []Statement `json:"statements"`
}

// ErrNotHere is what an Exchanger's Body returns, wrapped, when the peer answered
// that it does not hold the body: asking others in its stead is no use.
var ErrNotHere = errors.New("the peer does not hold it")

// Exchanger asks one peer directly. gossip/peer implements it over mutual TLS,
// simulations in memory. Every call has a deadline of its own.
type Exchanger interface {
	BucketHashes(ctx context.Context, m Member) ([Buckets]Hash, error)
	Items(ctx context.Context, m Member, buckets []uint8) ([]Item, error)
	Body(ctx context.Context, m Member, key string, digest Hash) ([]byte, error)
	// Statements pushes some of ours and returns those that the peer learned
	// after cursor; instance "" or unknown starts from the beginning.
	Statements(ctx context.Context, m Member, instance string, cursor uint64, push []Statement) (Page, error)
}
