package gossip_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip/sim"
)

// An agent that is stopped while it leaves: memberlist panics when it is to leave
// after its shutdown.
func TestLeaveWhileRunEnds(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 2 * time.Second, 2*time.Second + time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			r := newRing(t, lan, sim.NodeConfig{})
			defer r.stop()
			r.grow(12)
			d := r.nodes[sim.Name(3)]
			var wg sync.WaitGroup
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if err := d.Ring.Leave(ctx); err != nil {
					t.Logf("stopped after %s: %v", after, err)
				}
			})
			time.Sleep(after)
			r.kill(d.Name)
			wg.Wait()
		})
	}
}
