package containerd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd/agentd/runtime"
)

// ExecStream implements runtime.Runtime. The streams go through containerd's
// fifos, as those of a daemon never do: with an exec somebody reads them for as
// long as it runs, and it ends with its reader.
func (r *Runtime) ExecStream(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	code, err := r.execStream(ctx, id, o)
	if err != nil {
		return 0, fmt.Errorf("exec in container %q: %w", id, err)
	}
	return code, nil
}

func (r *Runtime) execStream(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	if len(o.Argv) == 0 {
		return 0, errors.New("no command given")
	}
	rec, err := r.runningRecord(ctx, id)
	if err != nil {
		return 0, err
	}
	spec, err := streamSpec(ctx, *rec, o)
	if err != nil {
		return 0, err
	}
	e := &execution{r: r, id: id, execID: r.newExecID()}
	if e.streams, err = openStreams(r.fifoDir(e.execID), e.execID, o); err != nil {
		return 0, err
	}
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	if !r.spawn(func() {
		code, err := e.run(ctx, spec, o)
		done <- result{code, err}
	}) {
		return 0, errors.Join(errClosed, e.close())
	}
	select {
	case res := <-done:
		return res.code, res.err
	case <-ctx.Done():
		// The caller's streams are its own again when we return; the process
		// is killed meanwhile.
		return 0, errors.Join(ctx.Err(), e.close())
	}
}

// streamSpec is the container's own process with what o changes in it.
func streamSpec(ctx context.Context, rec containers.Container, o runtime.ExecOptions) (typeurl.Any, error) {
	proc, err := processOf(rec)
	if err != nil {
		return nil, err
	}
	proc.Args, proc.Terminal = o.Argv, o.TTY
	if o.Cwd != "" {
		proc.Cwd = o.Cwd
	}
	if o.User != "" {
		if proc.User, err = streamUser(o.User); err != nil {
			return nil, err
		}
	}
	env := o.Env
	if o.TTY && !slices.ContainsFunc(slices.Concat(proc.Env, env), func(kv string) bool { return strings.HasPrefix(kv, "TERM=") }) {
		env = append(slices.Clone(env), "TERM=xterm") // as Docker has it
	}
	proc.Env = slices.Clone(proc.Env)
	s := specs.Spec{Process: &proc}
	if err := oci.WithEnv(env)(ctx, nil, nil, &s); err != nil {
		return nil, fmt.Errorf("set the environment: %w", err)
	}
	return typeurl.MarshalAny(s.Process)
}

func streamUser(who string) (specs.User, error) {
	uid, gid, both := strings.Cut(who, ":")
	if !isNumber(uid) || both && !isNumber(gid) {
		return specs.User{}, fmt.Errorf("user %q: it has to be numeric, uid or uid:gid", who)
	}
	u, _, err := numericUser(who)
	return u, err
}

// execution is one process with streams.
type execution struct {
	r          *Runtime
	id, execID string
	*streams
}

// run makes the calls, none of which is cut off, and returns when the process
// has ended and its output was written.
func (e *execution) run(ctx context.Context, spec typeurl.Any, o runtime.ExecOptions) (int, error) {
	code, err := e.process(ctx, spec, o)
	return code, errors.Join(err, e.close())
}

func (e *execution) process(ctx context.Context, spec typeurl.Any, o runtime.ExecOptions) (int, error) {
	sctx, cancel := steady(ctx)
	defer cancel()
	_, err := e.r.tasks().Exec(sctx, &tasks.ExecProcessRequest{
		ContainerID: e.id, ExecID: e.execID, Spec: typeurl.MarshalProto(spec), Terminal: o.TTY,
		Stdin: e.paths.Stdin, Stdout: e.paths.Stdout, Stderr: e.paths.Stderr,
	})
	if err != nil {
		return 0, notRunning(err)
	}
	defer e.r.deleteExec(ctx, e.id, e.execID)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	e.copy(o, func() { e.closeStdin(ctx) })
	if _, err := e.r.tasks().Start(sctx, &tasks.StartRequest{ContainerID: e.id, ExecID: e.execID}); err != nil {
		return 0, notRunning(err)
	}
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	if !e.r.spawn(func() { e.resize(rctx, o.Resize) }) {
		e.r.log.Debug("a terminal's size is not followed: the connection is closing", "container", e.id)
	}
	code, err := e.r.waitExec(ctx, e.id, e.execID)
	if err == nil {
		e.drain(ctx)
	}
	return code, err
}

// closeStdin makes the process see the end of its input: the shim holds the
// fifo open as well.
func (e *execution) closeStdin(ctx context.Context) {
	cctx, cancel := brief(context.WithoutCancel(ctx))
	defer cancel()
	_, err := e.r.tasks().CloseIO(cctx, &tasks.CloseIORequest{ContainerID: e.id, ExecID: e.execID, Stdin: true})
	if err = translate(err); err != nil && !errdefs.IsNotFound(err) && !lostShim(err) {
		e.r.log.Debug("the input of an exec could not be closed", "container", e.id, "err", err)
	}
}

// resize passes the terminal's sizes on until ctx ends.
func (e *execution) resize(ctx context.Context, sizes <-chan runtime.WinSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-sizes:
			if !ok {
				return
			}
			rctx, cancel := brief(context.WithoutCancel(ctx))
			_, err := e.r.tasks().ResizePty(rctx, &tasks.ResizePtyRequest{
				ContainerID: e.id, ExecID: e.execID, Width: uint32(s.Width), Height: uint32(s.Height),
			})
			cancel()
			if err != nil && ctx.Err() == nil {
				e.r.log.Debug("a terminal could not be resized", "container", e.id, "err", translate(err))
			}
		}
	}
}
