package gossip

import (
	"container/list"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"time"
)

const (
	// maxStatements bounds the nodes a book knows: several times the 5,000 nodes
	// that the ring is designed for would no longer be a ring.
	maxStatements = 16384
	// maxPageBytes bounds one page, well below what a request may carry.
	maxPageBytes = 512 << 10
	// statementLife is how long the word of a node that is no member any more is
	// kept; the same 24 h for which failed members are remembered.
	statementLife = 24 * time.Hour
	// NoPull, given as a Page's instance, asks for nothing: the caller only
	// pushes. The reply then carries no statements.
	NoPull = "-"
)

// BookConfig makes a Book.
type BookConfig struct {
	Name string
	Key  ed25519.PrivateKey
	// Boot numbers this run of the node; it must not be smaller than that of an
	// earlier run. Should the ring remember a larger one, the book goes beyond it.
	Boot uint64
	// Allow reports whether key may speak for the node of that name; nil allows
	// all. It is called without any lock held and may take its time.
	Allow func(node string, key ed25519.PublicKey) bool
	Log   *slog.Logger
}

// Book holds the newest statement of every node, this one's included. It is safe
// for concurrent use. Statements that it returns share memory with it and must
// not be changed.
type Book struct {
	cfg      BookConfig
	id       NodeID
	instance string

	mu      sync.Mutex
	nodes   map[NodeID]*list.Element // of *noted
	order   *list.List               // by learned, oldest first
	clock   uint64                   // the last learned
	dropped uint64                   // clock when one was dropped last
	own     Statement                // unsigned zero value until Set
	boot    uint64
	seq     uint64
	gone    map[NodeID]noted // dropped, so that no peer brings the same word back
	refuse  uint64           // statements refused so far

	changed chan struct{} // capacity 1: any statement changed
	mine    chan struct{} // capacity 1, for the ring: own statement changed
	news    chan struct{} // capacity 1, for the ring: others' statements changed
	leaves  chan struct{} // capacity 1, for the ring: somebody left, or came back
}

// noted is a statement and when it came.
type noted struct {
	Statement
	learned uint64
	at      time.Time
}

// NewBook returns a book that holds nothing yet.
func NewBook(cfg BookConfig) *Book {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var inst [8]byte
	_, _ = rand.Read(inst[:]) // never fails (crypto/rand)
	return &Book{
		cfg:      cfg,
		id:       MakeNodeID(cfg.Name, cfg.Key.Public().(ed25519.PublicKey)),
		instance: hex.EncodeToString(inst[:]),
		nodes:    make(map[NodeID]*list.Element),
		order:    list.New(),
		boot:     cfg.Boot,
		gone:     make(map[NodeID]noted),
		changed:  make(chan struct{}, 1),
		mine:     make(chan struct{}, 1),
		news:     make(chan struct{}, 1),
		leaves:   make(chan struct{}, 1),
	}
}

// ID returns the id of the node whose book this is.
func (b *Book) ID() NodeID { return b.id }

// Changed is woken after any statement changed, one's own included. It has
// capacity 1: one wake may stand for many changes.
func (b *Book) Changed() <-chan struct{} { return b.changed }

// Set replaces what this node says of itself. Saying the same again is nothing new.
func (b *Book) Set(body []byte) error {
	if len(body) > MaxStatementBody {
		return fmt.Errorf("set statement: body of %d bytes exceeds %d", len(body), MaxStatementBody)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.own.Sig != nil && string(b.own.Body) == string(body) {
		return nil
	}
	b.own.Body = append([]byte(nil), body...)
	b.say()
	return nil
}

// SetLeft marks one's own statement as that of a node that left, or came back.
func (b *Book) SetLeft(left bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.own.Left == left {
		return
	}
	b.own.Left = left
	b.say()
}

// say signs and notes the own statement under the next number. Called with mu held.
func (b *Book) say() {
	b.seq++
	b.own.Node = b.cfg.Name
	b.own.Key = b.cfg.Key.Public().(ed25519.PublicKey)
	b.own.Boot, b.own.Seq = b.boot, b.seq
	b.own = b.own.sign(b.cfg.Key)
	b.note(b.id, b.own)
	wake(b.mine)
}

// note keeps st as the newest of its node. Called with mu held.
func (b *Book) note(id NodeID, st Statement) {
	b.clock++
	n := &noted{Statement: st, learned: b.clock, at: time.Now()}
	if e, ok := b.nodes[id]; ok {
		e.Value = n
		b.order.MoveToBack(e)
	} else {
		b.nodes[id] = b.order.PushBack(n)
	}
	wake(b.changed)
}

// Own returns this node's statement; ok is false before the first Set.
func (b *Book) Own() (st Statement, ok bool) { return b.Get(b.id) }

// Get returns the newest statement of a node.
func (b *Book) Get(id NodeID) (Statement, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.nodes[id]; ok {
		return e.Value.(*noted).Statement, true
	}
	return Statement{}, false
}

// left reports whether a node's newest statement is that it left.
func (b *Book) left(id NodeID) bool {
	st, ok := b.Get(id)
	return ok && st.Left
}

// Learned returns when the newest statement of a node came in, by this node's clock.
func (b *Book) Learned(id NodeID) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.nodes[id]; ok {
		return e.Value.(*noted).at, true
	}
	return time.Time{}, false
}

// All returns every statement, sorted by node name, then key.
func (b *Book) All() []Statement {
	b.mu.Lock()
	all := make([]Statement, 0, b.order.Len())
	for e := b.order.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*noted).Statement)
	}
	b.mu.Unlock()
	sort.Slice(all, func(i, j int) bool {
		if all[i].Node != all[j].Node {
			return all[i].Node < all[j].Node
		}
		return string(all[i].Key) < string(all[j].Key)
	})
	return all
}

// Page returns up to limit statements learned after cursor, in the order in
// which they came; limit <= 0 leaves only the page's size in bytes as a bound.
// An instance that is not this book's starts from the beginning, NoPull gets nothing.
func (b *Book) Page(instance string, cursor uint64, limit int) Page {
	b.mu.Lock()
	defer b.mu.Unlock()
	if instance == NoPull {
		return Page{Instance: NoPull, Cursor: b.clock}
	}
	if instance != b.instance || cursor > b.clock {
		cursor = 0
	}
	p := Page{Instance: b.instance, Cursor: cursor}
	e := b.after(cursor)
	for size := 0; e != nil; e = e.Next() {
		n := e.Value.(*noted)
		size += len(n.Body) + len(n.Node) + ed25519.PublicKeySize + ed25519.SignatureSize + 64
		if len(p.Statements) > 0 && (size > maxPageBytes || (limit > 0 && len(p.Statements) >= limit)) {
			p.More = true
			return p
		}
		p.Statements = append(p.Statements, n.Statement)
		p.Cursor = n.learned
	}
	p.Cursor = b.clock
	return p
}

// News returns what came after cursor, in the order in which it came, and the
// cursor to go on from. whole says that it is all there is, because some was
// dropped since: then whatever is not in it is not held any more.
func (b *Book) News(cursor uint64) (sts []Statement, next uint64, whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if whole = cursor < b.dropped || cursor == 0; whole {
		cursor = 0
	}
	for e := b.after(cursor); e != nil; e = e.Next() {
		sts = append(sts, e.Value.(*noted).Statement)
	}
	return sts, b.clock, whole
}

// after returns the first element learned after cursor. Called with mu held.
func (b *Book) after(cursor uint64) *list.Element {
	var first *list.Element
	for e := b.order.Back(); e != nil && e.Value.(*noted).learned > cursor; e = e.Prev() {
		first = e
	}
	return first
}

// Accept takes statements that came from a peer, keeps those that are newer than
// what it holds, rightly signed and allowed, and returns how many those were.
func (b *Book) Accept(sts []Statement) int {
	n := 0
	for _, st := range sts {
		if b.accept(st) {
			n++
		}
	}
	if n > 0 {
		wake(b.news)
	}
	return n
}

func (b *Book) accept(st Statement) bool {
	if err := st.check(); err != nil {
		b.refused(err)
		return false
	}
	id := st.ID()
	if !b.wants(id, st) {
		return false
	}
	if err := st.Verify(); err != nil {
		b.refused(err)
		return false
	}
	if id != b.id && b.cfg.Allow != nil && !b.cfg.Allow(st.Node, st.Key) {
		b.refused(fmt.Errorf("statement of node %q: its key may not speak for that name", st.Node))
		return false
	}
	st.Body = append([]byte(nil), st.Body...)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.wantsLocked(id, st) { // another goroutine may have been faster
		return false
	}
	if id == b.id {
		// A run of this node that the clock or a lost disk made it forget. Going
		// beyond it is the only way to be heard again.
		b.boot, b.seq = st.Boot+1, 0
		if b.own.Sig != nil {
			b.say()
		}
		return false
	}
	if len(b.nodes) >= maxStatements && b.nodes[id] == nil {
		b.refuse++
		return false
	}
	delete(b.gone, id)
	if e, ok := b.nodes[id]; st.Left != (ok && e.Value.(*noted).Left) {
		wake(b.leaves)
	}
	b.note(id, st)
	return true
}

func (b *Book) wants(id NodeID, st Statement) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wantsLocked(id, st)
}

func (b *Book) wantsLocked(id NodeID, st Statement) bool {
	if id == b.id {
		ahead := Statement{Boot: b.boot, Seq: b.seq, Sig: b.own.Sig}
		return st.Boot != ^uint64(0) && st.Newer(ahead)
	}
	if e, ok := b.nodes[id]; ok {
		return st.Newer(e.Value.(*noted).Statement)
	}
	if g, ok := b.gone[id]; ok {
		return st.Newer(g.Statement)
	}
	return true
}

// refused counts what was not taken. One line per statement would let a peer
// fill the disk, hence debug.
func (b *Book) refused(err error) {
	b.mu.Lock()
	b.refuse++
	b.mu.Unlock()
	b.cfg.Log.Debug("statement refused", "err", err)
}

// Refused returns how many statements were refused so far.
func (b *Book) Refused() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refuse
}

// Forget drops what the node of that name said, whatever its key. The same word
// is not taken again; a newer one is.
func (b *Book) Forget(name string) {
	b.drop(func(n *noted) bool { return n.Node == name })
}

// Prune drops statements older than 24 h of nodes that keep does not vouch for.
func (b *Book) Prune(keep func(name string, id NodeID) bool) {
	old := time.Now().Add(-statementLife)
	b.drop(func(n *noted) bool { return n.at.Before(old) && !keep(n.Node, n.ID()) })
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, g := range b.gone {
		if g.at.Before(old.Add(-6 * statementLife)) {
			delete(b.gone, id)
		}
	}
}

func (b *Book) drop(match func(*noted) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, e := range b.nodes {
		n := e.Value.(*noted)
		if id == b.id || !match(n) {
			continue
		}
		b.order.Remove(e)
		delete(b.nodes, id)
		b.clock++
		b.dropped = b.clock
		if len(b.gone) < maxStatements {
			g := *n
			g.Body, g.at = nil, time.Now()
			b.gone[id] = g
		}
		wake(b.changed)
	}
}

// wake signals c, which has capacity 1, without ever blocking.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
