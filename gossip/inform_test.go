package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip/sim"
)

// Who waits for a node's word has it after one request, long before the epidemic
// gets there; the same word is not sent twice, and nothing is sent to who is away.
func TestInform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, lan, sim.NodeConfig{Silent: true})
		defer r.stop()
		r.grow(20)
		time.Sleep(5 * time.Second)
		from := r.nodes[sim.Name(3)]
		to := r.nodes[sim.Name(17)]
		informs := func() int {
			return r.net.Calls(func(c sim.Call) bool { return c.Op == "inform" })
		}
		for _, body := range []string{"one", "two"} {
			before := informs()
			if err := from.Book.Set([]byte(body)); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				from.Ring.Inform(to.Book.ID(), from.Book.ID())
				synctest.Wait()
			}
			time.Sleep(20 * time.Millisecond)
			if st, ok := to.Book.Get(from.Book.ID()); !ok || string(st.Body) != body {
				t.Errorf("after a round trip the other holds %q, want %q", st.Body, body)
			}
			if n := informs() - before; n != 1 {
				t.Errorf("it took %d requests, want 1", n)
			}
			time.Sleep(2 * time.Second)
		}
		if n := from.Ring.Informed(); n != 2 {
			t.Errorf("counted %d requests, want 2", n)
		}

		// A word that did not get through is tried again when it is asked for again.
		r.net.Partition([]string{from.Name}, []string{to.Name})
		if err := from.Book.Set([]byte("three")); err != nil {
			t.Fatal(err)
		}
		from.Ring.Inform(to.Book.ID())
		time.Sleep(8 * time.Second)
		r.net.Heal()
		if err := from.Book.Set([]byte("four")); err != nil {
			t.Fatal(err)
		}
		from.Ring.Inform(to.Book.ID())
		time.Sleep(20 * time.Millisecond)
		if st, _ := to.Book.Get(from.Book.ID()); string(st.Body) != "four" {
			t.Errorf("after the partition the other holds %q", st.Body)
		}
	})
}
