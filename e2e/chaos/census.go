package chaos

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentd/agentd/e2e/lab"
)

// Census is everything of one namespace that could be left behind, by kind.
type Census map[string][]string

// Take counts what a namespace has in containerd, in /proc and elsewhere.
func Take(ctx context.Context, c *lab.Containerd, namespace string) (Census, error) {
	census := Census{}
	for kind, args := range map[string][]string{
		"containers": {"containers", "ls", "-q"},
		"tasks":      {"tasks", "ls", "-q"},
		"snapshots":  {"snapshots", "ls"},
		"leases":     {"leases", "ls", "-q"},
	} {
		out, err := c.Ctr(ctx, namespace, args...)
		if err != nil {
			return nil, err
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if kind == "snapshots" {
			lines = lines[1:] // the heading
		}
		for _, line := range lines {
			if f := strings.Fields(line); len(f) > 0 {
				census[kind] = append(census[kind], f[0])
			}
		}
	}
	procs, err := lab.Procs()
	if err != nil {
		return nil, err
	}
	for _, p := range procs {
		switch id, ours := shimOf(p, namespace); {
		case ours:
			census["shims"] = append(census["shims"], id)
		case p.Base() == "agentd-log" && environ(p.PID, "CONTAINER_NAMESPACE") == namespace:
			census["loggers"] = append(census["loggers"], environ(p.PID, "CONTAINER_ID"))
		}
	}
	mounts, err := lab.Mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if strings.HasPrefix(m, c.Dir+"/") {
			census["mounts"] = append(census["mounts"], strings.TrimPrefix(m, c.Dir+"/"))
		}
	}
	for kind, patterns := range map[string][]string{
		"bundles": {filepath.Join(c.Dir, "state", "io.containerd.runtime.v2.task", namespace, "*"),
			filepath.Join(c.Dir, "root", "io.containerd.runtime.v2.task", namespace, "*")},
		"runc states": {filepath.Join("/run/containerd/runc", namespace, "*")},
		// Where agentd and where ctr put them, in both versions.
		"cgroups": {"/sys/fs/cgroup/agentd/" + namespace + "/*", "/sys/fs/cgroup/*/agentd/" + namespace + "/*",
			"/sys/fs/cgroup/" + namespace + "/*", "/sys/fs/cgroup/*/" + namespace + "/*"},
	} {
		for _, pattern := range patterns {
			found, err := filepath.Glob(pattern)
			if err != nil {
				return nil, err
			}
			for _, f := range found {
				if st, err := os.Lstat(f); err == nil && st.IsDir() {
					census[kind] = append(census[kind], f)
				}
			}
		}
	}
	for kind := range census {
		slices.Sort(census[kind])
	}
	return census, nil
}

// shimOf returns the container's id when a process is a shim of the namespace.
func shimOf(p lab.Proc, namespace string) (id string, ours bool) {
	if !strings.HasPrefix(p.Base(), "containerd-shim") {
		return "", false
	}
	flag := func(name string) string {
		if i := slices.Index(p.Args, name); i >= 0 && i+1 < len(p.Args) {
			return p.Args[i+1]
		}
		return ""
	}
	// "start" and "delete" are the short-lived helpers that make and unmake one.
	last := p.Args[len(p.Args)-1]
	return flag("-id"), flag("-namespace") == namespace && last != "start" && last != "delete"
}

// environ is the value that a process was started with for a name.
func environ(pid int, name string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return ""
	}
	for kv := range strings.SplitSeq(string(b), "\x00") {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// Differs tells, kind by kind, how two counts differ; "" when they do not. What
// has a name that changes with every start is only counted.
func (c Census) Differs(want Census) string {
	var words []string
	kinds := map[string]bool{}
	for _, m := range []Census{c, want} {
		for k := range m {
			kinds[k] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		if len(c[k]) != len(want[k]) {
			words = append(words, fmt.Sprintf("%d %s, before it were %d: %q, before %q", len(c[k]), k, len(want[k]), c[k], want[k]))
		}
	}
	return strings.Join(words, "; ")
}

// String is the numbers only.
func (c Census) String() string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(c)) {
		words = append(words, fmt.Sprintf("%d %s", len(c[k]), k))
	}
	return strings.Join(words, ", ")
}
