package gossip

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackoff(time.Second, 10*time.Second, 3)
		for i, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
			if !b.ready("a") {
				t.Fatalf("failure %d: not ready", i)
			}
			if got := b.fail("a"); got != want*time.Second {
				t.Errorf("failure %d waits %s, want %ds", i, got, want)
			}
			time.Sleep(want*time.Second - time.Millisecond)
			if b.ready("a") {
				t.Errorf("failure %d: ready too early", i)
			}
			time.Sleep(time.Millisecond)
		}
		for range 100 { // far beyond what a shift can hold
			if got := b.fail("a"); got != 10*time.Second {
				t.Fatalf("waits %s", got)
			}
		}
		b.reset("a")
		if !b.ready("a") || b.fail("a") != time.Second {
			t.Error("a success forgets nothing")
		}
		for i := range 10 {
			b.fail(fmt.Sprint(i))
		}
		if len(b.m) > 3 {
			t.Errorf("holds %d verdicts, limit 3", len(b.m))
		}
	})
}

func TestKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKnown([]string{"a:1", "b:1"})
		if _, ok := k.unsaved(); ok {
			t.Error("what was loaded needs no saving")
		}
		k.add("c:1")
		if got, ok := k.unsaved(); !ok || !slices.Equal(got, []string{"a:1", "b:1", "c:1"}) {
			t.Errorf("to save: %v %v", got, ok)
		}
		k.add("c:1")
		if _, ok := k.unsaved(); ok {
			t.Error("saved twice")
		}
		for i := range maxKnown {
			time.Sleep(time.Second)
			k.add(fmt.Sprintf("x%d:1", i))
		}
		got := k.list()
		if len(got) != maxKnown || slices.Contains(got, "a:1") || !slices.Contains(got, fmt.Sprintf("x%d:1", maxKnown-1)) {
			t.Errorf("%d addresses; the oldest must go first", len(got))
		}
		k.drop("x0:1")
		if slices.Contains(k.list(), "x0:1") {
			t.Error("dropped and still there")
		}
	})
}

func TestNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		logged := 0
		for range 100 {
			if n.add("key 10.0.0.9", "wrong key") {
				logged++
			}
			time.Sleep(time.Second)
		}
		if logged != 1 || !slices.Equal(n.list(), []string{"wrong key"}) {
			t.Errorf("logged %d times, notes %v", logged, n.list())
		}
		time.Sleep(noteLife)
		if len(n.list()) != 0 {
			t.Errorf("stale notes: %v", n.list())
		}
		time.Sleep(noteMute)
		if !n.add("key 10.0.0.9", "wrong key") {
			t.Error("the next trouble, an hour later, is not logged")
		}
		for i := range 10 * maxNotes { // packets with made-up senders
			n.add(fmt.Sprint("key ", i), "x")
		}
		if len(n.list()) > maxNotes {
			t.Errorf("%d notes", len(n.list()))
		}
		n.clear("key 10.0.0.9")
		if slices.Contains(n.list(), "wrong key") {
			t.Error("cleared and still there")
		}
	})
}

// A budget holds whoever tells, and one hint is followed once however often it is told.
func TestHintsAreBounded(t *testing.T) {
	r := &Ring{cfg: Config{Name: "me"}}
	f := newFetcher(r)
	for i := range 10 * maxWanted {
		f.add(hint{Teller: fmt.Sprint("n", i%50), Items: []Item{{Key: "daemon/x", Generation: uint64(i), Digest: Hash{byte(i), byte(i >> 8)}}}})
	}
	if len(f.queue) > maxWanted {
		t.Errorf("%d hints wait, want at most %d", len(f.queue), maxWanted)
	}
	f = newFetcher(r)
	for i := range 100 {
		f.add(hint{Teller: fmt.Sprint("n", i), Items: []Item{{Key: "daemon/x"}}})
	}
	if len(f.queue) != 1 || len(f.queue[0].tellers) != maxTellers {
		t.Errorf("%d to follow, %d tellers", len(f.queue), len(f.queue[0].tellers))
	}
	f.add(hint{Teller: "me", Items: []Item{{Key: "daemon/y"}}})
	if len(f.queue) != 1 {
		t.Error("followed itself")
	}
	synctest.Test(t, func(t *testing.T) {
		followed := 0
		for range 10 * hintBudget {
			if f.afford() {
				followed++
			}
		}
		if followed > hintBudget {
			t.Errorf("%d hints followed in a second, want at most %d", followed, hintBudget)
		}
		time.Sleep(time.Second)
		if !f.afford() {
			t.Error("nothing to spend in the next second")
		}
	})
}

// Neighbours are stable: one member that comes or goes changes one of them at most.
func TestNeighboursAreStable(t *testing.T) {
	r := &Ring{cfg: Config{ID: NodeID{1}}}
	tk := newTalker(r)
	var ms []Member
	for i := range 50 {
		ms = append(ms, Member{Name: fmt.Sprint("n", i), ID: NodeID{2, byte(i)}})
	}
	names := func(ms []Member) string {
		var out []string
		for _, m := range ms {
			out = append(out, m.Name)
		}
		return strings.Join(out, " ")
	}
	before := tk.near(ms)
	for i := range ms {
		after := tk.near(append(slices.Clone(ms[:i]), ms[i+1:]...))
		same := 0
		for _, m := range after {
			if slices.ContainsFunc(before, func(o Member) bool { return o.ID == m.ID }) {
				same++
			}
		}
		if same < neighbours-1 {
			t.Errorf("without %s: %s became %s", ms[i].Name, names(before), names(after))
		}
	}
}

func TestConfigCheck(t *testing.T) {
	good := func() Config {
		return Config{Name: "a", Keys: [][]byte{make([]byte, 32)}, Bind: "127.0.0.1:0", Source: nopSource{}, Exchanger: nopExchanger{}, Book: testBook("a", 1)}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"node name":   func(c *Config) { c.Name = "" },
		"no ring key": func(c *Config) { c.Keys = nil },
		"want 32":     func(c *Config) { c.Keys = [][]byte{make([]byte, 31)} },
		"required":    func(c *Config) { c.Source = nil },
		"too long":    func(c *Config) { c.PeerAddr = strings.Repeat("x", 300) },
		"exceeds 255": func(c *Config) { c.Label = strings.Repeat("x", 256) },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that says %q, got %v", want, err)
		}
	}
}

// What memberlist only says in its log is put in words. The lines are its own,
// of the version in go.mod.
func TestLogLines(t *testing.T) {
	for _, c := range []struct{ line, note string }{
		{"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.9:7946", "a packet from 10.0.0.9 could not be decrypted: another ring key?"},
		{"[ERR] memberlist: failed to receive: no installed keys could decrypt the message from=10.0.0.9:41234", "a packet from 10.0.0.9 could not be decrypted: another ring key?"},
		{"[ERR] memberlist: failed to receive: encryption is configured but remote state is not encrypted from=10.0.0.9:41234", "a packet from 10.0.0.9 was not encrypted: is something else sending to this port?"},
		{"[ERR] memberlist: discarding packet with unacceptable label \"beef\": from=10.0.0.9:7946", "a packet from 10.0.0.9 belongs to another ring"},
		{"[WARN] memberlist: Was able to connect to web-2 over TCP but UDP probes failed, network may be misconfigured", "node web-2 answers over TCP but not over UDP: does a firewall drop UDP between us?"},
		{"[DEBUG] memberlist: Stream connection from=10.0.0.9:41234", ""},
	} {
		r, err := New(Config{Name: "a", Keys: [][]byte{make([]byte, 32)}, Source: nopSource{}, Exchanger: nopExchanger{}, Book: testBook("a", 1)})
		if err != nil {
			t.Fatal(err)
		}
		h := &hooks{r: r}
		for range 3 {
			h.logger().Println(c.line)
		}
		if got := strings.Join(r.Notes(), "|"); got != c.note {
			t.Errorf("%s\nbecame %q\nwant   %q", c.line, got, c.note)
		}
	}
}

// Whoever follows the news holds at the end what it would by reading all.
func TestNews(t *testing.T) {
	b := NewBook(BookConfig{Name: "me", Key: testKey("me")})
	held := map[NodeID]uint64{}
	var cursor uint64
	follow := func() (n int, whole bool) {
		sts, next, whole := b.News(cursor)
		cursor = next
		if whole {
			clear(held)
		}
		for _, st := range sts {
			held[st.ID()] = st.Seq
		}
		want := map[NodeID]uint64{}
		for _, st := range b.All() {
			want[st.ID()] = st.Seq
		}
		if !maps.Equal(held, want) {
			t.Errorf("holds %v, want %v", held, want)
		}
		return len(sts), whole
	}
	say := func(name string, seq uint64) {
		t.Helper()
		key := testKey(name)
		st := Statement{Node: name, Key: key.Public().(ed25519.PublicKey), Boot: 1, Seq: seq, Body: []byte{byte(seq)}}.sign(key)
		if b.Accept([]Statement{st}) != 1 {
			t.Errorf("%s/%d was not taken", name, seq)
		}
	}
	say("a", 1)
	say("b", 1)
	if n, whole := follow(); n != 2 || !whole {
		t.Errorf("the first time: %d, whole %t", n, whole)
	}
	if n, _ := follow(); n != 0 {
		t.Errorf("without news: %d", n)
	}
	say("a", 2)
	if n, whole := follow(); n != 1 || whole {
		t.Errorf("one came: %d, whole %t", n, whole)
	}
	b.Forget("b")
	say("c", 1)
	if _, whole := follow(); !whole {
		t.Error("one was dropped, and that was not told")
	}
	if n, whole := follow(); n != 0 || whole {
		t.Errorf("and then: %d, whole %t", n, whole)
	}
}
