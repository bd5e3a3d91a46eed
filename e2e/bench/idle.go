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
	if err := lab.Pause(ctx, p.settle); err != nil {
		return nil, err
	}
	before := make([]time.Duration, len(r.Nodes))
	for i, n := range r.Nodes {
		used, err := cpuTime(n.Agent.PID)
		if err != nil {
			return nil, err
		}
		before[i] = used
	}
	began := time.Now()
	if err := lab.Pause(ctx, p.window); err != nil {
		return nil, err
	}
	window := time.Since(began)
	rss := result{name: "idle-agent-memory", limit: 40, unit: "MB"}
	cpu := result{name: "idle-agent-cpu", limit: 0.2, unit: "%"}
	for i, n := range r.Nodes {
		used, err := cpuTime(n.Agent.PID)
		if err != nil {
			return nil, err
		}
		bytes, err := lab.RSS(n.Agent.PID)
		if err != nil {
			return nil, err
		}
		cpu.measured = max(cpu.measured, 100*float64(used-before[i])/float64(window))
		rss.measured = max(rss.measured, float64(bytes)/1e6)
	}
	return []result{rss, cpu}, nil
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
