package gossip_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/sim"
)

var lan = sim.Config{Latency: 2 * time.Millisecond, Loss: 0.01}

// memberlist alone never heals a partition longer than 30 s: ten nodes stayed
// split nine to one for ever (docs/adr/0003).
func TestPartitionHeals(t *testing.T) {
	for _, c := range []struct {
		name  string
		n, at int
		cut   time.Duration
	}{
		{"nine against one", 10, 9, 2 * time.Minute},
		{"half and half", 20, 10, 5 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRing(t, lan, sim.NodeConfig{})
				defer r.stop()
				r.grow(c.n)
				left, right := r.names(0, c.at), r.names(c.at, c.n)
				r.net.Partition(left, right)
				r.await(2*time.Minute, "each side sees the other fail", func() bool {
					return r.nodes[left[0]].Ring.NumAlive() == c.at && r.nodes[right[0]].Ring.NumAlive() == c.n-c.at
				})
				time.Sleep(c.cut)
				r.put(left[0], sim.Record{Key: "daemon/left", Body: "l"})
				r.put(right[0], sim.Record{Key: "daemon/right", Body: "r"})
				time.Sleep(time.Minute)
				if r.agree() {
					t.Fatal("a partition that lets records through tests nothing")
				}
				r.net.Heal()
				// A rejoin every 15 s, jittered to half as much again, plus an exchange.
				d := r.await(time.Minute, "both sides agree", r.agree)
				t.Logf("records agree %s after the partition of %s ended", d, c.cut)
				r.await(time.Minute, "everybody sees everybody", func() bool {
					for _, d := range r.nodes {
						if d.Ring.NumAlive() != c.n {
							return false
						}
					}
					return true
				})
			})
		})
	}
}

// A packet filter that drops one direction only: memberlist reaches the node by
// way of others, streams and requests between the two fail. Records must pass.
func TestOneWayPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		r.grow(5)
		r.net.Cut(sim.Name(1), sim.Name(2))
		r.net.Cut(sim.Name(1), sim.Name(3))
		time.Sleep(time.Minute)
		r.put(sim.Name(1), sim.Record{Key: "daemon/web", Body: "v1"})
		r.await(20*time.Second, "the record is everywhere", r.everywhere("daemon/web", "v1"))
		r.put(sim.Name(2), sim.Record{Key: "daemon/web", Body: "v2"})
		r.await(20*time.Second, "the record is everywhere", r.everywhere("daemon/web", "v2"))
	})
}

// A node was away for more than a day while the others deleted a daemon that it
// still has. They forgot it by then, but neither its address nor the delete.
func TestAwayForADay(t *testing.T) {
	if testing.Short() {
		t.Skip("a day of virtual time takes many seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		r.grow(3)
		a, b, c := sim.Name(0), sim.Name(1), sim.Name(2)
		for _, d := range r.nodes {
			if err := d.Book.Set([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		r.put(a, sim.Record{Key: "daemon/web", Body: "v1"})
		r.await(5*time.Second, "the record is everywhere", r.everywhere("daemon/web", "v1"))
		time.Sleep(10 * time.Second)
		r.net.Partition([]string{a, b}, []string{c})
		time.Sleep(time.Minute)
		r.put(b, sim.Record{Key: "daemon/web", Delete: true})
		time.Sleep(23 * time.Hour)
		if got := state(r.nodes[a], c); got != gossip.Failed {
			t.Errorf("after 23 hours the node is %q, want failed", got)
		}
		time.Sleep(2 * time.Hour)
		if got := state(r.nodes[a], c); got != "" {
			t.Errorf("after 25 hours the node is %q, want it forgotten", got)
		}
		r.net.Heal()
		r.await(time.Minute, "all agree", r.agree)
		for name, s := range r.sets {
			if es := s.Get("daemon/web"); len(es) != 1 || !es[0].Delete {
				t.Errorf("node %s holds %+v, want the delete", name, es)
			}
		}
		r.await(time.Minute, "it is a member again", func() bool { return state(r.nodes[a], c) == gossip.Alive })
	})
}

// Two operators apply at the same moment on two nodes that have not heard of each
// other: all nodes end with the same winner and all see the fork.
func TestTwoOperatorsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		r.grow(10)
		r.put(sim.Name(3), sim.Record{Key: "daemon/web", Author: "ann", Body: "a"})
		r.put(sim.Name(7), sim.Record{Key: "daemon/web", Author: "bob", Body: "b"})
		d := r.await(10*time.Second, "all agree", func() bool {
			if !r.agree() {
				return false
			}
			for _, s := range r.sets {
				if len(s.Get("daemon/web")) != 2 {
					return false
				}
			}
			return true
		})
		t.Logf("the fork is visible everywhere after %s", d)
		winner := r.sets[sim.Name(0)].Get("daemon/web")[0]
		for name, s := range r.sets {
			if got := s.Get("daemon/web")[0]; got != winner {
				t.Errorf("node %s prefers %+v, node 0 %+v", name, got, winner)
			}
		}
		r.put(sim.Name(5), sim.Record{Key: "daemon/web", Author: "ann", Body: "c"})
		r.await(10*time.Second, "the next generation ends the fork", r.everywhere("daemon/web", "c"))
	})
}

// A node whose disk was lost starts empty and is filled by the others.
func TestEmptyStoreIsRefilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		r.grow(3)
		for i := range 300 { // more than fits one swap's relay, in most buckets
			r.sets[sim.Name(0)].Put(sim.Record{Key: "daemon/d" + sim.Name(i), Body: "v"})
		}
		r.await(30*time.Second, "all agree", r.agree)
		r.kill(sim.Name(2))
		r.sets[sim.Name(2)] = sim.NewSet()
		r.start(sim.NodeConfig{Name: sim.Name(2)})
		d := r.await(20*time.Second, "the empty node is filled", r.agree)
		t.Logf("300 records refilled after %s", d)
	})
}

// liar is a member whose root is another one at every look, that announces items
// whose bodies never come or are forged.
type liar struct {
	*sim.Set
	forge bool
	looks atomic.Uint32
}

func (l *liar) n() byte { return byte(l.looks.Load()) }

func (l *liar) Root() gossip.Hash { return gossip.Hash{1, byte(l.looks.Add(1))} }

func (l *liar) BucketHashes() [gossip.Buckets]gossip.Hash {
	h := l.Set.BucketHashes()
	h[l.n()] = gossip.Hash{2, l.n()}
	return h
}

func (l *liar) Items(buckets []uint8) []gossip.Item {
	items := l.Set.Items(buckets)
	for i := range byte(10) {
		items = append(items, gossip.Item{Key: "daemon/web", Generation: 1 << 60, Digest: gossip.Hash{3, l.n(), i}})
	}
	return items
}

func (l *liar) Body(key string, d gossip.Hash) ([]byte, bool) {
	if d[0] == 3 {
		return []byte("this was signed by nobody, whatever it says"), l.forge
	}
	return l.Set.Body(key, d)
}

// A member that lies makes nobody spin, and keeps no record from anybody.
func TestLiarsAreLeftAlone(t *testing.T) {
	for _, c := range []struct {
		name  string
		forge bool
	}{{"bodies never come", false}, {"bodies are forged", true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRing(t, lan, sim.NodeConfig{})
				defer r.stop()
				r.grow(4)
				rogue := &liar{Set: sim.NewSet(), forge: c.forge}
				d := r.start(sim.NodeConfig{Name: "rogue", Source: rogue})
				time.Sleep(10 * time.Second)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				go func() { // and hints at nonsense, twenty times a second
					for i := 0; ctx.Err() == nil; i++ {
						d.Ring.Hint(gossip.Item{Key: "daemon/web", Generation: 1 << 61, Digest: gossip.Hash{3, byte(i), byte(i >> 8)}})
						time.Sleep(50 * time.Millisecond)
					}
				}()
				const minutes = 20
				time.Sleep(minutes * time.Minute)
				r.put(sim.Name(1), sim.Record{Key: "daemon/web", Body: "v1"})
				took := r.await(20*time.Second, "a genuine record is everywhere", r.everywhere("daemon/web", "v1"))
				asked := r.net.Calls(func(c sim.Call) bool { return c.To == "rogue" && c.Op != "statements" })
				others := r.net.Calls(func(c sim.Call) bool { return c.To != "rogue" && c.Op == "body" })
				t.Logf("record everywhere after %s; in %d minutes 4 nodes asked the liar %d times, others for %d bodies", took, minutes, asked, others)
				// A swap and a followed hint a minute, of up to 5 and 1 requests, per node.
				if limit := 4 * (minutes + 10) * 8; asked > limit {
					t.Errorf("the liar was asked %d times, want at most %d", asked, limit)
				}
				if limit := 4 * (minutes + 10) * 4; others > limit {
					t.Errorf("others were asked for %d bodies because of a liar, want at most %d", others, limit)
				}
			})
		})
	}
}
