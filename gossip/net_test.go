package gossip

import (
	"context"
	"errors"
	"net"
	goruntime "runtime"
	"strings"
	"testing"
	"time"
)

// nopSource holds nothing and wants nothing.
type nopSource struct{}

func (nopSource) Root() Hash                                  { return Hash{} }
func (nopSource) BucketHashes() [Buckets]Hash                 { return [Buckets]Hash{} }
func (nopSource) Items([]uint8) []Item                        { return nil }
func (nopSource) Wants(Item) bool                             { return false }
func (nopSource) Body(string, Hash) ([]byte, bool)            { return nil, false }
func (nopSource) Offer(context.Context, []byte) (bool, error) { return false, nil }

// nopExchanger reaches nobody.
type nopExchanger struct{}

var errNobody = errors.New("nobody there")

func (nopExchanger) BucketHashes(context.Context, Member) ([Buckets]Hash, error) {
	return [Buckets]Hash{}, errNobody
}
func (nopExchanger) Items(context.Context, Member, []uint8) ([]Item, error) { return nil, errNobody }
func (nopExchanger) Body(context.Context, Member, string, Hash) ([]byte, error) {
	return nil, errNobody
}
func (nopExchanger) Statements(context.Context, Member, string, uint64, []Statement) (Page, error) {
	return Page{}, errNobody
}

// freeAddr returns an address that nothing listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func realRing(t *testing.T, name, bind string, change func(*Config)) *Ring {
	t.Helper()
	book := testBook(name, 1)
	cfg := Config{
		Name: name, ID: book.ID(), Label: "feed", Keys: [][]byte{make([]byte, 32)}, Bind: bind, PeerAddr: ":7947",
		Source: nopSource{}, Exchanger: nopExchanger{}, Book: book, Version: "test",
	}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs r until the returned function is called, which returns Run's error.
func run(t *testing.T, r *Ring) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(cancel)
	return func() error { cancel(); return <-done }
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Over real sockets: two meet by a seed's name, resolved anew at every attempt.
func TestRealSockets(t *testing.T) {
	aAddr, bAddr := freeAddr(t), freeAddr(t)
	a := realRing(t, "a", aAddr, nil)
	asked := 0
	_, port, _ := net.SplitHostPort(aAddr)
	b := realRing(t, "b", bAddr, func(c *Config) {
		c.Seeds = []string{"seed.ring:" + port}
		c.Resolve = func(_ context.Context, host string) ([]string, error) {
			if asked++; host != "seed.ring" || asked < 3 {
				return nil, errors.New("no such host")
			}
			return []string{"127.0.0.1"}, nil
		}
	})
	stopA, stopB := run(t, a), run(t, b)
	eventually(t, "they meet", func() bool { return a.NumAlive() == 2 && b.NumAlive() == 2 })
	ms := a.Members()
	if len(ms) != 2 || ms[1].Name != "b" || ms[1].Addr != bAddr || ms[1].Version != "test" || !strings.HasPrefix(ms[1].PeerAddr, "127.0.0.1:") {
		t.Errorf("members: %+v", ms)
	}
	if a.Self().Addr != aAddr || a.Self().State != Alive {
		t.Errorf("self: %+v", a.Self())
	}
	for _, stop := range []func() error{stopA, stopB} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = realRing(t, "a", l.Addr().String(), nil).Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "is taken") || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("a taken port: %v", err)
	}
}

// An address that this machine does not have may still come, as at boot.
func TestAbsentAddress(t *testing.T) {
	r := realRing(t, "a", "192.0.2.77:7946", nil)
	stop := run(t, r)
	eventually(t, "it says what it waits for", func() bool {
		return strings.Contains(strings.Join(r.Notes(), " "), "waiting to take part in the ring")
	})
	if err := stop(); err != nil {
		t.Errorf("stopped while waiting: %v", err)
	}
}

// A peer that takes connections and says nothing, and one that is not there at
// all, do not hold up the end, and nothing is left running after it.
func TestStopsAtOnce(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	before := goruntime.NumGoroutine()
	r := realRing(t, "a", freeAddr(t), func(c *Config) { c.Peers = []string{mute.Addr().String(), "192.0.2.1:7946"} })
	stop := run(t, r)
	eventually(t, "it starts", func() bool { return r.list() != nil })
	time.Sleep(300 * time.Millisecond) // it is joining by now
	begin := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("stopping took %s", took)
	}
	eventually(t, "all goroutines end", func() bool { return goruntime.NumGoroutine() <= before })
}

// A machine that boots before its network is up has nothing to announce yet: a
// node announced at 127.0.0.1 would be looked for there for ever.
func TestFirstIP(t *testing.T) {
	for _, c := range []struct {
		name   string
		addrs  []string
		v4only bool
		want   string
	}{
		{"no network yet", []string{"127.0.0.1/8", "::1/128"}, false, ""},
		{"only what one link knows", []string{"127.0.0.1/8", "fe80::1/64"}, false, ""},
		{"an address", []string{"127.0.0.1/8", "10.0.0.7/24", "fd00::7/64"}, false, "10.0.0.7"},
		{"IPv6 only", []string{"::1/128", "fd00::7/64"}, false, "fd00::7"},
		{"listening on IPv4 only", []string{"::1/128", "fd00::7/64", "10.0.0.7/24"}, true, "10.0.0.7"},
	} {
		var addrs []net.Addr
		for _, a := range c.addrs {
			ip, n, err := net.ParseCIDR(a)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		if got := firstIP(addrs, c.v4only); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The membership starts anew with another address only when the one that was
// told is gone and there is another to tell.
func TestMovedFrom(t *testing.T) {
	for _, c := range []struct {
		name, self string
		addrs      []string
		want       bool
	}{
		{"where it was", "10.0.0.7", []string{"127.0.0.1/8", "10.0.0.7/24"}, false},
		{"one more", "10.0.0.7", []string{"127.0.0.1/8", "10.0.0.9/24", "10.0.0.7/24"}, false},
		{"another", "10.0.0.7", []string{"127.0.0.1/8", "10.0.0.9/24"}, true},
		{"another family", "10.0.0.7", []string{"127.0.0.1/8", "fd00::7/64"}, true},
		{"none", "10.0.0.7", []string{"127.0.0.1/8", "fe80::1/64"}, false},
		{"a name", "web-1", []string{"127.0.0.1/8", "10.0.0.9/24"}, false},
	} {
		var addrs []net.Addr
		for _, a := range c.addrs {
			ip, n, err := net.ParseCIDR(a)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		if got := movedFrom(net.ParseIP(c.self), addrs); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
