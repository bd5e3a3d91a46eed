package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/agentd/agentd/runtime"
)

// execPrefix is what the ids of our execs begin with; the connection's own part
// follows.
const execPrefix = "agentd-"

// newExecID is unique. It tells which connection made it.
func (r *Runtime) newExecID() string { return execPrefix + r.session + "-" + rand.Text() }

// leftOver reports whether an earlier connection made the exec.
func (r *Runtime) leftOver(execID string) bool {
	return strings.HasPrefix(execID, execPrefix) && !strings.HasPrefix(execID, execPrefix+r.session+"-")
}

// fifoDir is where the fifos of one exec are.
func (r *Runtime) fifoDir(execID string) string {
	return filepath.Join(r.fifoRoot(), r.fifoPrefix()+execID)
}

func (r *Runtime) fifoRoot() string {
	if r.cfg.FIFODir != "" {
		return r.cfg.FIFODir
	}
	return defaults.DefaultFIFODir
}

// fifoPrefix is no other namespace's: a colon is in none.
func (r *Runtime) fifoPrefix() string { return "agentd:" + r.cfg.Namespace + ":" }

// sweepExecs ends the execs whose agent was killed: nobody reads their output
// any more, and nobody waits for them.
func (r *Runtime) sweepExecs(ctx context.Context) {
	instances, err := r.List(ctx)
	if err != nil {
		r.log.Debug("left-over execs could not be looked for", "err", err)
		return
	}
	for _, i := range instances {
		if i.State != runtime.StateRunning {
			continue
		}
		ids, err := r.execs(ctx, i.ID)
		if err != nil {
			r.log.Debug("left-over execs could not be looked for", "container", i.ID, "err", err)
			continue
		}
		for _, execID := range ids {
			if r.leftOver(execID) {
				r.endExec(ctx, i.ID, execID)
			}
		}
	}
	r.sweepFIFOs()
}

// execs are the ids of the running execs of a container.
func (r *Runtime) execs(ctx context.Context, id string) ([]string, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	resp, err := r.tasks().ListPids(ctx, &tasks.ListPidsRequest{ContainerID: id})
	if err != nil {
		return nil, translate(err)
	}
	var out []string
	for _, p := range resp.Processes {
		if p.Info == nil {
			continue
		}
		v, err := typeurl.UnmarshalAny(p.Info)
		if err != nil {
			continue // another runtime's
		}
		if d, ok := v.(*options.ProcessDetails); ok && d.ExecID != "" {
			out = append(out, d.ExecID)
		}
	}
	return out, nil
}

// endExec kills and deletes an exec that nobody waits for.
func (r *Runtime) endExec(ctx context.Context, id, execID string) {
	r.log.Info("ending an exec whose agent is gone", "container", id, "exec", execID)
	kctx, cancel := steady(ctx)
	defer cancel()
	_, err := r.tasks().Kill(kctx, &tasks.KillRequest{ContainerID: id, ExecID: execID, Signal: uint32(syscall.SIGKILL)})
	if err = translate(err); err != nil && !errdefs.IsNotFound(err) && !lostShim(err) {
		r.log.Warn("an exec whose agent is gone could not be killed", "container", id, "err", err)
		return
	}
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), execKillLimit)
	defer cancel()
	_, _ = r.tasks().Wait(wctx, &tasks.WaitRequest{ContainerID: id, ExecID: execID})
	r.deleteExec(ctx, id, execID)
}

// sweepFIFOs removes those of earlier connections.
func (r *Runtime) sweepFIFOs() {
	entries, err := os.ReadDir(r.fifoRoot())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Debug("left-over fifos could not be listed", "err", err)
	}
	for _, d := range entries {
		execID, ok := strings.CutPrefix(d.Name(), r.fifoPrefix())
		if !ok || !r.leftOver(execID) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.fifoRoot(), d.Name())); err != nil {
			r.log.Debug("a left-over fifo could not be removed", "err", err)
		}
	}
}
