package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// idle: memory and processor time of an agent with one daemon in a ring of
// three when nothing happens; the worst of the three counts.
func (r *rig) idle(ctx context.Context, p plan, stderr io.Writer) ([]result, error) {
	fmt.Fprintf(stderr, "# idle agents for %v\n", p.window)
	rss, cpu, err := r.use(ctx, p, r.Nodes...)
	if err != nil {
		return nil, err
	}
	return []result{
		{name: "idle-agent-memory", measured: rss, limit: 40, unit: "MB"},
		{name: "idle-agent-cpu", measured: cpu, limit: 0.2, unit: "%"},
	}, nil
}

// use is what the agents of some nodes take while nothing happens: memory in MB
// and processor time in percent of a core; the worst one counts.
func (r *rig) use(ctx context.Context, p plan, nodes ...*lab.Node) (rss, cpu float64, err error) {
	if err := lab.Pause(ctx, p.settle); err != nil {
		return 0, 0, err
	}
	before := make([]time.Duration, len(nodes))
	for i, n := range nodes {
		if before[i], err = cpuTime(n.Agent.PID); err != nil {
			return 0, 0, err
		}
	}
	began := time.Now()
	if err := lab.Pause(ctx, p.window); err != nil {
		return 0, 0, err
	}
	window := time.Since(began)
	for i, n := range nodes {
		used, err := cpuTime(n.Agent.PID)
		if err != nil {
			return 0, 0, err
		}
		bytes, err := lab.RSS(n.Agent.PID)
		if err != nil {
			return 0, 0, err
		}
		cpu = max(cpu, 100*float64(used-before[i])/float64(window))
		rss = max(rss, float64(bytes)/1e6)
	}
	return rss, cpu, nil
}

// cpuTime is the processor time of a process. /proc/PID/stat counts in ticks of
// 10 ms, too coarse for 0.2 % of a core; the scheduler's own books of every
// thread are in nanoseconds.
func cpuTime(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("read processor time of %d: no threads", pid)
	}
	var sum time.Duration
	for _, file := range threads {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has just ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", file, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}
