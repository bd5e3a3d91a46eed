package gossip_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/sim"
)

// What a node says of itself is known to a small ring at once, to a large one
// within seconds.
func TestStatementsSpread(t *testing.T) {
	for _, c := range []struct {
		n     int
		limit time.Duration
	}{{3, 300 * time.Millisecond}, {40, 5 * time.Second}} {
		t.Run(sim.Name(c.n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRing(t, lan, sim.NodeConfig{})
				defer r.stop()
				r.grow(c.n)
				says := func(body string) func() bool {
					return func() bool {
						for _, d := range r.nodes {
							for _, o := range r.nodes {
								if st, ok := d.Book.Get(o.Book.ID()); !ok || (o.Name == sim.Name(1) && string(st.Body) != body) {
									return false
								}
							}
						}
						return true
					}
				}
				for name, d := range r.nodes {
					if err := d.Book.Set([]byte("here is " + name)); err != nil {
						t.Fatal(err)
					}
				}
				took := r.await(30*time.Second, "all know all", says("here is "+sim.Name(1)))
				t.Logf("all know all after %s", took)
				for _, body := range []string{"pulling", "starting", "running"} {
					time.Sleep(70 * time.Millisecond)
					if err := r.nodes[sim.Name(1)].Book.Set([]byte(body)); err != nil {
						t.Fatal(err)
					}
				}
				took = r.await(c.limit, "a change is known", says("running"))
				t.Logf("a change is known after %s", took)
				before := r.net.Calls(func(sim.Call) bool { return true })
				time.Sleep(time.Minute)
				if calls := r.net.Calls(func(sim.Call) bool { return true }) - before; calls > 45*c.n {
					t.Errorf("%d requests in an idle minute, want at most %d", calls, 45*c.n)
				}
			})
		})
	}
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, sim.Config{Latency: time.Millisecond}, sim.NodeConfig{})
		defer r.stop()
		r.grow(4)
		for _, d := range r.nodes {
			if err := d.Book.Set([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		a, b, c := r.nodes[sim.Name(0)], sim.Name(1), sim.Name(2)
		time.Sleep(5 * time.Second)
		r.kill(b)
		r.await(10*time.Second, "suspected", func() bool { return state(a, b) == gossip.Suspect })
		r.await(30*time.Second, "failed", func() bool { return state(a, b) == gossip.Failed })

		seen := map[gossip.MemberState]bool{}
		done := make(chan error)
		go func() { done <- leave(r.nodes[c]) }()
		for range 300 {
			seen[state(a, c)] = true
			time.Sleep(50 * time.Millisecond)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if seen[gossip.Failed] || !seen[gossip.Left] {
			t.Errorf("a node that left was seen as %v", seen)
		}
		if got := state(r.nodes[c], c); got != gossip.Left {
			t.Errorf("it sees itself as %q", got)
		}

		// A leave lasts: nobody calls the node back, and records still reach it.
		r.put(sim.Name(0), sim.Record{Key: "daemon/web", Body: "v1"})
		time.Sleep(5 * time.Minute)
		if got := state(a, c); got != gossip.Left {
			t.Errorf("five minutes later it is %q", got)
		}
		if es := r.sets[c].Get("daemon/web"); len(es) == 0 {
			t.Error("a node that left but runs missed a record")
		}

		// Another node that starts now hears of both.
		r.start(sim.NodeConfig{Name: "late"})
		r.await(30*time.Second, "a newcomer knows who failed and who left", func() bool {
			return state(r.nodes["late"], b) == gossip.Failed && state(r.nodes["late"], c) == gossip.Left
		})

		// It stays away over a restart, until it is told to come back.
		r.kill(c)
		r.start(sim.NodeConfig{Name: c, Left: true})
		time.Sleep(5 * time.Minute)
		if got := state(a, c); got != gossip.Left {
			t.Errorf("after a restart it is %q", got)
		}
		if err := r.nodes[c].Book.Set([]byte("back")); err != nil {
			t.Fatal(err)
		}
		r.nodes[c].Ring.Rejoin()
		r.await(30*time.Second, "it is back", func() bool {
			return state(a, c) == gossip.Alive && state(r.nodes[c], c) == gossip.Alive && r.agree()
		})
		a.Ring.Forget(b)
		if got := state(a, b); got != "" {
			t.Errorf("forgotten, yet %q", got)
		}
	})
}

// Leaving and coming back within one run, without a restart.
//
// conformance: G5
func TestLeaveAndRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		r.grow(3)
		b := r.nodes[sim.Name(1)]
		if err := b.Book.Set([]byte("x")); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := leave(b); err != nil {
				t.Fatal(err)
			}
			r.await(10*time.Second, "left", func() bool { return state(r.nodes[sim.Name(0)], b.Name) == gossip.Left })
			b.Ring.Rejoin()
			r.await(10*time.Second, "back", func() bool {
				return state(r.nodes[sim.Name(0)], b.Name) == gossip.Alive && b.Ring.NumAlive() == 3
			})
		}
	})
}

// In a ring too large to tell everybody in person, too, nobody who hears of a leave
// takes it for a failure.
func TestLeaveLargeRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		r.grow(30)
		gone := r.nodes[sim.Name(7)]
		if err := gone.Book.Set([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		done := make(chan error, 1)
		go func() { done <- leave(gone) }()
		for range 100 {
			for _, d := range r.nodes {
				if got := state(d, gone.Name); d != gone && got == gossip.Failed {
					t.Fatalf("node %s takes it for failed", d.Name)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, d := range r.nodes {
			if got := state(d, gone.Name); got != gossip.Left {
				t.Errorf("node %s sees it as %q", d.Name, got)
			}
		}
	})
}

// Cut off from everybody, a leave still counts, and says that nobody heard.
func TestLeaveOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		r.grow(3)
		b := r.nodes[sim.Name(1)]
		if err := b.Book.Set([]byte("x")); err != nil {
			t.Fatal(err)
		}
		r.net.Partition([]string{b.Name}, []string{sim.Name(0), sim.Name(2)})
		err := leave(b)
		if err == nil || !strings.Contains(err.Error(), "none of 2 members answered") {
			t.Errorf("leave: %v", err)
		}
		if b.Ring.Self().State != gossip.Left {
			t.Error("it did not leave")
		}
		time.Sleep(time.Minute)
		r.net.Heal()
		r.await(time.Minute, "the others learn of it later", func() bool {
			return state(r.nodes[sim.Name(0)], b.Name) == gossip.Left
		})
	})
}

// A second machine under a name that is taken is kept out and told of in words.
func TestNameConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		bound := map[string]gossip.NodeID{}
		admit := func(m gossip.Member) error {
			mu.Lock()
			defer mu.Unlock()
			if id, ok := bound[m.Name]; ok && id != m.ID {
				return errors.New("the name belongs to another key")
			}
			return nil
		}
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		allow := func(node string, key ed25519.PublicKey) bool {
			return admit(gossip.Member{Name: node, ID: gossip.MakeNodeID(node, key)}) == nil
		}
		r.start(sim.NodeConfig{Name: sim.Name(0), Admit: admit, Allow: allow})
		r.start(sim.NodeConfig{Name: sim.Name(1), Admit: admit})
		mu.Lock()
		for _, d := range r.nodes {
			bound[d.Name] = d.Book.ID()
		}
		mu.Unlock()
		r.await(30*time.Second, "two are together", func() bool { return r.nodes[sim.Name(0)].Ring.NumAlive() == 2 })
		r.kill(sim.Name(1))
		r.start(sim.NodeConfig{Name: sim.Name(1), Key: "another machine"})
		if err := r.nodes[sim.Name(1)].Book.Set([]byte("I am new")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		notes := strings.Join(r.nodes[sim.Name(0)].Ring.Notes(), "\n")
		if !strings.Contains(notes, "node "+sim.Name(1)+" at") || !strings.Contains(notes, "the name belongs to another key") {
			t.Errorf("notes: %q", notes)
		}
		if n := r.nodes[sim.Name(0)].Ring.NumAlive(); n != 1 {
			t.Errorf("%d alive, want the refused node out", n)
		}
		mu.Lock()
		delete(bound, sim.Name(1)) // agentctl forget
		mu.Unlock()
		if _, ok := r.nodes[sim.Name(0)].Book.Get(r.nodes[sim.Name(1)].Book.ID()); ok {
			t.Error("the refused node's word was taken")
		}
		r.nodes[sim.Name(0)].Ring.Forget(sim.Name(1))
		r.await(2*time.Minute, "the new machine is in", func() bool { return r.nodes[sim.Name(0)].Ring.NumAlive() == 2 })
		r.await(10*time.Second, "its word is taken", func() bool {
			_, ok := r.nodes[sim.Name(0)].Book.Get(r.nodes[sim.Name(1)].Book.ID())
			return ok
		})
	})
}

// A node with another ring key stays out, and both sides say why.
func TestWrongKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{})
		defer r.stop()
		r.grow(2)
		wrong := r.start(sim.NodeConfig{Name: "stranger", Keys: [][]byte{[]byte("another key of thirty-two bytes!")}})
		time.Sleep(30 * time.Second)
		for _, d := range []*sim.Node{r.nodes[sim.Name(0)], wrong} {
			if notes := strings.Join(d.Ring.Notes(), "\n"); !strings.Contains(notes, "another ring key?") {
				t.Errorf("node %s notes %q", d.Name, notes)
			}
		}
		if n := wrong.Ring.NumAlive(); n != 1 {
			t.Errorf("the stranger sees %d nodes", n)
		}
		other := r.start(sim.NodeConfig{Name: "foreigner", Label: "another ring"})
		time.Sleep(30 * time.Second)
		if notes := strings.Join(r.nodes[sim.Name(0)].Ring.Notes(), "\n"); !strings.Contains(notes, "belongs to another ring") {
			t.Errorf("notes of a node that a foreigner calls: %q", notes)
		}
		if notes := strings.Join(other.Ring.Notes(), "\n"); !strings.Contains(notes, "no other member is in reach") {
			t.Errorf("notes of the foreigner: %q", notes)
		}
		r.kill(other.Name)
		// Rotation: who has both keys understands both.
		r.kill(wrong.Name)
		r.start(sim.NodeConfig{Name: "stranger", Keys: [][]byte{sim.Key(), []byte("another key of thirty-two bytes!")}})
		r.await(30*time.Second, "together", func() bool { return r.nodes[sim.Name(0)].Ring.NumAlive() == 3 })
	})
}
