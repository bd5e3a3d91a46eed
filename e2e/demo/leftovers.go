package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
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

// otherLab matches the names of labs that tests make, should some run meanwhile.
var otherLab = regexp.MustCompile(`agt[0-9a-f]{6}`)

// leftBehind compares the machine with how it was and keeps what can be ours.
func leftBehind(before, after lab.Snapshot, dir string) []string {
	var left []string
	for _, line := range after.Since(before) {
		kind, what, _ := strings.Cut(line, " ")
		ours := strings.Contains(what, dir) || strings.Contains(what, demoID)
		switch kind {
		case "process":
			// Processes come and go on any machine; of ours, the rest is known by name.
			ours = ours || strings.Contains(what, "prometheus-node-exporter") || strings.Contains(what, "agentd-log")
		case "file":
			ours = ours || strings.HasPrefix(what, "/run/containerd") || strings.HasPrefix(what, "/run/netns") ||
				strings.HasPrefix(what, "/opt/") || strings.Contains(what, "agentd")
		case "mount", "nft":
			ours = ours || strings.Contains(what, "netns") || strings.Contains(what, "partition")
		case "cgroup":
			ours = ours || strings.Contains(what, "agentd")
		}
		if ours && !otherLab.MatchString(line) {
			left = append(left, line)
		}
	}
	return left
}
