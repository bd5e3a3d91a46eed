package containerd

import (
	"context"
	"fmt"
	"math"
	"time"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/typeurl/v2"

	"github.com/agentd/agentd/runtime"
)

// Stats implements runtime.Runtime.
func (r *Runtime) Stats(ctx context.Context, id string) (runtime.Stats, error) {
	s, err := r.stats(ctx, id)
	if err != nil {
		return runtime.Stats{}, fmt.Errorf("measure container %q: %w", id, err)
	}
	return s, nil
}

func (r *Runtime) stats(ctx context.Context, id string) (runtime.Stats, error) {
	if _, err := r.runningRecord(ctx, id); err != nil {
		return runtime.Stats{}, err
	}
	ctx, cancel := brief(ctx)
	defer cancel()
	// The filter names the container by itself: several in one string would be
	// joined by "and".
	resp, err := r.tasks().Metrics(ctx, &tasks.MetricsRequest{Filters: []string{"id==" + id}})
	if err != nil {
		return runtime.Stats{}, notRunning(err)
	}
	for _, m := range resp.Metrics {
		if m.ID != id {
			continue
		}
		v, err := typeurl.UnmarshalAny(m.Data)
		if err != nil {
			return runtime.Stats{}, fmt.Errorf("read metrics: %w", err)
		}
		s, err := statsOf(v)
		if err != nil {
			return runtime.Stats{}, err
		}
		if s.At = m.Timestamp.AsTime(); m.Timestamp == nil {
			s.At = time.Now()
		}
		return s, nil
	}
	return runtime.Stats{}, runtime.ErrNotFound
}

// statsOf reads what a shim measured, in the form of either version of cgroups.
func statsOf(v any) (runtime.Stats, error) {
	switch m := v.(type) {
	case *cgroup1.Metrics:
		mem := m.GetMemory()
		return runtime.Stats{
			CPU:         nanoseconds(m.GetCPU().GetUsage().GetTotal()),
			Memory:      less(mem.GetUsage().GetUsage(), mem.GetTotalInactiveFile()),
			MemoryLimit: limit(mem.GetUsage().GetLimit()),
			Pids:        m.GetPids().GetCurrent(),
			OOMKills:    m.GetMemoryOomControl().GetOomKill(),
		}, nil
	case *cgroup2.Metrics:
		mem := m.GetMemory()
		return runtime.Stats{
			CPU:         nanoseconds(m.GetCPU().GetUsageUsec() * 1000),
			Memory:      less(mem.GetUsage(), mem.GetInactiveFile()),
			MemoryLimit: limit(mem.GetUsageLimit()),
			Pids:        m.GetPids().GetCurrent(),
			OOMKills:    m.GetMemoryEvents().GetOomKill(),
		}, nil
	}
	return runtime.Stats{}, fmt.Errorf("read metrics: unknown kind %T", v)
}

func nanoseconds(n uint64) time.Duration { return time.Duration(min(n, math.MaxInt64)) }

// less is a - b; the two are read one after the other, so b may be the greater.
func less(a, b uint64) uint64 { return a - min(a, b) }

// limit is 0 for none: version 1 says the greatest number of pages then,
// version 2 the greatest number.
func limit(n uint64) uint64 {
	if n >= 1<<62 {
		return 0
	}
	return n
}
