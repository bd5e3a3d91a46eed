package chaos

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// MarkEnv is in the environment of every daemon's program, with the namespace,
// the daemon's name and the revision, joined by slashes.
const MarkEnv = "AGENTD_CHAOS"

// Copy is one living program of a daemon.
type Copy struct {
	PID      int
	Start    uint64 // with PID it names the process for good
	Revision string
}

// Watcher looks for copies out of /proc, all the time. Its methods may be
// called from any goroutine.
type Watcher struct {
	prefix string // of the mark's value

	mu     sync.Mutex
	copies map[string][]Copy // guarded by mu: by daemon, of the last look
	looks  int               // guarded by mu
	gap    time.Duration     // guarded by mu: the longest time between two looks
	double []string          // guarded by mu: what was seen twice, in words
	events []string          // guarded by mu: who came and went lately
}

// NewWatcher watches the daemons of a namespace.
func NewWatcher(namespace string) *Watcher {
	return &Watcher{prefix: namespace + "/", copies: map[string][]Copy{}}
}

const (
	// lookEvery is less than the 10 to 15 ms in which a program outlives the
	// kill of its shim while containerd already says that there is no task.
	lookEvery = 2 * time.Millisecond
	// forgetAfter bounds how long a process that is none of ours is not read
	// again: numbers are given away anew.
	forgetAfter = 500 * time.Millisecond
)

// probeArgs end the command line of what probes run inside the containers, with
// the environment of their programs. They are no copies.
var probeArgs = []byte("\x00--version\x00")

// Run watches until ctx ends. It takes a thread of its own, which goes before
// others on a busy machine, so that it does not miss what it is there for; the
// thread ends with it.
func (w *Watcher) Run(ctx context.Context) {
	goruntime.LockOSThread()
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), -15) // without it more is missed
	foreign := map[int]bool{}
	forgot, last := time.Now(), time.Now()
	for lab.Pause(ctx, lookEvery) == nil {
		if time.Since(forgot) > forgetAfter {
			clear(foreign)
			forgot = time.Now()
		}
		found, err := w.look(foreign)
		w.mu.Lock()
		if err != nil {
			w.double = append(w.double, fmt.Sprintf("the watcher is blind: %v", err))
			w.mu.Unlock()
			return
		}
		w.looks++
		w.gap = max(w.gap, time.Since(last))
		last = time.Now()
		w.note(found)
		w.copies = found
		for _, name := range slices.Sorted(maps.Keys(found)) {
			if all := still(found[name]); len(all) > 1 && len(w.double) < 20 {
				w.double = append(w.double, fmt.Sprintf("%s: %d copies of %s live at once: %+v",
					time.Now().UTC().Format("15:04:05.000"), len(all), name, all))
			}
		}
		w.mu.Unlock()
	}
}

// look reads /proc once. A process that was seen to be none of ours, and not on
// the way to become one by an exec, is in foreign and not read again.
func (w *Watcher) look(foreign map[int]bool) (map[string][]Copy, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	found := map[string][]Copy{}
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil || foreign[pid] {
			continue
		}
		env, err := os.ReadFile("/proc/" + n + "/environ")
		if err != nil {
			continue // it ended
		}
		name, revision, ours := w.mark(env)
		args, err := os.ReadFile("/proc/" + n + "/cmdline")
		if !ours {
			foreign[pid] = err == nil && len(args) > 0 && !becomes(args)
			continue
		}
		if bytes.HasSuffix(args, probeArgs) {
			continue
		}
		p, err := lab.ReadProc(pid)
		if err != nil || p.State == "Z" || p.State == "X" {
			continue
		}
		found[name] = append(found[name], Copy{PID: pid, Start: p.Start, Revision: revision})
	}
	return found, nil
}

// becomes reports whether a process may turn into a daemon's program: runc and
// the shim do, by fork and exec, and containerd starts the shim.
func becomes(cmdline []byte) bool {
	arg, _, _ := bytes.Cut(cmdline, []byte{0})
	base := string(arg[bytes.LastIndexByte(arg, '/')+1:])
	return strings.HasPrefix(base, "runc") || strings.HasPrefix(base, "containerd") || base == "exe" || base == "init"
}

// mark finds the mark in an environment.
func (w *Watcher) mark(env []byte) (name, revision string, ours bool) {
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		value, ok := strings.CutPrefix(string(kv), MarkEnv+"=")
		if !ok {
			continue
		}
		rest, ok := strings.CutPrefix(value, w.prefix)
		if name, revision, _ = strings.Cut(rest, "/"); ok {
			return name, revision, true
		}
	}
	return "", "", false
}

// still drops those that have ended since they were seen: a look takes a while,
// and one that ended before the other began is no double. What is alive now and
// was seen before lived together.
func still(seen []Copy) []Copy {
	if len(seen) < 2 {
		return nil
	}
	var all []Copy
	for _, c := range seen {
		if lab.Alive(c.PID, c.Start) {
			all = append(all, c)
		}
	}
	return all
}

// note remembers who came and went, for messages; w.mu is held.
func (w *Watcher) note(now map[string][]Copy) {
	stamp := time.Now().UTC().Format("15:04:05.000")
	tell := func(what string, from, to map[string][]Copy) {
		for _, name := range slices.Sorted(maps.Keys(from)) {
			for _, c := range from[name] {
				if !slices.Contains(to[name], c) {
					w.events = append(w.events, fmt.Sprintf("%s %s %s revision %s, pid %d", stamp, name, what, c.Revision, c.PID))
				}
			}
		}
	}
	tell("ended", w.copies, now)
	tell("began", now, w.copies)
	if over := len(w.events) - 40; over > 0 {
		w.events = slices.Delete(w.events, 0, over)
	}
}

// Copies are the living programs by daemon, as of the last look.
func (w *Watcher) Copies() map[string][]Copy {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.copies)
}

// Doubles tells of every moment at which two copies of a daemon lived.
func (w *Watcher) Doubles() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.double)
}

// Looked tells how often it looked and the longest time that it did not.
func (w *Watcher) Looked() (times int, gap time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looks, w.gap
}

// Lately tells who came and went last.
func (w *Watcher) Lately() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.events, "\n")
}
