package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/agent/store"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/sim"
	"github.com/agentd/agentd/spec/record"
)

// The ring with what it carries in earnest: signed records in stores on disk.
// Two operators apply at once, one of their signatures is not trusted everywhere,
// then a node loses its disk.
func TestSignedRecords(t *testing.T) {
	ann, bob := operator(t, "ann"), operator(t, "bob")
	trust := record.NewTrust(ann.Public(), bob.Public())
	narrow := record.NewTrust(ann.Public())
	const n = 6
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	empty := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		stores := map[string]*store.Store{}
		open := func(name, dir string, tr *record.Trust) {
			s, err := store.Open(store.Config{Dir: dir, Ring: simRing, Trust: tr})
			if err != nil {
				t.Fatal(err)
			}
			stores[name] = s
			r.start(sim.NodeConfig{Name: name, Source: s})
		}
		for i := range n {
			tr := trust
			if i == n-1 {
				tr = narrow
			}
			open(sim.Name(i), dirs[i], tr)
		}
		apply := func(at string, by record.PrivateKey, h record.Header, body string) {
			b, err := record.EncodeDaemon(record.DaemonBody{Spec: []byte(body), Revision: 1, Rollout: record.Rollout{K: 1}})
			if err != nil {
				t.Fatal(err)
			}
			env, err := record.Sign(h, b, by)
			if err != nil {
				t.Fatal(err)
			}
			rec, changed, err := stores[at].Put(t.Context(), env)
			if err != nil || !changed {
				t.Fatalf("put at %s: %v, changed %v", at, err, changed)
			}
			r.nodes[at].Ring.Hint(store.Item(rec))
		}
		next := func(at string, author string) record.Header {
			e, _ := stores[at].Get(web)
			return record.Next(e, simRing, web, author, time.Now())
		}
		holds := func(key record.Key, records int, nodes ...string) func() bool {
			return func() bool {
				for _, name := range nodes {
					if e, ok := stores[name].Get(key); !ok || len(e.Records) != records {
						return false
					}
				}
				return true
			}
		}
		wide := r.names(0, n-1)
		r.await(30*time.Second, "all are together", func() bool { return r.nodes[sim.Name(0)].Ring.NumAlive() == n })

		ha, hb := next(sim.Name(1), "ann"), next(sim.Name(3), "bob")
		apply(sim.Name(1), ann, ha, `{"a":1}`)
		apply(sim.Name(3), bob, hb, `{"b":1}`)
		r.await(10*time.Second, "the fork is everywhere", holds(web, 2, wide...))
		r.await(10*time.Second, "who trusts one operator has one record", holds(web, 1, sim.Name(n-1)))
		root := stores[wide[0]].Root()
		for _, name := range wide {
			if stores[name].Root() != root {
				t.Errorf("node %s has another root", name)
			}
		}

		// Different trust keeps roots apart for ever; that must cost next to nothing.
		before := r.net.Calls(func(c sim.Call) bool { return c.Op != "statements" })
		time.Sleep(30 * time.Minute)
		calls := r.net.Calls(func(c sim.Call) bool { return c.Op != "statements" }) - before
		t.Logf("30 minutes of disagreement took %d requests", calls)
		if limit := 30 * 2 * (n - 1) * 3; calls > limit {
			t.Errorf("30 minutes of disagreement took %d requests, want at most %d", calls, limit)
		}

		apply(sim.Name(2), ann, next(sim.Name(2), "ann"), `{"c":1}`)
		r.await(10*time.Second, "the next generation is everywhere, in both camps", func() bool {
			for i := range n {
				e, ok := stores[sim.Name(i)].Get(web)
				if !ok || e.Winner().Generation != 2 || e.Forked() {
					return false
				}
			}
			return true
		})

		r.kill(sim.Name(4))
		open(sim.Name(4), empty, trust)
		r.await(20*time.Second, "the empty store is filled", holds(web, 1, sim.Name(4)))
	})
}

var (
	simRing = record.RingID{1, 2, 3}
	web     = record.Key{Kind: record.KindDaemon, Name: "web"}
)

func operator(t *testing.T, name string) record.PrivateKey {
	t.Helper()
	k, err := record.GenerateKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var _ gossip.Source = (*store.Store)(nil)
