// Package peer lets two nodes of a ring ask each other directly: who they are,
// which records they hold, the records' bodies, and what nodes say of
// themselves. HTTP/1.1 over mutual TLS 1.3, one connection kept per peer that
// is asked often.
//
// Promises: a node answers only callers that hold a certificate of its ring
// (issued under a key derived from the ring key, or by the operator's own CA),
// and only under a name that is bound to the caller's own key; a request goes
// only to the node that it was meant for. Whatever a peer or a stranger sends,
// memory, time, connections and log lines are bounded before anything is
// allocated: a node that has too much to do answers ErrBusy at once, it never
// queues. Every call has a deadline of its own.
//
// It never: decides whether a record is valid or which one wins (that is
// gossip.Source), or treats a peer that does not answer as anything but that.
//
// All types are safe for concurrent use. Goroutines start in the Run methods of
// Server and Bindings, which return after all of them have ended; those of a
// Client belong to its kept connections and end with Close.
package peer

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/agentd/agentd/gossip"
)

// Peer is a node that proved, in a TLS handshake, to hold both a certificate of
// the ring and the key that its id is made of.
type Peer struct {
	Name string
	ID   gossip.NodeID
	Key  ed25519.PublicKey
}

// Statements is the part of gossip.Book that a server hands out and fills.
type Statements interface {
	// Page returns at most limit statements learned after cursor; an unknown
	// instance starts from the beginning.
	Page(instance string, cursor uint64, limit int) gossip.Page
	// Accept verifies and keeps what is newer, and reports how many were.
	Accept([]gossip.Statement) int
}

var _ Statements = (*gossip.Book)(nil)

// alpn names the protocol in the TLS handshake, so that another TLS server at
// the address is told from an agentd of another ring.
const alpn = "agentd/1"

// Paths. A change that an older node would misread takes a new version.
const (
	pathHello      = "/v1/hello"
	pathSummary    = "/v1/summary"
	pathItems      = "/v1/items"
	pathBody       = "/v1/body"
	pathStatements = "/v1/statements"
	pathPush       = "/v1/push"
	pathMirror     = "/v1/mirror"
)

// Sizes, in bytes. A limit is checked before anything is allocated.
const (
	// MaxEnvelope bounds a record on the wire: 1.78 MiB are needed for a blob's
	// body of 1 MiB, base64 twice over (in the payload and in the envelope), with
	// header and signatures (record.MaxEnvelope), and some room.
	MaxEnvelope = 2 << 20
	// maxPage bounds a page of items or statements; longer ones are asked for
	// in parts. One answer of this size per request slot is what a server can
	// be made to hold.
	maxPage     = 1 << 20
	maxName     = gossip.MaxNodeName
	maxKey      = 128 // of a record: kind of 16, slash and name of 63, and room
	maxInstance = 64
	maxVersion  = 64
	maxProblem  = 4 << 10
	maxHeader   = 8 << 10
)

// Deadlines. They are generous: what bounds a hostile peer is the number of its
// connections and requests; these only end what would never end.
const (
	dialTimeout   = 5 * time.Second
	helloTimeout  = 8 * time.Second
	callTimeout   = 10 * time.Second
	bodyTimeout   = 30 * time.Second // MaxEnvelope at 70 KB/s
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute // a client gives up its own earlier
	clientIdle    = 90 * time.Second
	maxConnAge    = time.Hour // so that a revoked certificate ends
)

type connKey struct{}

// connOf returns the connection that a request came over.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}
