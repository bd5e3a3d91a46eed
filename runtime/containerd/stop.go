package containerd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
)

// Stop implements runtime.Runtime. The task is deleted, so that no shim stays;
// the exit is kept in a label. When ctx ends during the grace period the
// container is left with its stop signal, and no SIGKILL.
func (r *Runtime) Stop(ctx context.Context, id string, grace time.Duration) (runtime.Exit, error) {
	exit, err := alone(ctx, r, id, func(ctx context.Context) (runtime.Exit, error) {
		rec, err := r.record(ctx, id)
		if err != nil {
			return runtime.Exit{}, err
		}
		p, err := r.process(ctx, id)
		if err != nil {
			return runtime.Exit{}, err
		}
		ran := p != nil && (p.Status == task.Status_RUNNING || p.Status == task.Status_PAUSED || p.Status == task.Status_PAUSING)
		exit, err := r.tearDown(ctx, id, rec, ending{signal: stopSignal(rec), grace: grace})
		if err != nil {
			return runtime.Exit{}, err
		}
		if exit == nil && ran {
			exit = &runtime.Exit{Code: unknownCode, At: time.Now()}
		}
		if exit != nil && rec != nil && !startedAt(rec).IsZero() {
			if exit.At.Before(startedAt(rec)) {
				exit.At = startedAt(rec) // the clock went back; see startTime
			}
			if err := r.setLabels(ctx, id, map[string]string{runtime.LabelExit: formatExit(*exit)}); err != nil {
				return runtime.Exit{}, err
			}
		}
		if !ran {
			return runtime.Exit{}, runtime.ErrNotFound
		}
		return *exit, nil
	})
	if err != nil {
		return runtime.Exit{}, fmt.Errorf("stop container %q: %w", id, err)
	}
	return exit, nil
}

// stopSignal is what the container was made with; SIGTERM by default.
func stopSignal(rec *containers.Container) syscall.Signal {
	if rec != nil {
		if sig := parseSignal(rec.Labels[runtime.LabelStopSignal]); sig != 0 {
			return sig
		}
	}
	return unix.SIGTERM
}

// parseSignal reads "SIGTERM", "TERM", "15" and "SIGRTMIN+3", which is how an
// init like systemd is told to stop; 0 when it means nothing.
func parseSignal(text string) syscall.Signal {
	const rtmin, most = 34, 64 // as glibc counts them; the first two are its own
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n <= most {
		return syscall.Signal(n)
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if plus, ok := strings.CutPrefix(name, "SIGRTMIN"); ok {
		n, err := strconv.Atoi(strings.TrimPrefix(plus, "+"))
		if plus == "" || err == nil && n >= 0 && rtmin+n <= most {
			return syscall.Signal(rtmin + n)
		}
		return 0
	}
	return unix.SignalNum(name)
}

// stopGrace is what the container was made with.
func stopGrace(rec *containers.Container, otherwise time.Duration) time.Duration {
	if rec != nil {
		if d, err := time.ParseDuration(rec.Labels[runtime.LabelStopGrace]); err == nil {
			return d
		}
	}
	return otherwise
}

func startedAt(rec *containers.Container) time.Time {
	if rec == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, rec.Labels[runtime.LabelStarted])
	if err != nil {
		return time.Time{}
	}
	return t
}

// startTime is the value of runtime.LabelStarted for an instance that starts
// now. It is after the exit that the instance inherits, even when the clock
// went back, so that exits and starts of one container are in order.
func startTime(labels map[string]string) time.Time {
	now := time.Now().UTC()
	if last, ok := exitLabel(labels); ok && !now.After(last.At) {
		return last.At.Add(time.Nanosecond).UTC()
	}
	return now
}

func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}
