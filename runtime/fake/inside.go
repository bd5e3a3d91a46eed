package fake

import (
	"context"
	"fmt"
	"time"

	"github.com/agentd/agentd/runtime"
)

// Exec implements runtime.Runtime.
func (r *Runtime) Exec(ctx context.Context, id string, argv []string) (int, error) {
	i, err := r.runs(ctx, OpExec, id)
	if err != nil {
		return 0, r.record(OpExec, id, err)
	}
	code, err := i.program.exec(ctx, argv)
	return code, r.record(OpExec, id, err)
}

// ExecStream implements runtime.Runtime.
func (r *Runtime) ExecStream(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	i, err := r.runs(ctx, OpExecStream, id)
	if err != nil {
		return 0, r.record(OpExecStream, id, err)
	}
	var code int
	if i.program.ExecStream != nil {
		code, err = i.program.ExecStream(ctx, o)
	} else {
		code, err = i.program.exec(ctx, o.Argv)
	}
	return code, r.record(OpExecStream, id, err)
}

func (p Program) exec(ctx context.Context, argv []string) (int, error) {
	if p.Exec == nil {
		return 0, nil
	}
	return p.Exec(ctx, argv)
}

// Stats implements runtime.Runtime.
func (r *Runtime) Stats(ctx context.Context, id string) (runtime.Stats, error) {
	i, err := r.runs(ctx, OpStats, id)
	if err != nil {
		return runtime.Stats{}, r.record(OpStats, id, err)
	}
	s := runtime.Stats{Pids: 1}
	if i.program.Stats != nil {
		s = i.program.Stats()
	}
	if s.At.IsZero() {
		s.At = time.Now()
	}
	return s, r.record(OpStats, id, nil)
}

// runs returns the instance of id if it is ours and runs.
func (r *Runtime) runs(ctx context.Context, op Op, id string) (*instance, error) {
	if err := r.admit(ctx, op, id); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i, err := r.own(id)
	if err == nil && i.State != runtime.StateRunning {
		err = runtime.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("%s in %q: %w", op, id, err)
	}
	return i, nil
}
