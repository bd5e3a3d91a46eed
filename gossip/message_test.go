package gossip

import (
	"bytes"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
)

func testItem(key string) Item {
	return Item{Key: key, Generation: 1<<63 + 5, Digest: Hash{1, 2, 3}, Signers: Hash{31: 9}}
}

func TestMessages(t *testing.T) {
	h := hint{Teller: "web-1", Items: []Item{testItem("daemon/a"), testItem("control/forget.web-2")}}
	got, err := decodeHint(encodeHint(h))
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("hint came back as %+v, %v", got, err)
	}
	s := summary{Root: Hash{5}, Name: "web-1"}
	gs, err := decodeSummary(encodeSummary(s))
	if err != nil || gs != s {
		t.Errorf("summary came back as %+v, %v", gs, err)
	}
	meta, err := encodeMeta(NodeID{7}, "10.0.0.1:7947", "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	id, peer, version, err := decodeMeta(meta)
	if err != nil || id != (NodeID{7}) || peer != "10.0.0.1:7947" || version != "v1.2.3" {
		t.Errorf("metadata came back as %s %s %s, %v", id, peer, version, err)
	}
	if _, err := encodeMeta(NodeID{}, strings.Repeat("x", 256), ""); err == nil {
		t.Error("a peer address that does not fit was taken")
	}
}

// The longest hint stays below what the ring can broadcast, the longest direct
// message and metadata below a packet.
func TestMessageSizes(t *testing.T) {
	teller := strings.Repeat("n", MaxNodeName)
	key := strings.Repeat("k", 16) + "/" + strings.Repeat("n", 63)
	if n := len(encodeHint(hint{Teller: teller, Items: []Item{testItem(key)}})); n > maxHint {
		t.Errorf("a hint takes %d bytes, want at most %d", n, maxHint)
	}
	items := make([]Item, maxDirect)
	for i := range items {
		items[i] = testItem(strings.Repeat("k", maxKey))
	}
	if n := len(encodeHint(hint{Teller: teller, Items: items})); n > 1300 {
		t.Errorf("a direct message takes %d bytes, a packet 1,400 with memberlist's overhead", n)
	}
	meta, err := encodeMeta(NodeID{}, strings.Repeat("a", 255), strings.Repeat("v", 64))
	if err != nil || len(meta) > memberlist.MetaMaxSize {
		t.Errorf("metadata takes %d bytes, %v", len(meta), err)
	}
}

// A message cut at any place is refused, never half believed.
func TestMessagesCut(t *testing.T) {
	h := encodeHint(hint{Teller: "web-1", Items: []Item{testItem("daemon/a")}})
	for i := range h {
		if got, err := decodeHint(h[:i]); err == nil {
			t.Errorf("cut at %d: %+v", i, got)
		}
	}
	if _, err := decodeHint(append(h, 0)); err == nil {
		t.Error("bytes after a hint were ignored")
	}
	s := encodeSummary(summary{Root: Hash{5}, Name: "web-1"})
	for i := range s {
		if got, err := decodeSummary(s[:i]); err == nil {
			t.Errorf("cut at %d: %+v", i, got)
		}
	}
	if _, err := decodeSummary(append(s, 1, 2, 3)); err != nil {
		t.Errorf("a newer agentd's longer summary: %v", err)
	}
	m, _ := encodeMeta(NodeID{7}, ":7947", "v1")
	for i := range m {
		if _, _, _, err := decodeMeta(m[:i]); err == nil {
			t.Errorf("metadata cut at %d was taken", i)
		}
	}
}

func TestMemberOf(t *testing.T) {
	for _, c := range []struct{ peer, want string }{
		{":7947", "10.0.0.1:7947"},             // no host: the gossip address's
		{"0.0.0.0:7947", "10.0.0.1:7947"},      // an address to bind to is none to dial
		{"[::]:7947", "10.0.0.1:7947"},         // the same
		{"192.0.2.9:1234", "192.0.2.9:1234"},   // behind a translation
		{"node-1.lan:7947", "node-1.lan:7947"}, // a name
	} {
		meta, err := encodeMeta(NodeID{1}, c.peer, "v1")
		if err != nil {
			t.Fatal(err)
		}
		m, err := memberOf(&memberlist.Node{Name: "a", Addr: net.IPv4(10, 0, 0, 1), Port: 7946, Meta: meta})
		if err != nil || m.PeerAddr != c.want || m.Addr != "10.0.0.1:7946" {
			t.Errorf("peer address %q became %+v, %v", c.peer, m, err)
		}
	}
	if _, err := memberOf(&memberlist.Node{Name: "a", Meta: []byte("x")}); err == nil {
		t.Error("metadata of another program was taken")
	}
}

func TestSplitAddr(t *testing.T) {
	for _, c := range []struct{ in, host, port string }{
		{"10.0.0.11", "10.0.0.11", "7946"},
		{"node-b:1234", "node-b", "1234"},
		{"node-b:", "node-b", "7946"},
		{"[2001:db8::1]", "2001:db8::1", "7946"},
		{"2001:db8::1", "2001:db8::1", "7946"},
		{"[2001:db8::1]:99", "2001:db8::1", "99"},
		{"", "", ""}, {"a:b:c", "", ""},
	} {
		host, port, err := splitAddr(c.in, DefaultPort)
		if (err != nil) != (c.host == "") || host != c.host || (err == nil && port != c.port) {
			t.Errorf("%q became %q %q, %v", c.in, host, port, err)
		}
	}
}

func FuzzHint(f *testing.F) {
	f.Add(encodeHint(hint{Teller: "web-1", Items: []Item{testItem("daemon/a")}}))
	f.Add([]byte{msgHint, 0, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHint(b)
		if err != nil {
			return
		}
		if got := encodeHint(h); !bytes.Equal(got, b) {
			t.Errorf("%x means %+v, which is %x", b, h, got)
		}
	})
}

func FuzzSummary(f *testing.F) {
	f.Add(encodeSummary(summary{Root: Hash{5}, Name: "web-1"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSummary(b)
		if err != nil {
			return
		}
		if got := encodeSummary(s); !bytes.HasPrefix(b, got) {
			t.Errorf("%x means %+v, which is %x", b, s, got)
		}
	})
}

func FuzzMeta(f *testing.F) {
	m, _ := encodeMeta(NodeID{7}, ":7947", "v1")
	f.Add(m)
	f.Fuzz(func(t *testing.T, b []byte) {
		id, peer, version, err := decodeMeta(b)
		if err != nil {
			return
		}
		got, err := encodeMeta(id, peer, version)
		if err != nil || !bytes.HasPrefix(b, got) {
			t.Errorf("%x is not what %s %q %q is written as: %v", b, id, peer, version, err)
		}
		_, _ = memberOf(&memberlist.Node{Name: "a", Addr: net.IPv4(10, 0, 0, 1), Meta: b})
	})
}
