package gossip

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func testBook(name string, boot uint64) *Book {
	return NewBook(BookConfig{Name: name, Key: testKey(name), Boot: boot})
}

func mustSet(t testing.TB, b *Book, body string) Statement {
	t.Helper()
	if err := b.Set([]byte(body)); err != nil {
		t.Fatal(err)
	}
	st, ok := b.Own()
	if !ok {
		t.Fatal("no own statement after Set")
	}
	return st
}

func TestNodeID(t *testing.T) {
	pub := testKey("a").Public().(ed25519.PublicKey)
	other := testKey("b").Public().(ed25519.PublicKey)
	ids := map[NodeID]string{}
	for what, id := range map[string]NodeID{
		"a": MakeNodeID("a", pub), "another name": MakeNodeID("b", pub), "another key": MakeNodeID("a", other),
	} {
		if prev, ok := ids[id]; ok {
			t.Errorf("%s has the id of %s", what, prev)
		}
		ids[id] = what
	}
	// Bindings on disk and rosters in records hold this id: it may never change.
	if got, want := MakeNodeID("a", pub).String(), "874f903f273a24896a5370306989616d"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
}

func TestBookTakesOnlyNewer(t *testing.T) {
	owner, b := testBook("a", 1), testBook("b", 1)
	one := mustSet(t, owner, "one")
	two := mustSet(t, owner, "two")
	rebooted := mustSet(t, testBook("a", 2), "three")
	for _, step := range []struct {
		what string
		st   Statement
		n    int
		body string
	}{
		{"the second", two, 1, "two"},
		{"the first comes late", one, 0, "two"},
		{"the second again", two, 0, "two"},
		{"the next run, whatever its count", rebooted, 1, "three"},
		{"the run before", two, 0, "three"},
	} {
		if n := b.Accept([]Statement{step.st}); n != step.n {
			t.Errorf("%s: accepted %d, want %d", step.what, n, step.n)
		}
		if st, _ := b.Get(owner.ID()); string(st.Body) != step.body {
			t.Errorf("%s: holds %q, want %q", step.what, st.Body, step.body)
		}
	}
}

// Each field is covered by the signature, and a shape that cannot be is refused.
func TestStatementIsSigned(t *testing.T) {
	good := mustSet(t, testBook("a", 7), "body")
	if err := good.Verify(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Statement){
		"node":          func(s *Statement) { s.Node = "b" },
		"no node":       func(s *Statement) { s.Node = "" },
		"key":           func(s *Statement) { s.Key = testKey("b").Public().(ed25519.PublicKey) },
		"short key":     func(s *Statement) { s.Key = s.Key[:31] },
		"boot":          func(s *Statement) { s.Boot++ },
		"seq":           func(s *Statement) { s.Seq++ },
		"left":          func(s *Statement) { s.Left = true },
		"body":          func(s *Statement) { s.Body = []byte("bodY") },
		"huge body":     func(s *Statement) { s.Body = make([]byte, MaxStatementBody+1) },
		"signature":     func(s *Statement) { s.Sig = bytes.Repeat([]byte{1}, ed25519.SignatureSize) },
		"no signature":  func(s *Statement) { s.Sig = nil },
		"long name":     func(s *Statement) { s.Node = string(make([]byte, MaxNodeName+1)) },
		"body and node": func(s *Statement) { s.Node, s.Body = "ab", []byte("ody") },
	} {
		st := good
		change(&st)
		if st.Verify() == nil {
			t.Errorf("%s changed, and it still verifies", what)
		}
		if b := testBook("c", 1); b.Accept([]Statement{st}) != 0 || b.Refused() != 1 {
			t.Errorf("%s changed, and a book took it", what)
		}
	}
}

func TestBookAsksWhoMaySpeak(t *testing.T) {
	b := NewBook(BookConfig{Name: "b", Key: testKey("b"), Allow: func(node string, _ ed25519.PublicKey) bool { return node != "a" }})
	sts := []Statement{mustSet(t, testBook("a", 1), "x"), mustSet(t, testBook("c", 1), "x")}
	if n := b.Accept(sts); n != 1 {
		t.Errorf("accepted %d, want 1", n)
	}
}

// Two runs of one key at once (a cloned machine): all books keep the same word.
func TestEqualNumbersConverge(t *testing.T) {
	x, y := mustSet(t, testBook("a", 1), "x"), mustSet(t, testBook("a", 1), "y")
	p, q := testBook("p", 1), testBook("q", 1)
	p.Accept([]Statement{x, y})
	q.Accept([]Statement{y, x})
	sp, _ := p.Get(x.ID())
	sq, _ := q.Get(x.ID())
	if !bytes.Equal(sp.Sig, sq.Sig) {
		t.Errorf("one keeps %q, the other %q", sp.Body, sq.Body)
	}
}

// A node whose clock or counter went back speaks up again as soon as it meets
// what it said before.
func TestBookOutbidsItsOwnPast(t *testing.T) {
	past := testBook("a", 9)
	mustSet(t, past, "before")
	old := mustSet(t, past, "long ago")
	now := testBook("a", 3)
	mustSet(t, now, "today")
	b := testBook("b", 1)
	b.Accept([]Statement{old})
	st, _ := now.Own()
	if b.Accept([]Statement{st}) != 0 {
		t.Fatal("the past is newer; this tests nothing")
	}
	now.Accept([]Statement{old})
	st, _ = now.Own()
	if string(st.Body) != "today" || b.Accept([]Statement{st}) != 1 {
		t.Errorf("still unheard: %d/%d %q", st.Boot, st.Seq, st.Body)
	}
	fresh := testBook("a", 3) // the same before it said anything
	fresh.Accept([]Statement{old})
	if st := mustSet(t, fresh, "today"); !st.Newer(old) {
		t.Errorf("a first word of %d/%d is not heard", st.Boot, st.Seq)
	}
}

func TestPagesByCursor(t *testing.T) {
	b := testBook("me", 1)
	const n = 25
	var sts []Statement
	for i := range n {
		sts = append(sts, mustSet(t, testBook(fmt.Sprintf("n%d", i), 1), "x"))
	}
	b.Accept(sts)
	seen := map[string]int{}
	var p Page
	for rounds := 0; rounds == 0 || p.More; rounds++ {
		p = b.Page(p.Instance, p.Cursor, 10)
		if len(p.Statements) > 10 || rounds > 3 {
			t.Fatalf("round %d brought %d", rounds, len(p.Statements))
		}
		for _, st := range p.Statements {
			seen[st.Node]++
		}
	}
	if len(seen) != n {
		t.Errorf("pages brought %d nodes, want %d", len(seen), n)
	}
	if p = b.Page(p.Instance, p.Cursor, 10); len(p.Statements) != 0 || p.More {
		t.Errorf("nothing new, yet %d", len(p.Statements))
	}
	mustSet(t, b, "mine")
	if p = b.Page(p.Instance, p.Cursor, 10); len(p.Statements) != 1 || p.Statements[0].Node != "me" {
		t.Errorf("after a change: %+v", p.Statements)
	}
	if q := b.Page("another run", p.Cursor, 0); len(q.Statements) != n+1 {
		t.Errorf("an unknown instance gets %d, want all", len(q.Statements))
	}
	if q := b.Page(p.Instance, p.Cursor+1000, 0); len(q.Statements) != n+1 {
		t.Errorf("an impossible cursor gets %d, want all", len(q.Statements))
	}
	if q := b.Page(NoPull, 0, 0); len(q.Statements) != 0 || q.More {
		t.Errorf("who asks for nothing gets %d", len(q.Statements))
	}
}

// A page is bounded in bytes, too, but never empty while there is more.
func TestPagesBySize(t *testing.T) {
	b := testBook("me", 1)
	for i := range 20 {
		b.Accept([]Statement{mustSet(t, testBook(fmt.Sprintf("n%d", i), 1), string(make([]byte, MaxStatementBody)))})
	}
	total := 0
	var p Page
	for more := true; more; more = p.More {
		p = b.Page(p.Instance, p.Cursor, 0)
		size := 0
		for _, st := range p.Statements {
			size += len(st.Body)
		}
		if size > maxPageBytes || len(p.Statements) == 0 {
			t.Fatalf("a page of %d statements and %d bytes", len(p.Statements), size)
		}
		total += len(p.Statements)
	}
	if total != 20 {
		t.Errorf("pages brought %d, want 20", total)
	}
}

func TestBookSays(t *testing.T) {
	b := testBook("a", 1)
	if err := b.Set(make([]byte, MaxStatementBody+1)); err == nil {
		t.Error("a body that no peer takes was taken")
	}
	one := mustSet(t, b, "x")
	if again := mustSet(t, b, "x"); again.Seq != one.Seq {
		t.Error("saying the same again is no news")
	}
	b.SetLeft(true)
	st, _ := b.Own()
	if !st.Left || !st.Newer(one) || string(st.Body) != "x" || st.Verify() != nil {
		t.Errorf("after leaving: %+v", st)
	}
	select {
	case <-b.Changed():
	default:
		t.Error("nobody was woken")
	}
}

// What is dropped stays dropped until the node speaks again, though peers still
// hold the old word.
func TestForgetAndPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testBook("a", 1)
		old := mustSet(t, a, "old")
		b := testBook("b", 1)
		mustSet(t, b, "me")
		b.Accept([]Statement{old})
		b.Forget("a")
		if _, ok := b.Get(a.ID()); ok || b.Accept([]Statement{old}) != 0 {
			t.Error("a forgotten word came back")
		}
		if b.Accept([]Statement{mustSet(t, a, "new")}) != 1 {
			t.Error("a new word of a forgotten node is not heard")
		}
		time.Sleep(23 * time.Hour)
		b.Prune(func(string, NodeID) bool { return false })
		if len(b.All()) != 2 {
			t.Errorf("%d statements after 23 hours, want 2", len(b.All()))
		}
		time.Sleep(2 * time.Hour)
		b.Prune(func(name string, _ NodeID) bool { return name == "a" })
		if len(b.All()) != 2 {
			t.Error("a member's statement was dropped")
		}
		b.Prune(func(string, NodeID) bool { return false })
		if all := b.All(); len(all) != 1 || all[0].Node != "b" {
			t.Errorf("after a day: %d statements, want one's own", len(all))
		}
	})
}
