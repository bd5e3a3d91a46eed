package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Proc is one process as /proc shows it.
type Proc struct {
	PID, PPID int
	State     string // R, S, D, Z, ...
	Start     uint64 // clock ticks after boot: with PID it names a process for good
	Args      []string
	Exe       string // "" for kernel threads and zombies
	NetNS     uint64 // inode of its network namespace; 0 when unreadable
}

// Procs lists all processes that are not zombies or kernel threads. PID 1 may
// not reap (in containers it often doesn't), so zombies mean nothing.
func Procs() ([]Proc, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := ReadProc(pid)
		if err != nil || p.State == "Z" || len(p.Args) == 0 {
			continue // it ended between the two looks, or is none of ours
		}
		all = append(all, p)
	}
	return all, nil
}

// ReadProc reads one process; an error wraps os.ErrNotExist when it is gone.
func ReadProc(pid int) (Proc, error) { return ReadProcIn("/proc", pid) }

// ReadProcIn reads one process of another PID namespace, whose proc file system
// is seen at root.
func ReadProcIn(root string, pid int) (Proc, error) {
	dir := filepath.Join(root, strconv.Itoa(pid))
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		if errors.Is(err, syscall.ESRCH) {
			err = os.ErrNotExist
		}
		return Proc{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	// The name in parentheses may hold anything: fields start after the last ')'.
	i := bytes.LastIndexByte(stat, ')')
	f := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(f) < 20 {
		return Proc{}, fmt.Errorf("read process %d: malformed stat", pid)
	}
	p := Proc{PID: pid, State: f[0]}
	p.PPID, _ = strconv.Atoi(f[1])
	p.Start, _ = strconv.ParseUint(f[19], 10, 64) // field 22 of proc(5)
	if args, err := os.ReadFile(dir + "/cmdline"); err == nil && len(args) > 0 {
		p.Args = strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
	}
	p.Exe, _ = os.Readlink(dir + "/exe")
	p.NetNS = inode(dir + "/ns/net")
	return p, nil
}

// Alive reports whether the very process that was seen as (pid, start) still runs.
func Alive(pid int, start uint64) bool {
	p, err := ReadProc(pid)
	return err == nil && p.State != "Z" && p.Start == start
}

// environ reports whether the process was started with KEY=VALUE.
func (p Proc) environ(kv string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
	return err == nil && slices.Contains(strings.Split(string(b), "\x00"), kv)
}

// flag returns the argument after name, as in "-id x".
func (p Proc) flag(name string) string {
	i := slices.Index(p.Args, name)
	if i < 0 || i+1 >= len(p.Args) {
		return ""
	}
	return p.Args[i+1]
}

// Base is the file name of the program.
func (p Proc) Base() string {
	if p.Exe != "" {
		return strings.TrimSuffix(filepath.Base(p.Exe), " (deleted)")
	}
	return filepath.Base(p.Args[0])
}

func inode(path string) uint64 {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0
	}
	return st.Ino
}

// RSS is the resident memory of a process in bytes.
func RSS(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of %d: %w", pid, err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of %d: no VmRSS", pid)
}
