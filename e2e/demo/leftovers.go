package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/agentd/agentd/e2e/lab"
)

// demoID begins the name of everything that a demo makes outside its folder.
const demoID = "agentd-demo"

// takeLock makes sure that there is one demo at a time. An abstract socket
// leaves no file, and is gone with its process however that ends.
func takeLock() (io.Closer, error) {
	l, err := net.Listen("unix", "@"+demoID)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errors.New("a demo is running on this machine: end it with Ctrl-C where it was started")
	}
	if err != nil {
		return nil, fmt.Errorf("take the demo's lock: %w", err)
	}
	return l, nil
}

// leftFolders finds the folders of demos that could not clean up.
func leftFolders() ([]string, error) {
	var all []string
	for _, base := range lab.TempBases() {
		found, err := filepath.Glob(filepath.Join(base, demoID+".*"))
		if err != nil {
			return nil, err
		}
		for _, dir := range found {
			st, err := os.Lstat(dir)
			if err != nil || !st.IsDir() {
				continue
			}
			// Somebody else's folder with our name is none of our business.
			if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid == 0 {
				all = append(all, dir)
			}
		}
	}
	return all, nil
}

// sweep removes what interrupted demos left, if anything.
func sweep(stdout io.Writer) error {
	dirs, err := leftFolders()
	if err != nil {
		return err
	}
	before, err := lab.TakeSnapshot()
	if err != nil {
		return err
	}
	// Names alone are swept too, when even the folder is gone.
	var errs []error
	for _, dir := range append(dirs, filepath.Join(os.TempDir(), demoID+".none")) {
		errs = append(errs, lab.Sweep(demoID, dir))
	}
	lab.SweepRun()
	after, err := lab.TakeSnapshot()
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	removed := before.Since(after).Only(demoID)
	if len(removed) == 0 {
		fmt.Fprintln(stdout, "# nothing was left of a demo")
		return nil
	}
	for _, line := range removed {
		fmt.Fprintln(stdout, "# removed", line)
	}
	return nil
}

// leftBehind compares the machine with how it was and keeps what can be ours:
// what has our names, and what nobody uses that was not there before. Other
// containers may start on this machine while a demo runs.
func leftBehind(before, after lab.Snapshot, dir string) []string {
	var left []string
	for _, line := range after.Since(before) {
		kind, what, _ := strings.Cut(line, " ")
		ours := strings.Contains(what, dir) || strings.Contains(what, demoID)
		switch kind {
		case "process":
			ours = ours || strings.Contains(what, exporterProgram)
		case "file":
			ours = ours || strings.HasPrefix(what, "/opt/containerd") ||
				(strings.HasPrefix(what, "/run/containerd") || strings.HasPrefix(what, "/run/agentd") || what == "/run/netns") && unused(what)
		case "cgroup":
			ours = ours || filepath.Base(what) == "agentd" && len(below(what)) == 0
		}
		if ours {
			left = append(left, line)
		}
	}
	return left
}

// unused tells of a folder that it is empty, of a socket that nobody listens.
func unused(path string) bool {
	st, err := os.Lstat(path)
	switch {
	case err != nil:
		return false // gone meanwhile
	case st.IsDir():
		entries, err := os.ReadDir(path)
		return err == nil && len(entries) == 0
	case st.Mode()&os.ModeSocket != 0:
		sockets, err := os.ReadFile("/proc/net/unix")
		return err == nil && !strings.Contains(string(sockets), " "+path+"\n")
	default:
		return true
	}
}

// below lists the cgroups in a cgroup.
func below(cgroup string) []string {
	found, _ := filepath.Glob(cgroup + "/*/cgroup.procs") // the pattern is well-formed
	return found
}
