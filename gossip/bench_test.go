package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip/sim"
)

// The two benchmarks report the virtual time that a record takes to be on every
// node of a ring of 100, the worst of three seeds.
func benchmarkRing(b *testing.B, base sim.NodeConfig) {
	for b.Loop() {
		var worst time.Duration
		for seed := range uint64(3) {
			virtual(b, func(t testing.TB) {
				net := sim.Config{Seed: seed + 1, Latency: 2 * time.Millisecond, Loss: 0.01}
				worst = max(worst, spread(t, 100, net, base))
			})
		}
		b.ReportMetric(worst.Seconds(), "virtual-s")
	}
}

func BenchmarkRing100Loss1pct(b *testing.B)    { benchmarkRing(b, sim.NodeConfig{}) }
func BenchmarkRing100NoBroadcast(b *testing.B) { benchmarkRing(b, sim.NodeConfig{Mute: true}) }

// virtual runs f in a bubble, which testing/synctest only makes for a *testing.T.
func virtual(b *testing.B, f func(testing.TB)) {
	b.Helper()
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: "bubble", F: func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t) }) },
	}})
	if !ok {
		b.Fatal("the simulated ring did not converge")
	}
}
