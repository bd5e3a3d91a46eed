package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentd/agentd/e2e/lab"
)

// holders tells, for each logger of a namespace, since when it runs and who
// else has the pipes open that it reads: a logger ends when nobody has.
func holders(namespace string) string {
	procs, err := lab.Procs()
	if err != nil {
		return err.Error()
	}
	open := map[string][]string{} // by pipe
	for _, p := range procs {
		for _, pipe := range pipes(p.PID, "*") {
			open[pipe] = append(open[pipe], fmt.Sprintf("%d (parent %d) %s", p.PID, p.PPID, strings.Join(p.Args, " ")))
		}
	}
	var words []string
	for _, p := range procs {
		if p.Base() != "agentd-log" || environ(p.PID, "CONTAINER_NAMESPACE") != namespace {
			continue
		}
		words = append(words, fmt.Sprintf("logger %d of %s, parent %d, start %d", p.PID, environ(p.PID, "CONTAINER_ID"), p.PPID, p.Start))
		for _, fd := range []string{"3", "4"} {
			for _, pipe := range pipes(p.PID, fd) {
				words = append(words, "  "+pipe+": "+strings.Join(open[pipe], ", "))
			}
		}
	}
	return strings.Join(words, "\n")
}

// pipes are the pipes that a process has open at the descriptors that match.
func pipes(pid int, fd string) []string {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/%s", pid, fd)) // it may have ended
	var all []string
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "pipe:") {
			all = append(all, to)
		}
	}
	return all
}
