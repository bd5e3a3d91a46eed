package supervise

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// procDir is the kernel's view of processes and sockets.
const procDir = "/proc"

// maxDescendants bounds the processes of a container that are looked at.
const maxDescendants = 256

// holderOf returns which of the processes (by daemon: the pid of its init), or
// of their children, listens on a TCP port of this host's network. What can't
// be read is not known: "".
func holderOf(proc string, port int, inits map[string]int) string {
	sockets := map[string]bool{}
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join(proc, "net", name))
		if err == nil {
			listeners(string(b), port, sockets)
		}
	}
	if len(sockets) == 0 {
		return ""
	}
	for _, daemon := range slices.Sorted(maps.Keys(inits)) {
		todo := []int{inits[daemon]}
		for n := 0; n < len(todo) && n < maxDescendants; n++ {
			if holdsAny(proc, todo[n], sockets) {
				return daemon
			}
			todo = append(todo, childrenOf(proc, todo[n])...)
		}
	}
	return ""
}

// listeners adds the sockets that listen on a port, as links in fd name them,
// from the text of /proc/net/tcp (see proc(5)).
func listeners(table string, port int, into map[string]bool) {
	const listening = "0A"
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != listening {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
			into[fmt.Sprintf("socket:[%s]", f[9])] = true
		}
	}
}

func holdsAny(proc string, pid int, sockets map[string]bool) bool {
	dir := filepath.Join(proc, strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false // it ended
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		return err == nil && sockets[to]
	})
}

func childrenOf(proc string, pid int) []int {
	id := strconv.Itoa(pid)
	b, err := os.ReadFile(filepath.Join(proc, id, "task", id, "children"))
	if err != nil {
		return nil
	}
	var out []int
	for _, s := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(s); err == nil {
			out = append(out, n)
		}
	}
	return out
}
