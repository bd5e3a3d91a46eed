package containerd

import (
	"context"
	"fmt"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"

	"github.com/agentd/agentd/runtime"
)

// killLimit is how long a process may take to end after SIGKILL.
const killLimit = 30 * time.Second

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	_, err := alone(ctx, r, id, func(ctx context.Context) (struct{}, error) {
		rec, err := r.record(ctx, id)
		if err != nil {
			return struct{}{}, err
		}
		if _, err := r.tearDown(ctx, id, rec, ending{}); err != nil {
			return struct{}{}, err
		}
		if err := r.forget(ctx, id, rec); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, r.sweepBundles(ctx, id)
	})
	if err != nil {
		return fmt.Errorf("remove container %q: %w", id, err)
	}
	return nil
}

// ending is how processes are asked to end; the zero value is SIGKILL at once.
type ending struct {
	signal syscall.Signal
	grace  time.Duration
}

// tearDown ends the task of id, whatever state it is in, deletes it and returns
// when no process of it is left. exit is nil when there was no task. The
// container's record and snapshot stay, see forget.
func (r *Runtime) tearDown(ctx context.Context, id string, rec *containers.Container, how ending) (exit *runtime.Exit, err error) {
	for attempt := 0; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, err := r.process(ctx, id)
		if err != nil {
			return nil, err
		}
		if p == nil {
			break
		}
		exit, err = r.endTask(ctx, id, p, how)
		if err == nil {
			break
		}
		// The shim vanished while we were at it: look again.
		if attempt >= 4 || !lostShim(err) && !errdefs.IsNotFound(err) {
			return nil, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	if exit == nil && rec != nil {
		// There may be a wedge: containerd holds a task that it does not show.
		if err := r.clearWedge(ctx, id); err != nil {
			return nil, err
		}
	}
	return exit, r.emptyCgroup(ctx, id)
}

// endTask ends one task and deletes it.
func (r *Runtime) endTask(ctx context.Context, id string, p *task.Process, how ending) (*runtime.Exit, error) {
	if p.Status == task.Status_PAUSED || p.Status == task.Status_PAUSING {
		// A frozen process takes no signal, on some kernels not even SIGKILL.
		if err := r.resume(ctx, id); err != nil {
			return nil, err
		}
	}
	if p.Status != task.Status_STOPPED {
		if err := r.endProcess(ctx, id, p, how); err != nil {
			return nil, err
		}
	}
	return r.deleteTask(ctx, id)
}

// endProcess sends the signals and waits for the exit.
func (r *Runtime) endProcess(ctx context.Context, id string, p *task.Process, how ending) error {
	if how.signal != 0 && p.Status != task.Status_CREATED {
		if err := r.kill(ctx, id, how.signal); err != nil {
			return err
		}
		ended, err := r.awaitExit(ctx, id, how.grace)
		if err != nil || ended {
			return err
		}
	}
	if err := r.kill(ctx, id, syscall.SIGKILL); err != nil {
		return err
	}
	ended, err := r.awaitExit(ctx, id, killLimit)
	if err == nil && !ended {
		err = fmt.Errorf("%w: process %d did not end %v after SIGKILL; hanging in the kernel?", runtime.ErrStray, p.Pid, killLimit)
	}
	return err
}

// kill sends a signal to init; that it ended already is no error.
func (r *Runtime) kill(ctx context.Context, id string, sig syscall.Signal) error {
	ctx, cancel := steady(ctx)
	defer cancel()
	_, err := r.tasks().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(sig)})
	if err = translate(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("send %s: %w", signalName(sig), err)
	}
	return nil
}

func (r *Runtime) resume(ctx context.Context, id string) error {
	ctx, cancel := steady(ctx)
	defer cancel()
	if _, err := r.tasks().Resume(ctx, &tasks.ResumeTaskRequest{ContainerID: id}); err != nil {
		return fmt.Errorf("resume: %w", translate(err))
	}
	return nil
}

// awaitExit returns true when the task ended within limit. A Wait that is cut
// short harms nothing, unlike the calls that change something.
func (r *Runtime) awaitExit(ctx context.Context, id string, limit time.Duration) (bool, error) {
	// A cancel and not a deadline: that would travel to the server, whose
	// complaint about it may come before we know that time is up.
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(limit, cancel).Stop()
	_, err := r.tasks().Wait(wctx, &tasks.WaitRequest{ContainerID: id})
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case wctx.Err() != nil:
		return false, nil
	}
	err = translate(err)
	if errdefs.IsNotFound(err) || lostShim(err) {
		return true, nil // its processes are looked for in the cgroup
	}
	return false, fmt.Errorf("wait for the exit: %w", err)
}

// deleteTask deletes an ended task and returns how it ended.
func (r *Runtime) deleteTask(ctx context.Context, id string) (*runtime.Exit, error) {
	// Before the cgroup goes: was it the OOM killer?
	oom := r.sawOOM(id)
	ctx, cancel := steady(ctx)
	defer cancel()
	resp, err := r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err != nil {
		return nil, fmt.Errorf("delete task: %w", translate(err))
	}
	exit := r.exit(id, &task.Process{ExitStatus: resp.ExitStatus, ExitedAt: resp.ExitedAt})
	exit.OOM = oom || exit.OOM
	return &exit, nil
}

// forget deletes the record and the snapshot of a container whose task is gone.
func (r *Runtime) forget(ctx context.Context, id string, rec *containers.Container) error {
	ctx, cancel := steady(ctx)
	defer cancel()
	if rec != nil {
		if err := r.containers().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("delete container: %w", translate(err))
		}
		if rec.SnapshotKey != "" && rec.Snapshotter != "" {
			err := r.client.SnapshotService(rec.Snapshotter).Remove(ctx, rec.SnapshotKey)
			if err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("delete root file system: %w", translate(err))
			}
		}
	}
	r.mu.Lock()
	delete(r.ooms, id)
	r.mu.Unlock()
	return nil
}
