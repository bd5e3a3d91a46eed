package peer

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	goruntime "runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/gossip"
)

func genHash() *rapid.Generator[gossip.Hash] {
	return rapid.Custom(func(t *rapid.T) gossip.Hash {
		return sha256.Sum256(rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(t, "seed"))
	})
}

func genStatement() *rapid.Generator[gossip.Statement] {
	return rapid.Custom(func(t *rapid.T) gossip.Statement {
		return gossip.Statement{
			Node: rapid.StringMatching(`[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?`).Draw(t, "node"),
			Key:  rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"),
			Boot: rapid.Uint64().Draw(t, "boot"),
			Seq:  rapid.Uint64().Draw(t, "seq"),
			Left: rapid.Bool().Draw(t, "left"),
			Body: rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "body"),
			Sig:  rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "sig"),
		}
	})
}

// What is written is read back as it was, and nothing of it cut or longer.
func TestWireRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hashes [gossip.Buckets]gossip.Hash
		for _, i := range rapid.SliceOf(rapid.Byte()).Draw(t, "filled") {
			hashes[i] = genHash().Draw(t, "hash")
		}
		b := appendSummary(nil, &hashes)
		if got, err := parseSummary(b); err != nil || got != hashes {
			t.Fatalf("summary: %v", err)
		}
		wantStrict(t, "summary", b, func(b []byte) error { _, err := parseSummary(b); return err })

		items := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) gossip.Item {
			return gossip.Item{
				Key:        rapid.StringMatching(`[a-z]{1,16}/[a-z0-9]{1,63}`).Draw(t, "key"),
				Generation: rapid.Uint64().Draw(t, "generation"),
				Digest:     genHash().Draw(t, "digest"), Signers: genHash().Draw(t, "signers"),
			}
		}), 0, 5).Draw(t, "items")
		b = appendItems(nil, items)
		if got, err := parseItems(b); err != nil || len(got)+len(items) > 0 && !reflect.DeepEqual(got, items) {
			t.Fatalf("items: %v: %+v", err, got)
		}
		wantStrict(t, "items", b, func(b []byte) error { _, err := parseItems(b); return err })

		list := rapid.SliceOfN(genStatement(), 0, 4).Draw(t, "statements")
		e := exchange{Instance: rapid.StringN(0, 16, maxInstance).Draw(t, "instance"), Cursor: rapid.Uint64().Draw(t, "cursor"), Push: list}
		b = appendExchange(nil, e)
		got, err := parseExchange(b)
		if err != nil || got.Instance != e.Instance || got.Cursor != e.Cursor || !sameStatements(got.Push, list) {
			t.Fatalf("exchange: %v: %+v", err, got)
		}
		wantStrict(t, "exchange", b, func(b []byte) error { _, err := parseExchange(b); return err })

		p := gossip.Page{Instance: e.Instance, Cursor: e.Cursor, More: rapid.Bool().Draw(t, "more"), Statements: list}
		b = appendPage(nil, p)
		page, err := parsePage(b)
		if err != nil || page.Instance != p.Instance || page.Cursor != p.Cursor || page.More != p.More || !sameStatements(page.Statements, list) {
			t.Fatalf("page: %v: %+v", err, page)
		}
		wantStrict(t, "page", b, func(b []byte) error { _, err := parsePage(b); return err })
	})
}

func wantStrict(t *rapid.T, what string, b []byte, parse func([]byte) error) {
	cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
	if parse(b[:cut]) == nil {
		t.Fatalf("%s cut at %d of %d was read", what, cut, len(b))
	}
	if parse(append(bytes.Clone(b), 0)) == nil {
		t.Fatalf("%s with a byte too many was read", what)
	}
}

func sameStatements(x, y []gossip.Statement) bool {
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		a, b := x[i], y[i]
		if a.Node != b.Node || a.Boot != b.Boot || a.Seq != b.Seq || a.Left != b.Left ||
			!bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Body, b.Body) || !bytes.Equal(a.Sig, b.Sig) {
			return false
		}
	}
	return true
}

// A count that the message can't hold takes no memory.
func TestLyingCounts(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	small := append([]byte{0xff, 0xff, 0x3f}, make([]byte, 1<<16)...)
	cases := map[string]func() error{
		"items": func() error { _, err := parseItems(huge); return err },
		"many small items": func() error {
			_, err := parseItems(small)
			return err
		},
		"statements": func() error { _, err := parseExchange(append([]byte{0, 0}, huge...)); return err },
		"page":       func() error { _, err := parsePage(append([]byte{0, 0, 0}, huge...)); return err },
		"instance":   func() error { _, err := parseExchange(huge); return err },
	}
	for name, parse := range cases {
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		err := parse()
		goruntime.ReadMemStats(&after)
		if d := after.TotalAlloc - before.TotalAlloc; err == nil || d > 16<<10 {
			t.Errorf("%s: error %v, %d bytes allocated", name, err, d)
		}
	}
}

func TestStatementLimits(t *testing.T) {
	good := gossip.Statement{Node: "a", Key: make([]byte, 32), Sig: make([]byte, 64), Body: make([]byte, gossip.MaxStatementBody)}
	try := func(change func(*gossip.Statement)) error {
		st := good
		change(&st)
		_, err := parseExchange(appendExchange(nil, exchange{Push: []gossip.Statement{st}}))
		return err
	}
	if err := try(func(*gossip.Statement) {}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*gossip.Statement){
		"large body": func(st *gossip.Statement) { st.Body = make([]byte, gossip.MaxStatementBody+1) },
		"long name":  func(st *gossip.Statement) { st.Node = strings.Repeat("a", maxName+1) },
		"no name":    func(st *gossip.Statement) { st.Node = "" },
		"odd name":   func(st *gossip.Statement) { st.Node = "a\nb" },
		"short key":  func(st *gossip.Statement) { st.Key = st.Key[:31] },
		"long sig":   func(st *gossip.Statement) { st.Sig = make([]byte, 65) },
	} {
		if try(change) == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

func FuzzSummary(f *testing.F) {
	hashes := [gossip.Buckets]gossip.Hash{3: {1}, 255: {2}}
	f.Add(appendSummary(nil, &hashes))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parseSummary(b); err == nil {
			again := appendSummary(nil, &got)
			if back, err := parseSummary(again); err != nil || back != got {
				t.Errorf("read back: %v", err)
			}
		}
	})
}

func FuzzItems(f *testing.F) {
	f.Add(appendItems(nil, []gossip.Item{{Key: "daemon/x", Generation: 1}, {Key: "blob/y", Generation: 1 << 63}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseItems(b)
		if err != nil {
			return
		}
		if back, err := parseItems(appendItems(nil, got)); err != nil || !reflect.DeepEqual(back, got) {
			t.Errorf("read back: %v", err)
		}
	})
}

func FuzzExchange(f *testing.F) {
	st := gossip.Statement{Node: "a", Key: make([]byte, 32), Sig: make([]byte, 64), Boot: 3, Seq: 4, Body: []byte("x"), Left: true}
	f.Add(appendExchange(nil, exchange{"abc", 7, []gossip.Statement{st, st}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseExchange(b)
		if err != nil {
			return
		}
		back, err := parseExchange(appendExchange(nil, got))
		if err != nil || back.Instance != got.Instance || back.Cursor != got.Cursor || !sameStatements(back.Push, got.Push) {
			t.Errorf("read back: %v", err)
		}
	})
}

func FuzzPage(f *testing.F) {
	st := gossip.Statement{Node: "a", Key: make([]byte, 32), Sig: make([]byte, 64), Body: []byte("x")}
	f.Add(appendPage(nil, gossip.Page{Instance: "abc", Cursor: 9, More: true, Statements: []gossip.Statement{st}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parsePage(b)
		if err != nil {
			return
		}
		for i := range got.Statements {
			if !sound(&got.Statements[i]) {
				t.Errorf("statement %d has impossible sizes", i)
			}
		}
		back, err := parsePage(appendPage(nil, got))
		if err != nil || back.More != got.More || !sameStatements(back.Statements, got.Statements) {
			t.Errorf("read back: %v", err)
		}
	})
}

func FuzzBindings(f *testing.F) {
	f.Add(formatBindings(map[string]binding{"a": {ID: nodeID(1)}, "b": {ID: nodeID(2), Released: true}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if names, err := parseBindings(b); err == nil {
			if back, err := parseBindings(formatBindings(names)); err != nil || !reflect.DeepEqual(back, names) {
				t.Errorf("read back: %v", err)
			}
		}
	})
}

func FuzzNodeKey(f *testing.F) {
	f.Add(formatNodeKey(make([]byte, 32)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if seed, err := parseNodeKey(b); err == nil && !bytes.Equal(bytes.TrimSpace(formatNodeKey(seed)), bytes.TrimSpace(b)) {
			t.Errorf("%q is another key", b)
		}
	})
}

func FuzzProblem(f *testing.F) {
	f.Add("conflict", "a", strings.Repeat("0", 32), strings.Repeat("1", 32), "x\x1b\n")
	f.Fuzz(func(t *testing.T, code, name, bound, seen, detail string) {
		err := problem{Code: code, Name: name, Bound: bound, Seen: seen, Detail: detail}.err("peer")
		if err == nil {
			t.Fatal("no error")
		}
		if strings.ContainsAny(err.Error(), "\x00\x1b\r\n") {
			t.Errorf("%q may break a log or a terminal", err)
		}
	})
}
