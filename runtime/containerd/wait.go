package containerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"

	"github.com/agentd/agentd/runtime"
)

// Back-off of Wait while containerd does not answer.
const (
	retryFirst = 50 * time.Millisecond
	retryMost  = time.Second
)

// Wait implements runtime.Runtime. An answer that carries an error is never an
// exit: a restart of containerd answers code 255 and "unavailable", a killed
// shim 255 and "ttrpc: closed". Only a look at the task tells.
func (r *Runtime) Wait(ctx context.Context, id string) (runtime.Exit, error) {
	exit, err := r.wait(ctx, id)
	if err != nil {
		return runtime.Exit{}, fmt.Errorf("wait for container %q: %w", id, err)
	}
	return exit, nil
}

func (r *Runtime) wait(ctx context.Context, id string) (runtime.Exit, error) {
	var seen uint32 // pid of the instance that is waited for; 0: none yet
	retry := retryFirst
	for {
		p, err := r.process(ctx, id)
		switch {
		case ctx.Err() != nil:
			return runtime.Exit{}, ctx.Err()
		case r.base.Err() != nil:
			return runtime.Exit{}, errClosed
		case err != nil:
			if perr := pause(ctx, retry); perr != nil {
				return runtime.Exit{}, perr
			}
			retry = min(2*retry, retryMost)
			continue
		case p == nil && seen == 0, p != nil && p.Status == task.Status_CREATED:
			return runtime.Exit{}, runtime.ErrNotFound
		case p == nil, seen != 0 && p.Pid != seen:
			// It ended, or was replaced, while nobody could tell us how.
			return r.unseen(ctx, id, p)
		case p.Status == task.Status_STOPPED:
			return r.exit(id, p), nil
		}
		seen = p.Pid
		resp, err := r.tasks().Wait(ctx, &tasks.WaitRequest{ContainerID: id})
		if ctx.Err() != nil {
			return runtime.Exit{}, ctx.Err()
		}
		if err == nil {
			return r.exit(id, &task.Process{ExitStatus: resp.ExitStatus, ExitedAt: resp.ExitedAt}), nil
		}
		if nerr := translate(err); !errors.Is(nerr, runtime.ErrUnavailable) && !lostShim(nerr) && !errdefs.IsNotFound(nerr) {
			r.log.Warn("waiting for a container's exit was interrupted", "container", id, "err", nerr)
		}
		if err := pause(ctx, retry); err != nil {
			return runtime.Exit{}, err
		}
	}
}

// unseen is the exit of an instance whose task is gone. Its processes may live
// a few milliseconds longer than the task does.
func (r *Runtime) unseen(ctx context.Context, id string, next *task.Process) (runtime.Exit, error) {
	for end := time.Now().Add(time.Second); next == nil && time.Now().Before(end); {
		pids, err := r.strays(id)
		if err != nil || len(pids) == 0 {
			break
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return runtime.Exit{}, err
		}
	}
	exit := runtime.Exit{Code: unknownCode, At: time.Now(), OOM: next == nil && r.sawOOM(id)}
	// Whoever took the task away, Stop for one, may have left word.
	rec, err := r.record(ctx, id)
	if err == nil && rec != nil {
		if e, ok := exitLabel(rec.Labels); ok && next == nil && !e.At.Before(startedAt(rec)) {
			return e, nil
		}
	}
	return exit, nil
}
