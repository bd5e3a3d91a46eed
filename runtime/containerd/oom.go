package containerd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// slice holds the scopes of all containers where systemd makes the cgroups.
const slice = "agentd.slice"

// killedCode is the exit code of a container that SIGKILL ended.
const killedCode = 128 + 9

// vanishedOOM reports whether the OOM killer ended a container whose cgroup is
// gone already. systemd removes a scope with its last process, and what its
// memory.events said goes with it, often before containerd's shim could read
// it. With cgroup version 2, the slice's own count goes on: whatever it counted
// and no scope that is left did was a scope's that is gone.
//
// It is for a container that was ended by SIGKILL. When two end in the same
// moment, one of them by somebody's hand, that one may be taken for the other.
func (r *Runtime) vanishedOOM(id string) bool {
	if _, left := r.oomKills(id); left {
		return false
	}
	gone, ok := r.goneOOMs()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !ok || gone <= r.oomsGone {
		r.oomsGone = min(gone, r.oomsGone) // a new slice counts from zero
		return false
	}
	r.oomsGone = gone
	r.ooms[id] = struct{}{}
	return true
}

// goneOOMs counts the OOM kills in scopes that are gone; false where there is no
// such count.
func (r *Runtime) goneOOMs() (uint64, bool) {
	if !r.systemd || !r.cgroups.unified {
		return 0, false
	}
	// All before those of scopes: a kill in between must not seem one of a scope
	// that is gone.
	top := filepath.Join(r.cgroups.all[0], slice)
	gone, ok := readOOMs(filepath.Join(top, "memory.events"))
	if !ok {
		return 0, false
	}
	scopes, _ := filepath.Glob(filepath.Join(top, "*", "memory.events"))
	for _, file := range scopes {
		n, _ := readOOMs(file)
		gone -= min(n, gone)
	}
	return gone, true
}

// readOOMs reads oom_kill of memory.events or memory.oom_control; false when it
// is not there.
func readOOMs(file string) (uint64, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			n, err := strconv.ParseUint(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
