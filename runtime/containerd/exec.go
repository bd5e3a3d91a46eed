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
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd/agentd/runtime"
)

// execKillLimit is how long an exec may take to end after SIGKILL.
const execKillLimit = 5 * time.Second

// Exec implements runtime.Runtime. What the process prints is dropped. It does
// not wait for lifecycle calls: probes go on while a container stops.
func (r *Runtime) Exec(ctx context.Context, id string, argv []string) (int, error) {
	code, err := r.exec(ctx, id, argv)
	if err != nil {
		return 0, fmt.Errorf("exec in container %q: %w", id, err)
	}
	return code, nil
}

func (r *Runtime) exec(ctx context.Context, id string, argv []string) (int, error) {
	rec, err := r.runningRecord(ctx, id)
	if err != nil {
		return 0, err
	}
	spec, err := execSpec(*rec, argv)
	if err != nil {
		return 0, err
	}
	execID := r.newExecID()
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	// The calls are made apart, so that a hung containerd cannot hold the caller
	// beyond ctx, and none of them is cut off.
	if !r.spawn(func() {
		code, err := r.runExec(ctx, id, execID, spec)
		done <- result{code, err}
	}) {
		return 0, errClosed
	}
	select {
	case res := <-done:
		return res.code, res.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// runningRecord is the container of id, which is ours and runs. In a frozen one
// an exec would hang.
func (r *Runtime) runningRecord(ctx context.Context, id string) (*containers.Container, error) {
	rec, err := r.record(ctx, id)
	if err != nil {
		return nil, err
	}
	p, err := r.process(ctx, id)
	if err != nil {
		return nil, err
	}
	if rec == nil || p == nil || p.Status != task.Status_RUNNING {
		return nil, runtime.ErrNotFound
	}
	return rec, nil
}

// execSpec is the container's own process with other arguments: same user,
// environment, capabilities and limits.
func execSpec(rec containers.Container, argv []string) (typeurl.Any, error) {
	proc, err := processOf(rec)
	if err != nil {
		return nil, err
	}
	proc.Args, proc.Terminal = argv, false
	return typeurl.MarshalAny(&proc)
}

// processOf is the container's own process.
func processOf(rec containers.Container) (specs.Process, error) {
	v, err := typeurl.UnmarshalAny(rec.Spec)
	if err != nil {
		return specs.Process{}, fmt.Errorf("read the container's spec: %w", err)
	}
	s, ok := v.(*specs.Spec)
	if !ok || s.Process == nil {
		return specs.Process{}, fmt.Errorf("read the container's spec: it is a %T", v)
	}
	return *s.Process, nil
}

func (r *Runtime) runExec(ctx context.Context, id, execID string, spec typeurl.Any) (int, error) {
	sctx, cancel := steady(ctx)
	defer cancel()
	_, err := r.tasks().Exec(sctx, &tasks.ExecProcessRequest{
		ContainerID: id, ExecID: execID, Spec: typeurl.MarshalProto(spec),
	})
	if err != nil {
		return 0, notRunning(err)
	}
	defer r.deleteExec(ctx, id, execID)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if _, err := r.tasks().Start(sctx, &tasks.StartRequest{ContainerID: id, ExecID: execID}); err != nil {
		return 0, notRunning(err)
	}
	return r.waitExec(ctx, id, execID)
}

// waitExec waits for a started exec, and kills it when ctx ends first, or when
// nobody can tell how it goes on.
//
// The server is not told of ctx's deadline: it would answer "deadline exceeded"
// just before ctx itself has ended, and the process would be taken for one
// whose time is not up.
func (r *Runtime) waitExec(ctx context.Context, id, execID string) (int, error) {
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	resp, err := r.tasks().Wait(wctx, &tasks.WaitRequest{ContainerID: id, ExecID: execID})
	if err == nil {
		return int(resp.ExitStatus), nil
	}
	r.killExec(ctx, id, execID)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return 0, notRunning(err)
}

// deleteExec deletes what ended, or never started.
func (r *Runtime) deleteExec(ctx context.Context, id, execID string) {
	ctx, cancel := steady(ctx)
	defer cancel()
	_, err := r.tasks().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: execID})
	if err = translate(err); err != nil && !errdefs.IsNotFound(err) && !lostShim(err) {
		r.log.Warn("an ended exec could not be deleted", "container", id, "err", err)
	}
}

// killExec ends an exec whose time is up.
func (r *Runtime) killExec(ctx context.Context, id, execID string) {
	kctx, cancel := steady(ctx)
	defer cancel()
	_, err := r.tasks().Kill(kctx, &tasks.KillRequest{ContainerID: id, ExecID: execID, Signal: uint32(syscall.SIGKILL)})
	if err = translate(err); err != nil && !errdefs.IsNotFound(err) && !lostShim(err) {
		r.log.Warn("an exec whose time is up could not be killed", "container", id, "err", err)
	}
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), execKillLimit)
	defer cancel()
	_, _ = r.tasks().Wait(wctx, &tasks.WaitRequest{ContainerID: id, ExecID: execID})
}

// notRunning makes "there is no such task any more" comparable.
func notRunning(err error) error {
	err = translate(err)
	if errdefs.IsNotFound(err) || lostShim(err) {
		return fmt.Errorf("%w: %w", runtime.ErrNotFound, err)
	}
	return err
}
