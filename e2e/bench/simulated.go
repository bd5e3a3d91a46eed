package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/agentd/agentd/e2e/lab"
)

// simulations maps the gossip package's benchmarks to their promises, in
// seconds of virtual time.
var simulations = []struct {
	benchmark, name string
	limit           float64
}{
	{"BenchmarkRing100Loss1pct", "ring-of-100-with-1%-loss", 2},
	{"BenchmarkRing100NoBroadcast", "ring-of-100-no-broadcast", 10},
}

// simulated runs the gossip package's simulated rings and reads their metric.
func simulated(ctx context.Context, _ plan, stderr io.Writer) ([]result, error) {
	fmt.Fprintln(stderr, "# simulated rings of 100")
	out, err := lab.Must(ctx, "go", "test", "-run", "^$", "-bench", "Ring100", "-benchtime", "1x", "github.com/agentd/agentd/gossip/...")
	if err != nil {
		return nil, err
	}
	var all []result
	for _, s := range simulations {
		seconds, err := metric(out, s.benchmark, "virtual-s")
		if err != nil {
			return nil, err
		}
		all = append(all, result{name: s.name, measured: seconds, limit: s.limit, unit: "s"})
	}
	return all, nil
}

// metric finds a value with its unit in the line of a benchmark.
func metric(out, benchmark, unit string) (float64, error) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 || (f[0] != benchmark && !strings.HasPrefix(f[0], benchmark+"-")) {
			continue
		}
		for i := 1; i < len(f); i++ {
			if f[i] == unit {
				return strconv.ParseFloat(f[i-1], 64)
			}
		}
	}
	return 0, fmt.Errorf("read benchmarks: %s has no %s in:\n%s", benchmark, unit, out)
}
