//go:debug randseednop=0

// The line above makes memberlist's choices, which it takes from the global
// math/rand, repeatable.

package gossip_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	oldrand "math/rand"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/sim"
)

var (
	simSeed = flag.Uint64("sim.seed", 1, "seed of simulated rings")
	simLog  = flag.Bool("sim.log", false, "print the rings' logs")
)

// ring is a simulated ring under test. All its methods run inside a bubble.
type ring struct {
	t     testing.TB
	net   *sim.Net
	nodes map[string]*sim.Node
	sets  map[string]*sim.Set
	peers map[string][]string // of killed nodes
	base  sim.NodeConfig
}

func newRing(t testing.TB, cfg sim.Config, base sim.NodeConfig) *ring {
	t.Helper()
	if cfg.Seed == 0 {
		cfg.Seed = *simSeed
	}
	oldrand.Seed(int64(cfg.Seed)) //nolint:staticcheck // the only way to seed memberlist
	if *simLog {
		base.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	t.Logf("seed %d (repeat with -sim.seed)", cfg.Seed)
	return &ring{t: t, net: sim.New(cfg), nodes: make(map[string]*sim.Node), sets: make(map[string]*sim.Set), peers: make(map[string][]string), base: base}
}

// start starts a node; what cfg leaves open comes from the ring's base. A node
// that ran before keeps its set and its remembered peers, unless cfg says otherwise.
func (r *ring) start(cfg sim.NodeConfig) *sim.Node {
	r.t.Helper()
	if cfg.Source == nil {
		if r.sets[cfg.Name] == nil {
			r.sets[cfg.Name] = sim.NewSet()
		}
		cfg.Source = r.sets[cfg.Name]
	}
	if cfg.Seeds == nil && cfg.Name != sim.Name(0) {
		cfg.Seeds = []string{sim.Name(0)}
	}
	if cfg.Peers == nil {
		cfg.Peers = r.peers[cfg.Name]
	}
	cfg.Mute = cfg.Mute || r.base.Mute
	cfg.Silent = cfg.Silent || r.base.Silent
	cfg.Log = r.base.Log
	if cfg.Log != nil {
		cfg.Log = cfg.Log.With("at", cfg.Name)
	}
	n, err := r.net.Start(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.nodes[cfg.Name] = n
	return n
}

// kill ends a node without a word; start brings it back with what it remembers.
func (r *ring) kill(name string) {
	r.t.Helper()
	d := r.nodes[name]
	if err := d.Stop(); err != nil {
		r.t.Errorf("node %s: %v", name, err)
	}
	delete(r.nodes, name)
	r.peers[name] = d.Peers()
}

// grow starts nodes up to n and waits until all see all. Starts are offset:
// memberlist does not shift its tickers.
func (r *ring) grow(n int) {
	r.t.Helper()
	for i := len(r.nodes); i < n; i++ {
		r.start(sim.NodeConfig{Name: sim.Name(i)})
		time.Sleep(37 * time.Millisecond)
	}
	r.await(5*time.Minute, "everybody sees everybody", func() bool {
		for _, d := range r.nodes {
			if d.Ring.NumAlive() != len(r.nodes) {
				return false
			}
		}
		return true
	})
}

// await waits until ok holds and returns the virtual time it took.
func (r *ring) await(limit time.Duration, what string, ok func() bool) time.Duration {
	r.t.Helper()
	begin := time.Now()
	for {
		synctest.Wait()
		if ok() {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			for name, d := range r.nodes {
				if *simLog {
					fmt.Fprintln(os.Stderr, name, d.Ring.NumAlive(), d.Ring.Notes())
				}
			}
			r.t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// put adds a record at a node and hints at it, as the agent does.
func (r *ring) put(name string, rec sim.Record) gossip.Item {
	it := r.sets[name].Put(rec)
	r.nodes[name].Ring.Hint(it)
	return it
}

// agree reports whether all running nodes' sets are equal.
func (r *ring) agree() bool {
	var root gossip.Hash
	first := true
	for name := range r.nodes {
		if s, ok := r.sets[name]; ok {
			if got := s.Root(); first {
				root, first = got, false
			} else if got != root {
				return false
			}
		}
	}
	return true
}

// everywhere reports whether every node's winner of key has that body.
func (r *ring) everywhere(key, body string) func() bool {
	return func() bool {
		for name := range r.nodes {
			if s, ok := r.sets[name]; ok {
				if es := s.Get(key); len(es) == 0 || es[0].Body != body {
					return false
				}
			}
		}
		return true
	}
}

func (r *ring) names(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, sim.Name(i))
	}
	return out
}

// stop ends all nodes. What memberlist has under way then (a probe, a push/pull)
// ends by its own time-outs; a goroutine that outlives them fails the bubble.
func (r *ring) stop() {
	r.t.Helper()
	for _, d := range r.nodes {
		if err := d.Stop(); err != nil {
			r.t.Errorf("node %s: %v", d.Name, err)
		}
	}
	time.Sleep(30 * time.Second)
}

func state(d *sim.Node, name string) gossip.MemberState {
	for _, m := range d.Ring.Members() {
		if m.Name == name {
			return m.State
		}
	}
	return ""
}

func leave(d *sim.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return d.Ring.Leave(ctx)
}
