// Package record holds the signed records that a ring replicates, and the rules
// by which two nodes that hold different ones agree.
//
// Promises: a payload's signature is verified before the payload is parsed and
// the bytes are never marshalled again; the merge of two sets is commutative,
// associative and idempotent and does not depend on what the merger already
// has, so that any order of arrival converges; limits that depend on the local
// state (generation jumps, compare-and-set on the parent) are admission rules
// for new records and never part of the merge.
//
// The package is pure. Values are immutable once returned.
package record

import (
	"encoding/hex"
	"time"
)

// Limits, checked before anything is allocated.
const (
	MaxBody      = 64 << 10 // bytes of a record's body
	MaxBlob      = 1 << 20  // bytes of a blob's body
	MaxName      = 63
	MaxAncestors = 8
	MaxHistory   = 10 // revisions of a daemon kept with their bodies
)

// Kind of a record.
type Kind string

const (
	KindDaemon  Kind = "daemon"
	KindBlob    Kind = "blob"    // named by the hash of its body
	KindControl Kind = "control" // one name per operation and node: "forget.web-1"
	KindNode    Kind = "node"
	KindTrust   Kind = "trust"
)

// Key names an entry of the replicated set.
type Key struct {
	Kind Kind
	Name string
}

// String returns "kind/name".
func (k Key) String() string { return string(k.Kind) + "/" + k.Name }

// RingID is 128 random bits drawn when the ring was made; it keeps two rings of
// the same display name apart.
type RingID [16]byte

// String returns the id in hex.
func (r RingID) String() string { return hex.EncodeToString(r[:]) }

// Digest is the SHA-256 of a record's payload.
type Digest [32]byte

// String returns d in hex; Short its first 7 digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }
func (d Digest) Short() string  { return d.String()[:7] }
func (d Digest) IsZero() bool   { return d == Digest{} }

// Version orders the records of one key: by generation, then by digest.
type Version struct {
	Generation uint64 `json:"generation"`
	Digest     Digest `json:"digest"`
}

// Header is what a record says of itself.
type Header struct {
	Schema     int // 1; a larger one is stored and forwarded, not understood
	Ring       RingID
	Key        Key
	Generation uint64   // highest verified generation seen for the key, plus 1
	Parent     Digest   // record that it replaces; zero for the first
	Ancestors  []Digest // newest first, the parent included; at most MaxAncestors
	Author     string   // for display
	Created    time.Time
	Delete     bool // a tombstone, kept for ever
}

// Record is a verified record.
type Record struct {
	Header
	Body     []byte
	Digest   Digest   // of the payload
	Signers  []string // ids of the trusted keys whose signatures were verified, sorted
	Envelope []byte   // DSSE, as it travels; only verified signatures in it
}

// Version returns the record's place in the order of its key.
func (r Record) Version() Version { return Version{r.Generation, r.Digest} }
