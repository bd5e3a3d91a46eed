package chaos

import (
	"context"
	"syscall"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// strike does what a fault says. It returns false when there was nothing to hit.
// A cut that is armed here strikes later: the proxy counts it.
func (w *world) strike(ctx context.Context, f Fault) (bool, error) {
	hit, err := false, error(nil)
	switch f.Kind {
	case KillInit:
		hit = w.killInit(f.Daemon)
	case KillShim:
		hit, err = w.killShim(f.Daemon)
	case KillServer:
		hit = w.killServer(ctx, f.Down)
	case KillAgent:
		hit = w.killAgent(ctx, f.Down)
	case CutCall:
		w.proxy.Arm(f.Cut)
		hit = w.killInit(f.Daemon) // there have to be calls
	case NewSpec:
		w.revision++
		err = w.want(false)
	}
	if hit || f.Kind == NewSpec {
		w.mu.Lock()
		w.disturbed = time.Now()
		w.mu.Unlock()
	}
	return hit, err
}

// killInit kills the program of a daemon, or of the next one that has one.
func (w *world) killInit(daemon int) bool {
	copies := w.watcher.Copies()
	for i := range w.daemons {
		for _, c := range copies[w.daemons[(daemon+i)%len(w.daemons)]] {
			if kill(c.PID, c.Start) {
				return true
			}
		}
	}
	return false
}

// killShim does the same to shims.
func (w *world) killShim(daemon int) (bool, error) {
	procs, err := lab.Procs()
	if err != nil {
		return false, err
	}
	for i := range w.daemons {
		for _, p := range procs {
			id, ours := shimOf(p, w.namespace)
			if ours && id == w.daemons[(daemon+i)%len(w.daemons)] && kill(p.PID, p.Start) {
				return true, nil
			}
		}
	}
	return false, nil
}

func kill(pid int, start uint64) bool {
	return lab.Alive(pid, start) && syscall.Kill(pid, syscall.SIGKILL) == nil
}
