package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/hashicorp/memberlist"
)

// What travels by memberlist's packets: hints, roots and a node's metadata. The
// encodings are binary because their size is what bounds the ring's capacity
// (a ring of 5,000 sustains 5.6 broadcasts of 200 B per second, docs/adr/0003), and
// every one starts with a number, so that a newer agentd can say more.

const (
	msgHint = 1 // items that the sender holds
	msgRoot = 2 // the sender's root: look at what I have

	summaryVersion = 1
	metaVersion    = 1

	maxKey = 96 // bytes of an Item's key: a kind of 16, a slash and a name of 63 fit
	// maxHint is what a broadcast of one item may take.
	maxHint = 300
	// maxDirect is how many items one packet sent directly may name: below
	// memberlist's 1,400 B packets with the longest keys.
	maxDirect = 6
)

var errMessage = errors.New("malformed gossip message")

// hint says that a node holds items.
type hint struct {
	Teller string
	Items  []Item
}

func encodeHint(h hint) []byte {
	b := []byte{msgHint}
	b = appendString(b, h.Teller)
	b = append(b, byte(len(h.Items)))
	for _, it := range h.Items {
		b = appendString(b, it.Key)
		b = binary.BigEndian.AppendUint64(b, it.Generation)
		b = append(b, it.Digest[:]...)
		b = append(b, it.Signers[:]...)
	}
	return b
}

func decodeHint(b []byte) (hint, error) {
	r := reader{b: b}
	if r.byte() != msgHint {
		return hint{}, errMessage
	}
	h := hint{Teller: r.string(MaxNodeName)}
	n := int(r.byte())
	if n == 0 || n > maxDirect {
		return hint{}, errMessage
	}
	for range n {
		h.Items = append(h.Items, Item{
			Key: r.string(maxKey), Generation: r.uint64(), Digest: r.hash(), Signers: r.hash(),
		})
	}
	return h, r.end()
}

// summary is a node's root; Name is empty where the receiver knows who speaks.
type summary struct {
	Root Hash
	Name string
}

func encodeSummary(s summary) []byte {
	b := append([]byte{summaryVersion}, s.Root[:]...)
	return appendString(b, s.Name)
}

// decodeSummary ignores what follows, so that a newer agentd may append.
func decodeSummary(b []byte) (summary, error) {
	r := reader{b: b}
	if r.byte() != summaryVersion {
		return summary{}, errMessage
	}
	s := summary{Root: r.hash(), Name: r.string(MaxNodeName)}
	return s, r.err
}

func encodeMeta(id NodeID, peerAddr, version string) ([]byte, error) {
	b := append([]byte{metaVersion}, id[:]...)
	if len(peerAddr) > 255 || len(version) > 64 {
		return nil, fmt.Errorf("peer address %q or version %q is too long", peerAddr, version)
	}
	b = appendString(b, peerAddr)
	b = appendString(b, version)
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("node metadata of %d bytes exceeds %d", len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

func decodeMeta(b []byte) (id NodeID, peerAddr, version string, err error) {
	r := reader{b: b}
	if r.byte() != metaVersion {
		return NodeID{}, "", "", errMessage
	}
	copy(id[:], r.take(len(id)))
	peerAddr, version = r.string(255), r.string(64)
	return id, peerAddr, version, r.err
}

// memberOf reads a memberlist node; a peer address without a host gets the
// gossip address's.
func memberOf(n *memberlist.Node) (Member, error) {
	id, peer, version, err := decodeMeta(n.Meta)
	if err != nil {
		return Member{}, fmt.Errorf("metadata of node %q: %w", n.Name, err)
	}
	if n.Name == "" || len(n.Name) > MaxNodeName {
		return Member{}, fmt.Errorf("node name %q: want 1 to %d bytes", n.Name, MaxNodeName)
	}
	if host, port, err := net.SplitHostPort(peer); err == nil {
		if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
			peer = net.JoinHostPort(n.Addr.String(), port)
		}
	}
	return Member{Name: n.Name, ID: id, Addr: n.Address(), PeerAddr: peer, Version: version}, nil
}

func appendString(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

// reader takes fields off a message; the first that is missing sets err and
// all that follow are zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.err = errMessage
		return make([]byte, n) // n is at most 255, never read from the message unchecked
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) hash() Hash     { return Hash(r.take(len(Hash{}))) }

func (r *reader) string(limit int) string {
	n := int(r.byte())
	if n > limit {
		r.err = errMessage
		return ""
	}
	s := r.take(n)
	if r.err != nil {
		return ""
	}
	return string(s)
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = errMessage
	}
	return r.err
}
