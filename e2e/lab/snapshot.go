package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Snapshot is what a lab could leave on a machine, one line per thing.
type Snapshot []string

// TakeSnapshot looks at processes, mounts, network namespaces, links, nft
// tables, cgroups and the folders in which containerd, runc and labs leave
// files.
func TakeSnapshot() (Snapshot, error) {
	var s Snapshot
	procs, err := Procs()
	if err != nil {
		return nil, err
	}
	for _, p := range procs {
		s = append(s, fmt.Sprintf("process %d.%d %s", p.PID, p.Start, strings.Join(p.Args, " ")))
	}
	mounts, err := Mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		s = append(s, "mount "+m)
	}
	for _, glob := range []string{
		"/run/netns/*", "/sys/class/net/*", "/tmp/*", "/var/tmp/*", "/dev/shm/*", "/opt/*", "/run/*",
		"/run/containerd/*", "/run/containerd/*/*", "/run/containerd/*/*/*", "/run/agentd/*", "/run/agentd/*/*",
		"/var/lib/containerd", "/var/lib/agentd", "/etc/agentd",
		"/var/run/nri", "/etc/cni", "/etc/containerd",
	} {
		found, err := filepath.Glob(glob)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", glob, err)
		}
		for _, f := range found {
			s = append(s, "file "+f)
		}
	}
	cgroups, err := cgroupFolders()
	if err != nil {
		return nil, err
	}
	for _, dir := range cgroups {
		s = append(s, "cgroup "+dir)
	}
	// Without nft there are no tables of ours.
	if tables, err := exec.Command("nft", "list", "tables").Output(); err == nil {
		for line := range strings.Lines(string(tables)) {
			s = append(s, "nft "+strings.TrimSpace(line))
		}
	}
	slices.Sort(s)
	return slices.Compact(s), nil
}

// cgroupFolders lists the first three levels of every hierarchy: where runc
// puts containers.
func cgroupFolders() ([]string, error) {
	var all []string
	pattern := "/sys/fs/cgroup"
	for range 3 {
		pattern += "/*"
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("look at cgroups: %w", err)
		}
		for _, f := range found {
			if st, err := os.Lstat(f); err == nil && st.IsDir() {
				all = append(all, f)
			}
		}
	}
	return all, nil
}

// Since is what is in s and was not in before.
func (s Snapshot) Since(before Snapshot) Snapshot {
	var fresh Snapshot
	for _, line := range s {
		if _, found := slices.BinarySearch(before, line); !found {
			fresh = append(fresh, line)
		}
	}
	return fresh
}

// Only keeps the lines that contain one of the words: on a machine where other
// things go on, those that are ours.
func (s Snapshot) Only(words ...string) Snapshot {
	var mine Snapshot
	for _, line := range s {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			mine = append(mine, line)
		}
	}
	return mine
}
