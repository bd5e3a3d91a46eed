package logger

import (
	"os"
	"strconv"
	"syscall"
)

// Holds reports whether the process pid has an end of the pipe f open. It is
// how a SIGTERM of containerd's shim, which has closed the pipes and waits for
// the logger, is told from any other: a machine that shuts down sends one to
// everybody, while the container may still have something to say. What cannot
// be found out counts as held.
func Holds(pid int, f *os.File) bool {
	info, err := f.Stat() // not by f.Fd(), which would make reads block
	if err != nil {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	fds, err := os.ReadDir(dir)
	if err != nil {
		return true
	}
	want := "pipe:[" + strconv.FormatUint(st.Ino, 10) + "]"
	for _, d := range fds {
		if target, err := os.Readlink(dir + d.Name()); err == nil && target == want {
			return true
		}
	}
	return false
}
