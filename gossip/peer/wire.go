package peer

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/agentd/agentd/gossip"
)

// The binary forms of what is asked for often. Numbers are unsigned varints,
// byte strings come after their length, hashes and keys have a fixed size.
// Decoders take exactly what encoders make, refuse trailing bytes, and allocate
// nothing for a count that the rest of the message could not hold.

// appendSummary writes a bit per bucket, and the hashes of those that hold
// anything: 8 KiB at most, 32 bytes for an empty set.
func appendSummary(dst []byte, hashes *[gossip.Buckets]gossip.Hash) []byte {
	var filled [gossip.Buckets / 8]byte
	for i := range hashes {
		if hashes[i] != (gossip.Hash{}) {
			filled[i/8] |= 1 << (i % 8)
		}
	}
	dst = append(dst, filled[:]...)
	for i := range hashes {
		if hashes[i] != (gossip.Hash{}) {
			dst = append(dst, hashes[i][:]...)
		}
	}
	return dst
}

func parseSummary(b []byte) (hashes [gossip.Buckets]gossip.Hash, err error) {
	filled, rest := b, []byte(nil)
	if len(b) >= gossip.Buckets/8 {
		filled, rest = b[:gossip.Buckets/8], b[gossip.Buckets/8:]
	}
	n := 0
	for _, x := range filled {
		n += bits.OnesCount8(x)
	}
	if len(filled) != gossip.Buckets/8 || len(rest) != n*len(gossip.Hash{}) {
		return hashes, fmt.Errorf("%w: summary of %d bytes", ErrProtocol, len(b))
	}
	for i := range hashes {
		if filled[i/8]&(1<<(i%8)) != 0 {
			rest = rest[copy(hashes[i][:], rest):]
		}
	}
	return hashes, nil
}

// minItem is the size of the smallest item: key of 1, generation, two hashes.
const minItem = 2 + 1 + 2*32

func appendItems(dst []byte, items []gossip.Item) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(items)))
	for i := range items {
		dst = appendBytes(dst, items[i].Key)
		dst = binary.AppendUvarint(dst, items[i].Generation)
		dst = append(dst, items[i].Digest[:]...)
		dst = append(dst, items[i].Signers[:]...)
	}
	return dst
}

func parseItems(b []byte) ([]gossip.Item, error) {
	r := reader{b: b}
	n := r.count(minItem)
	items := make([]gossip.Item, 0, n)
	for range n {
		var it gossip.Item
		it.Key = string(r.bytes(maxKey))
		it.Generation = r.uvarint()
		r.fixed(it.Digest[:])
		r.fixed(it.Signers[:])
		if r.err == nil && !validKey(it.Key) {
			r.fail("key %q", clean(it.Key, maxKey))
		}
		if r.err != nil {
			break
		}
		items = append(items, it)
	}
	return items, r.end("items")
}

// validKey keeps keys printable and without spaces; what they mean is not for
// this package.
func validKey(key string) bool {
	if key == "" || len(key) > maxKey {
		return false
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return true
}

// minStatement is the size of the smallest statement: name of 1, flags, key,
// boot, seq, empty body, signature.
const minStatement = 2 + 1 + 32 + 1 + 1 + 1 + 64

const flagLeft = 1

func appendStatements(dst []byte, list []gossip.Statement) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for i := range list {
		st := &list[i]
		var flags uint64
		if st.Left {
			flags |= flagLeft
		}
		dst = appendBytes(dst, st.Node)
		dst = binary.AppendUvarint(dst, flags)
		dst = append(dst, st.Key...)
		dst = binary.AppendUvarint(dst, st.Boot)
		dst = binary.AppendUvarint(dst, st.Seq)
		dst = appendBytes(dst, st.Body)
		dst = append(dst, st.Sig...)
	}
	return dst
}

// sound reports whether a statement has the sizes that the wire form fixes.
func sound(st *gossip.Statement) bool {
	return validNodeName(st.Node) && len(st.Key) == 32 && len(st.Sig) == 64 && len(st.Body) <= gossip.MaxStatementBody
}

// statements reads a list. Nothing in it shares the message's memory: one
// statement that is kept must not keep all of them.
func (r *reader) statements() []gossip.Statement {
	n := r.count(minStatement)
	if n == 0 {
		return nil
	}
	list := make([]gossip.Statement, 0, n)
	for range n {
		var st gossip.Statement
		st.Node = string(r.bytes(maxName))
		flags := r.uvarint()
		st.Left = flags&flagLeft != 0
		key := r.take(32)
		st.Boot = r.uvarint()
		st.Seq = r.uvarint()
		body := r.bytes(gossip.MaxStatementBody)
		sig := r.take(64)
		if r.err == nil && (flags&^flagLeft != 0 || !validNodeName(st.Node)) {
			r.fail("statement of %q with flags %#x", clean(st.Node, maxName), flags)
		}
		if r.err != nil {
			return nil
		}
		own := slices.Concat(key, sig, body)
		st.Key, st.Sig, st.Body = own[:32:32], own[32:96:96], own[96:]
		list = append(list, st)
	}
	return list
}

// exchange is the request of a statements exchange.
type exchange struct {
	Instance string
	Cursor   uint64
	Push     []gossip.Statement
}

func appendExchange(dst []byte, e exchange) []byte {
	dst = appendBytes(dst, e.Instance)
	dst = binary.AppendUvarint(dst, e.Cursor)
	return appendStatements(dst, e.Push)
}

func parseExchange(b []byte) (e exchange, err error) {
	r := reader{b: b}
	e.Instance = string(r.bytes(maxInstance))
	e.Cursor = r.uvarint()
	e.Push = r.statements()
	return e, r.end("statements request")
}

func appendPage(dst []byte, p gossip.Page) []byte {
	dst = appendBytes(dst, p.Instance)
	dst = binary.AppendUvarint(dst, p.Cursor)
	more := byte(0)
	if p.More {
		more = 1
	}
	dst = append(dst, more)
	return appendStatements(dst, p.Statements)
}

func parsePage(b []byte) (p gossip.Page, err error) {
	r := reader{b: b}
	p.Instance = string(r.bytes(maxInstance))
	p.Cursor = r.uvarint()
	switch more := r.uvarint(); more {
	case 0, 1:
		p.More = more == 1
	default:
		r.fail("flag %d", more)
	}
	p.Statements = r.statements()
	return p, r.end("statements")
}

func appendBytes[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// reader takes a message apart. After the first error it returns zero values,
// so that callers need to look only at the end.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("number cut short or too large")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// take returns the next n bytes, which share the message's memory.
func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.fail("cut short")
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) fixed(dst []byte) { copy(dst, r.take(len(dst))) }

// bytes returns a string of at most limit bytes.
func (r *reader) bytes(limit int) []byte {
	n := r.uvarint()
	if n > uint64(limit) {
		r.fail("%d bytes where at most %d may be", n, limit)
		return nil
	}
	return r.take(int(n))
}

// count reads how many elements of at least minSize bytes follow.
func (r *reader) count(minSize int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/minSize) {
		r.fail("%d elements in %d bytes", n, len(r.b))
		return 0
	}
	return int(n)
}

// end returns the first error, or one for bytes that are left over.
func (r *reader) end(what string) error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return fmt.Errorf("%w: %s: %w", ErrProtocol, what, r.err)
	}
	return nil
}
