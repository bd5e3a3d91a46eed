package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
)

// hierarchies are the mount points of the cgroup file systems: one of version
// 2, several of version 1, or both (hybrid).
type hierarchies struct {
	all     []string
	memory  string // version 1's memory controller; "" without
	unified bool   // version 2 only: runc uses it
}

func findHierarchies() (hierarchies, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return hierarchies{}, fmt.Errorf("find cgroups: %w", err)
	}
	return parseHierarchies(string(b)), nil
}

// parseHierarchies reads proc(5)'s mountinfo: the mount point is field 5; type
// and super options come after the lone "-".
func parseHierarchies(mountinfo string) hierarchies {
	var h hierarchies
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 3 || g[0] != "cgroup" && g[0] != "cgroup2" {
			continue
		}
		h.all = append(h.all, f[4])
		if g[0] == "cgroup" && slices.Contains(strings.Split(g[2], ","), "memory") {
			h.memory = f[4]
		}
		h.unified = h.unified || f[4] == "/sys/fs/cgroup" && g[0] == "cgroup2"
	}
	return h
}

// cgroupsPath is what the OCI spec of a container says. It holds namespace and
// id, so that several agents on one machine never share one.
func (r *Runtime) cgroupsPath(id string) string {
	if r.systemd {
		// An underscore is in no id, so the two cannot run into each other.
		return slice + ":agentd:" + id + "_" + r.cfg.Namespace
	}
	return "/agentd/" + r.cfg.Namespace + "/" + id
}

// unitProperties are annotations that runc turns into properties of a
// container's scope; nil where runc makes no scope. They order it for shutdown,
// when systemd stops all scopes at once: what waited for agentd-ready.target at
// boot stops first, the network last.
func (r *Runtime) unitProperties() map[string]string {
	if !r.systemd {
		return nil
	}
	return map[string]string{
		"org.systemd.property.Before": "['agentd-ready.target']",
		"org.systemd.property.After":  "['network.target']",
	}
}

// cgroupDirs are the folders that stand for it, whether they exist or not.
func (r *Runtime) cgroupDirs(id string) []string {
	path := r.cgroupsPath(id)
	if r.systemd {
		path = "/" + slice + "/agentd-" + id + "_" + r.cfg.Namespace + ".scope"
	}
	dirs := make([]string, 0, len(r.cgroups.all))
	for _, m := range r.cgroups.all {
		dirs = append(dirs, filepath.Join(m, path))
	}
	return dirs
}

// oomKills counts how often the OOM killer struck in the cgroup of id; false
// when the cgroup is gone.
func (r *Runtime) oomKills(id string) (uint64, bool) {
	for _, dir := range r.cgroupDirs(id) {
		file := "memory.events" // version 2
		if r.cgroups.memory != "" {
			if !strings.HasPrefix(dir, r.cgroups.memory+"/") {
				continue
			}
			file = "memory.oom_control"
		}
		if n, ok := readOOMs(filepath.Join(dir, file)); ok {
			return n, true
		}
	}
	return 0, false
}

// strays are the living processes in the cgroup of id. A task that is gone says
// nothing about them: after its shim was killed, containerd answers NotFound
// 10 to 15 ms before init is dead, and with the host's process namespace
// children outlive init.
func (r *Runtime) strays(id string) ([]int, error) {
	var pids []int
	for _, top := range r.cgroupDirs(id) {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return ignoreGone(err)
			}
			b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			if err != nil {
				return ignoreGone(err)
			}
			for f := range strings.FieldsSeq(string(b)) {
				// 0 is a process of a pid namespace that we cannot see.
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 && alive(pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look into the cgroup: %w", err)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

func ignoreGone(err error) error {
	// ENODEV is a cgroup removed while its file was open.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// alive is false for zombies too: where PID 1 does not reap they stay for ever
// and mean nothing.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(b, ')') // the name before may hold anything
	return i < 0 || i+2 >= len(b) || b[i+2] != 'Z' && b[i+2] != 'X'
}

// strayLimit is how long processes that got SIGKILL may take to be gone; longer
// means that they hang in the kernel.
const strayLimit = 10 * time.Second

// emptyCgroup kills what is left in the cgroup of id and returns when it is
// gone, or runtime.ErrStray. The cgroup is ours alone, by its path.
func (r *Runtime) emptyCgroup(ctx context.Context, id string) error {
	end := time.Now().Add(strayLimit)
	for {
		pids, err := r.strays(id)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			break
		}
		if r.base.Err() != nil {
			return errClosed // whoever comes next may own what runs there
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: %d did not end %v after SIGKILL; hanging in the kernel?", runtime.ErrStray, pids, strayLimit)
		}
		for _, pid := range pids {
			r.killStray(id, pid)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	r.removeCgroup(id)
	return nil
}

// killStray kills a process if it is still in the cgroup of id. The pidfd is
// taken first, so that a pid that was given away in between is not hit.
func (r *Runtime) killStray(id string, pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	pids, err := r.strays(id)
	if err != nil || !slices.Contains(pids, pid) {
		return
	}
	r.log.Info("killing a process that outlived its container", "container", id, "pid", pid)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		r.log.Warn("a process that outlived its container cannot be killed", "container", id, "pid", pid, "err", err)
	}
}

// removeCgroup removes the empty folders that are left, so that the next
// instance starts with limits and counters of its own. That it fails (a unit's
// sandbox may show cgroups read-only) does no harm.
func (r *Runtime) removeCgroup(id string) {
	for _, top := range r.cgroupDirs(id) {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			_ = unix.Rmdir(d)
		}
	}
}
