package containerd

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd/agentd/runtime"
)

const (
	cpuPeriod   = 100_000 // µs, the kernel's default
	minCPUQuota = 1_000   // µs, the least that the kernel takes
)

// swapLimit tells whether the kernel can limit swap: version 1 only with
// swapaccount=1, and runc fails on the missing file otherwise.
func (h hierarchies) swapLimit() bool {
	if h.memory == "" {
		return true
	}
	_, err := os.Stat(filepath.Join(h.memory, "memory.memsw.limit_in_bytes"))
	return err == nil
}

// withResources sets limits; zero values set none.
func withResources(res runtime.Resources, m machine) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		s.Linux.Resources.CPU = cpu(res, m, s.Linux.Resources)
		s.Linux.Resources.Memory = memory(res, m)
		if res.Pids > 0 {
			s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &res.Pids}
		}
		// Said even when it is 0: a container would inherit the -999 of
		// containerd's unit otherwise, and never be chosen.
		s.Process.OOMScoreAdj = &res.OOMScoreAdj
		// The default of 1024 open files is containerd's own; without a wish a
		// container has what containerd has, as with Docker and Kubernetes.
		s.Process.Rlimits = rlimits(res.Ulimits)
		return nil
	}
}

func cpu(res runtime.Resources, m machine, to *specs.LinuxResources) *specs.LinuxCPU {
	var c specs.LinuxCPU
	if res.CPU > 0 {
		period := uint64(cpuPeriod)
		quota := max(int64(math.Round(res.CPU*cpuPeriod)), minCPUQuota)
		c.Period, c.Quota = &period, &quota
	}
	if res.CPUWeight > 0 {
		if m.unified {
			// Said as it is: runc's conversion from shares differs by version.
			if to.Unified == nil {
				to.Unified = map[string]string{}
			}
			to.Unified["cpu.weight"] = strconv.FormatUint(res.CPUWeight, 10)
		} else {
			shares := sharesOf(res.CPUWeight)
			c.Shares = &shares
		}
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

// sharesOf turns a version 2 weight, of which 100 is the default, into version
// 1 shares, of which 1024 is.
func sharesOf(weight uint64) uint64 {
	return min(max(weight*1024/100, 2), 262144) // the kernel's bounds
}

// memory: the limit holds for memory and swap together, so that a container
// that is over its limit ends instead of slowing the machine down.
func memory(res runtime.Resources, m machine) *specs.LinuxMemory {
	if res.Memory <= 0 && res.MemoryReserve <= 0 {
		return nil
	}
	var l specs.LinuxMemory
	if res.Memory > 0 {
		l.Limit = &res.Memory
		if m.swapLimit {
			l.Swap = &res.Memory
		}
	}
	if res.MemoryReserve > 0 {
		l.Reservation = &res.MemoryReserve
	}
	return &l
}

func rlimits(ulimits map[string]int64) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	for name, n := range ulimits {
		v := uint64(n)
		if n < 0 {
			v = math.MaxUint64 // RLIM_INFINITY
		}
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Hard: v, Soft: v})
	}
	slices.SortFunc(out, func(a, b specs.POSIXRlimit) int { return strings.Compare(a.Type, b.Type) })
	return out
}
