package gossip

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of statements, checked before anything is verified or kept.
const (
	// MaxStatementBody bounds the body in bytes: a status of some hundred
	// daemons, small enough that a page of them fits one request.
	MaxStatementBody = 64 << 10
	// MaxNodeName is the length of the longest node name (a DNS label).
	MaxNodeName = 63
)

// MakeNodeID returns the id of the node with that name and public key. A
// machine that got a new key is another node, whatever its name.
func MakeNodeID(name string, pub ed25519.PublicKey) NodeID {
	h := sha256.New()
	h.Write([]byte("agentd node id v1\x00"))
	writeField(h.Write, []byte(name))
	writeField(h.Write, pub)
	var id NodeID
	copy(id[:], h.Sum(nil))
	return id
}

// ID returns the id of the node that made the statement.
func (s Statement) ID() NodeID { return MakeNodeID(s.Node, s.Key) }

// Verify checks the statement's shape and its signature by its own key. Whether
// that key may speak for the name is a question for the caller.
func (s Statement) Verify() error {
	if err := s.check(); err != nil {
		return err
	}
	if !ed25519.Verify(s.Key, s.payload(), s.Sig) {
		return fmt.Errorf("statement of node %q: signature does not match its key", s.Node)
	}
	return nil
}

// check is the part of Verify that costs nothing.
func (s Statement) check() error {
	switch {
	case s.Node == "" || len(s.Node) > MaxNodeName:
		return errors.New("statement: node name is missing or too long")
	case len(s.Key) != ed25519.PublicKeySize:
		return fmt.Errorf("statement of node %q: key has %d bytes, want %d", s.Node, len(s.Key), ed25519.PublicKeySize)
	case len(s.Sig) != ed25519.SignatureSize:
		return fmt.Errorf("statement of node %q: signature has %d bytes, want %d", s.Node, len(s.Sig), ed25519.SignatureSize)
	case len(s.Body) > MaxStatementBody:
		return fmt.Errorf("statement of node %q: body of %d bytes exceeds %d", s.Node, len(s.Body), MaxStatementBody)
	}
	return nil
}

// Newer reports whether s replaces t, a statement of the same node: the larger
// (Boot, Seq) wins. Two different statements with the same pair can only come
// from a copied key; the larger signature wins then, so that all nodes agree.
func (s Statement) Newer(t Statement) bool {
	if s.Boot != t.Boot {
		return s.Boot > t.Boot
	}
	if s.Seq != t.Seq {
		return s.Seq > t.Seq
	}
	return bytes.Compare(s.Sig, t.Sig) > 0
}

// sign returns s signed with key.
func (s Statement) sign(key ed25519.PrivateKey) Statement {
	s.Sig = ed25519.Sign(key, s.payload())
	return s
}

// payload is what the signature covers: every field, each with its length, under
// a prefix that no other signed message of agentd starts with.
func (s Statement) payload() []byte {
	var b bytes.Buffer
	b.WriteString("agentd statement v1\x00")
	writeField(b.Write, []byte(s.Node))
	writeField(b.Write, s.Key)
	var n [17]byte
	binary.BigEndian.PutUint64(n[0:], s.Boot)
	binary.BigEndian.PutUint64(n[8:], s.Seq)
	if s.Left {
		n[16] = 1
	}
	b.Write(n[:])
	writeField(b.Write, s.Body)
	return b.Bytes()
}

// writeField writes b after its length. Hashes and buffers never fail to write.
func writeField(write func([]byte) (int, error), b []byte) {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(b)))
	_, _ = write(n[:])
	_, _ = write(b)
}
