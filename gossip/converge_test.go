package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip/sim"
)

// spread grows a ring and returns the virtual time that a new record takes to be
// everywhere.
func spread(t testing.TB, n int, net sim.Config, base sim.NodeConfig) time.Duration {
	r := newRing(t, net, base)
	defer r.stop()
	r.grow(n)
	time.Sleep(3 * time.Second)
	r.put(sim.Name(n/2), sim.Record{Key: "daemon/web", Body: "v1"})
	return r.await(time.Minute, "the record is everywhere", r.everywhere("daemon/web", "v1"))
}

func ringSize(t testing.TB, full int) int {
	if testing.Short() {
		return full / 4
	}
	return full
}

func TestRecordEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := spread(t, ringSize(t, 100), sim.Config{Latency: 2 * time.Millisecond, Loss: 0.01}, sim.NodeConfig{Silent: true})
		t.Logf("everywhere after %s", d)
		if d > 2*time.Second {
			t.Errorf("a record took %s, want at most 2 s", d)
		}
	})
}

func TestRecordEverywhereWithoutHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := spread(t, ringSize(t, 100), sim.Config{Latency: 2 * time.Millisecond, Loss: 0.01}, sim.NodeConfig{Silent: true, Mute: true})
		t.Logf("everywhere after %s", d)
		if d > 10*time.Second {
			t.Errorf("a record took %s, want at most 10 s", d)
		}
	})
}
