package containerd

import (
	"errors"
	"math"
	"testing"
	"time"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/runtimetest"
)

func TestStatsOf(t *testing.T) {
	for _, c := range []struct {
		name string
		from any
		want runtime.Stats
	}{
		{"version 1", &cgroup1.Metrics{
			CPU:              &cgroup1.CPUStat{Usage: &cgroup1.CPUUsage{Total: 1500}},
			Memory:           &cgroup1.MemoryStat{Usage: &cgroup1.MemoryEntry{Usage: 100, Limit: 1000}, TotalInactiveFile: 30},
			Pids:             &cgroup1.PidsStat{Current: 3},
			MemoryOomControl: &cgroup1.MemoryOomControl{OomKill: 2},
		}, runtime.Stats{CPU: 1500, Memory: 70, MemoryLimit: 1000, Pids: 3, OOMKills: 2}},
		{"version 1 says no limit as the greatest number of pages", &cgroup1.Metrics{
			Memory: &cgroup1.MemoryStat{Usage: &cgroup1.MemoryEntry{Usage: 100, Limit: 9223372036854771712}},
		}, runtime.Stats{Memory: 100}},
		{"version 2", &cgroup2.Metrics{
			CPU:          &cgroup2.CPUStat{UsageUsec: 3},
			Memory:       &cgroup2.MemoryStat{Usage: 100, UsageLimit: 1000, InactiveFile: 30},
			Pids:         &cgroup2.PidsStat{Current: 3},
			MemoryEvents: &cgroup2.MemoryEvents{OomKill: 2},
		}, runtime.Stats{CPU: 3 * time.Microsecond, Memory: 70, MemoryLimit: 1000, Pids: 3, OOMKills: 2}},
		{"version 2 says no limit as the greatest number", &cgroup2.Metrics{
			Memory: &cgroup2.MemoryStat{UsageLimit: math.MaxUint64},
		}, runtime.Stats{}},
		{"more cache than usage, as they are read one after the other", &cgroup2.Metrics{
			Memory: &cgroup2.MemoryStat{Usage: 10, InactiveFile: 30},
		}, runtime.Stats{}},
		{"without a controller", &cgroup1.Metrics{}, runtime.Stats{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := statsOf(c.from); err != nil || got != c.want {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
	if _, err := statsOf("something else"); err == nil {
		t.Error("what is no metrics was read")
	}
}

// What a container uses is seen, and belongs to that container.
func TestStats(t *testing.T) {
	e := newEnv(t)
	for _, id := range []string{"stats", "stats-eats"} {
		s := e.Spec(id, runtimetest.Program{})
		s.ID = id
		s.Resources.Memory = 256 << 20
		if id == "stats-eats" {
			s.Args = []string{"--eat-memory", "64"}
			s.Resources.Memory = 0
		}
		if _, err := e.r.Ensure(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	var eats runtime.Stats
	e.await(t, "64 MiB in use", func() bool {
		var err error
		if eats, err = e.r.Stats(t.Context(), "stats-eats"); err != nil {
			t.Fatal(err)
		}
		return eats.Memory >= 64<<20
	})
	if eats.MemoryLimit != 0 {
		t.Errorf("limit %d without one", eats.MemoryLimit)
	}
	s, err := e.r.Stats(t.Context(), "stats")
	if err != nil {
		t.Fatal(err)
	}
	if s.Memory == 0 || s.Memory > 60<<20 || s.MemoryLimit != 256<<20 || s.Pids == 0 || s.CPU <= 0 || s.OOMKills != 0 || time.Since(s.At).Abs() > time.Minute {
		t.Errorf("%+v", s)
	}
	if _, err := e.r.Stats(t.Context(), "absent"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("stats of nothing: %v", err)
	}
}
