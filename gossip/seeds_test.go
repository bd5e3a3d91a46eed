package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/sim"
)

// A node that was given no way in finds its ring once a seed is named, without
// being started anew; and a ring that works looks after itself all the time.
func TestSetSeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing(t, sim.Config{}, sim.NodeConfig{})
		defer r.stop()
		a := r.start(sim.NodeConfig{Name: sim.Name(0)})
		b := r.start(sim.NodeConfig{Name: sim.Name(1), Seeds: []string{"nowhere"}})
		time.Sleep(time.Minute)
		if got := state(b, sim.Name(0)); got != "" {
			t.Fatalf("found without a seed: %s", got)
		}
		b.Ring.SetSeeds([]string{r.net.Addr("nowhere")}, []string{r.net.Addr(sim.Name(0))})
		r.await(20*time.Second, "the ring", func() bool {
			return state(a, sim.Name(1)) == gossip.Alive && state(b, sim.Name(0)) == gossip.Alive
		})
		if notes := b.Ring.Notes(); len(notes) != 0 {
			t.Errorf("it still tells of the old seed: %q", notes)
		}
		if old := time.Since(a.Ring.Turned()); old > 2*time.Second {
			t.Errorf("the ring did not look after itself for %s", old)
		}
	})
}
