// Package sim runs rings of unmodified memberlist nodes on a network made of
// channels, with latency, loss and partitions, inside a testing/synctest bubble:
// a ring of 100 runs some hundred times faster than real time.
//
// Promises: packets are buffered and dropped when a node does not keep up, as a
// kernel does, never blocking the sender; streams and requests fail by time-out
// when either direction is cut, as TCP does; every random choice of the network
// comes from Config.Seed. A bubble gives virtual time, not determinism: the order
// in which goroutines run still varies.
//
// It is for tests only; nothing of agentd imports it.
package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Config makes a Net.
type Config struct {
	Seed    uint64
	Latency time.Duration // one way; each packet takes a half to one and a half of it
	Loss    float64       // of packets; streams retransmit and are slower instead
}

// retransmit is what a lost segment costs a stream: Linux's minimal time-out.
const retransmit = 200 * time.Millisecond

// Net is a network of simulated nodes. Safe for concurrent use.
type Net struct {
	cfg Config

	mu    sync.Mutex
	rng   *rand.Rand
	hosts map[string]*host // by HOST:PORT
	names map[string]*host // by node name
	cut   map[[2]string]bool
	calls map[Call]int
	stats Stats
}

// Call counts requests of one kind between two nodes.
type Call struct{ From, To, Op string }

// Stats counts packets.
type Stats struct{ Sent, Lost, Overrun int }

// host is a place on the network; what listens there comes and goes.
type host struct {
	name string
	addr *net.UDPAddr
	t    *transport // nil while the node is down
	seat *Seat      // nil while nobody answers requests
}

// New returns an empty network.
func New(cfg Config) *Net {
	if cfg.Latency <= 0 {
		cfg.Latency = time.Millisecond
	}
	return &Net{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 2)),
		hosts: make(map[string]*host), names: make(map[string]*host),
		cut: make(map[[2]string]bool), calls: make(map[Call]int),
	}
}

// host returns the place of a name, which it makes up at first sight.
func (n *Net) host(name string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.names[name]
	if !ok {
		i := len(n.names) + 1
		h = &host{name: name, addr: &net.UDPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).To4(), Port: 7946}}
		n.names[name] = h
		n.hosts[h.addr.String()] = h
	}
	return h
}

// Addr returns the gossip address of a name, before or after it was started.
func (n *Net) Addr(name string) string { return n.host(name).addr.String() }

// Cut stops all packets from one node to another; streams between the two fail.
func (n *Net) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = true
}

// Partition cuts the nodes in a from those in b, both ways.
func (n *Net) Partition(a, b []string) {
	for _, x := range a {
		for _, y := range b {
			n.Cut(x, y)
			n.Cut(y, x)
		}
	}
}

// Heal takes back every cut.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// SetLoss changes the share of packets that are lost.
func (n *Net) SetLoss(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cfg.Loss = p
}

// Calls sums the requests for which match holds.
func (n *Net) Calls(match func(Call) bool) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	sum := 0
	for c, k := range n.calls {
		if match(c) {
			sum += k
		}
	}
	return sum
}

// Stats returns the packets counted so far.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// delay draws the time of one way. Called with mu held.
func (n *Net) delay() time.Duration {
	return n.cfg.Latency/2 + time.Duration(n.rng.Int64N(int64(n.cfg.Latency)))
}

// roundTrip draws the time of a request and its answer over a stream, or reports
// that none gets through.
func (n *Net) roundTrip(a, b string) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]string{a, b}] || n.cut[[2]string{b, a}] {
		return 0, false
	}
	d := n.delay() + n.delay()
	for n.rng.Float64() < 2*n.cfg.Loss {
		d += retransmit
	}
	return d, true
}

// errTimeout is what a dial into a partition ends with.
var errTimeout = errors.New("sim: i/o timeout")

// transport is one node's socket. It implements memberlist.Transport.
type transport struct {
	n       *Net
	h       *host
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{} // closed by Shutdown
	once    sync.Once
}

var _ memberlist.Transport = (*transport)(nil)

// listen opens the socket of a host.
func (n *Net) listen(h *host) (memberlist.Transport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.t != nil {
		return nil, fmt.Errorf("sim: listen on %s: address already in use", h.addr)
	}
	h.t = &transport{
		n: n, h: h, packets: make(chan *memberlist.Packet, 512), streams: make(chan net.Conn, 64),
		done: make(chan struct{}),
	}
	return h.t, nil
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.h.addr.IP, t.h.addr.Port, nil
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	n := t.n
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Sent++
	to, ok := n.hosts[addr]
	if !ok || n.cut[[2]string{t.h.name, to.name}] || n.rng.Float64() < n.cfg.Loss {
		n.stats.Lost++
		return now, nil // nobody tells the sender of a datagram
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: t.h.addr}
	time.AfterFunc(n.delay(), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if to.t == nil {
			return
		}
		p.Timestamp = time.Now()
		select {
		case to.t.packets <- p:
		default:
			n.stats.Overrun++
		}
	})
	return now, nil
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	n := t.n
	n.mu.Lock()
	to, ok := n.hosts[addr]
	n.mu.Unlock()
	d, through := timeout, false
	if ok {
		if rt, ok := n.roundTrip(t.h.name, to.name); ok && rt < timeout {
			d, through = rt, true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.done:
		return nil, net.ErrClosed
	case <-timer.C:
	}
	if !through {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errTimeout}
	}
	n.mu.Lock()
	peer := to.t
	n.mu.Unlock()
	if peer == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	a, b := net.Pipe()
	// memberlist writes a label before it sets a deadline of its own.
	deadline := time.Now().Add(10 * time.Second)
	_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
	select {
	case peer.streams <- &conn{Conn: b, local: to.addr, remote: t.h.addr}:
		return &conn{Conn: a, local: t.h.addr, remote: to.addr}, nil
	default: // the backlog is full
		_, _ = a.Close(), b.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errTimeout}
	}
}

func (t *transport) Shutdown() error {
	t.once.Do(func() {
		t.n.mu.Lock()
		if t.h.t == t {
			t.h.t = nil
		}
		t.n.mu.Unlock()
		close(t.done)
		for {
			select {
			case c := <-t.streams:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// conn is a pipe with the addresses that memberlist's log wants to show.
type conn struct {
	net.Conn
	local, remote *net.UDPAddr
}

func (c *conn) LocalAddr() net.Addr  { return (*net.TCPAddr)(c.local) }
func (c *conn) RemoteAddr() net.Addr { return (*net.TCPAddr)(c.remote) }

// Name returns the i-th node's name in a simulation: "n000".
func Name(i int) string {
	s := strconv.Itoa(i)
	for len(s) < 3 {
		s = "0" + s
	}
	return "n" + s
}
