package peer

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/agentd/agentd/gossip"
)

// Limits bounds what callers can hold of a server at once. Beyond them it
// answers busy, or closes a connection that has not said who it is.
type Limits struct {
	Conns         int // connections, default 512
	ConnsPerIP    int // connections from one address (an IPv6 /64), default 128
	Requests      int // requests being served, default 128
	RequestsPerIP int // default 32: a member can make up names, but not addresses
	RequestsPerID int // default 8: one node has no use for more
	Pushes        int // records being verified and written at once, default 16
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Conns, 512)
	set(&l.ConnsPerIP, 128)
	set(&l.Requests, 128)
	set(&l.RequestsPerIP, 32)
	set(&l.RequestsPerID, 8)
	set(&l.Pushes, 16)
	return l
}

// counter counts holders by key, up to a limit each.
type counter[K comparable] struct {
	limit int
	n     map[K]int
}

func (c *counter[K]) full(k K) bool { return c.n[k] >= c.limit }

func (c *counter[K]) add(k K, d int) {
	if c.n[k] += d; c.n[k] == 0 {
		delete(c.n, k)
	}
}

// gate lets requests in, or not, without ever waiting.
type gate struct {
	limit int

	mu  sync.Mutex
	all int                    // guarded by mu
	ip  counter[netip.Prefix]  // guarded by mu
	id  counter[gossip.NodeID] // guarded by mu
}

func newGate(limit, perIP, perID int) *gate {
	return &gate{
		limit: limit,
		ip:    counter[netip.Prefix]{perIP, make(map[netip.Prefix]int)},
		id:    counter[gossip.NodeID]{perID, make(map[gossip.NodeID]int)},
	}
}

// enter reports whether one more may come in; if so, leave must follow.
func (g *gate) enter(ip netip.Prefix, id gossip.NodeID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.limit || g.ip.full(ip) || g.id.full(id) {
		return false
	}
	g.all++
	g.ip.add(ip, 1)
	g.id.add(id, 1)
	return true
}

func (g *gate) leave(ip netip.Prefix, id gossip.NodeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	g.ip.add(ip, -1)
	g.id.add(id, -1)
}

// crowded reports whether three quarters are taken.
func (g *gate) crowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all >= g.limit-g.limit/4
}

// prefixOf returns what counts as one address: an IPv4 address or, since a
// single machine owns all of it, an IPv6 /64.
func prefixOf(addr net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	length := ip.BitLen()
	if ip.Is6() {
		length = 64
	}
	p, _ := ip.Prefix(length) // the length fits
	return p
}

// seldom lets a thing be said once per pause and key, so that a caller who
// keeps failing does not fill the log.
type seldom struct {
	pause time.Duration

	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

// maxSeldom bounds the keys remembered; beyond it nothing new is said.
const maxSeldom = 256

func (s *seldom) ok(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, known := s.last[key]; known && time.Since(at) < s.pause {
		return false
	}
	if len(s.last) >= maxSeldom {
		for k, at := range s.last {
			if time.Since(at) >= s.pause {
				delete(s.last, k)
			}
		}
		if len(s.last) >= maxSeldom {
			return false
		}
	}
	if s.last == nil {
		s.last = make(map[string]time.Time)
	}
	s.last[key] = time.Now()
	return true
}
