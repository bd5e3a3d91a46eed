package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/runtime"
)

// The methods of api.Backend about this node's containers.

// report returns what the supervisor says of a daemon that has a container here.
func (a *Agent) report(name string) (supervise.Report, error) {
	for _, r := range a.super.Reports() {
		if r.Name != name {
			continue
		}
		if r.Container == "" {
			return r, problem(http.StatusConflict, fmt.Sprintf("daemon %s has no container on %s: %s", name, a.cfg.Node.Name, r.Reason), "agentctl why "+name+" "+a.cfg.Node.Name)
		}
		return r, nil
	}
	return supervise.Report{}, problem(http.StatusNotFound, fmt.Sprintf("there is no daemon %q on %s", name, a.cfg.Node.Name), "agentctl status lists them")
}

// Exec runs a command in a daemon's container.
func (a *Agent) Exec(ctx context.Context, name string, req api.ExecRequest, s api.ExecStreams) (int, error) {
	r, err := a.report(name)
	if err != nil {
		return 0, err
	}
	if r.PID == 0 {
		return 0, problem(http.StatusConflict, fmt.Sprintf("the container of %s does not run: %s", name, r.Reason), "")
	}
	o := runtime.ExecOptions{
		Argv: req.Argv, Env: req.Env, Cwd: req.Cwd, User: req.User, TTY: req.TTY,
		Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr,
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if req.TTY {
		sizes := make(chan runtime.WinSize, 1)
		if req.Size != (api.WinSize{}) {
			sizes <- runtime.WinSize(req.Size)
		}
		o.Resize = sizes
		go relaySizes(ctx, s.Resize, sizes)
	}
	a.log.Info("exec", "daemon", name, "argv", req.Argv)
	code, err := a.runtime.ExecStream(ctx, r.Container, o)
	return code, containerProblem(err)
}

// relaySizes passes a terminal's sizes on until the session ends.
func relaySizes(ctx context.Context, from <-chan api.WinSize, to chan<- runtime.WinSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-from:
			if !ok {
				return
			}
			select {
			case to <- runtime.WinSize(size):
			case <-ctx.Done():
				return
			}
		}
	}
}

// containerProblem says in HTTP's words what a runtime's error means.
func containerProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, runtime.ErrNotFound):
		return problem(http.StatusConflict, err.Error(), "the container ended meanwhile; see agentctl status")
	case errors.Is(err, runtime.ErrUnavailable):
		return problem(http.StatusServiceUnavailable, err.Error(), "containers go on while their runtime is away; try again")
	}
	return err
}

// Restart stops a daemon's container and has it started again.
func (a *Agent) Restart(ctx context.Context, name string) error {
	if a.takeNewest(name) {
		return nil // update.strategy is on-delete: it goes on to the newest revision
	}
	if _, err := a.report(name); err != nil {
		return err
	}
	return containerProblem(a.super.Restart(ctx, name))
}

// Top measures this node's containers, all at once.
func (a *Agent) Top(ctx context.Context) (api.Top, error) {
	out := api.Top{Schema: api.Schema, Node: a.cfg.Node.Name, Daemons: []api.TopDaemon{}}
	for _, r := range a.super.Reports() {
		if r.Container == "" {
			continue
		}
		out.Daemons = append(out.Daemons, api.TopDaemon{
			Name: r.Name, Container: r.Container, PID: r.PID, State: r.State, Restarts: r.Restarts, StartedAt: timePtr(r.StartedAt),
		})
	}
	a.measure(ctx, out.Daemons)
	return out, nil
}

// measure fills in what containers use, four at a time.
func (a *Agent) measure(ctx context.Context, rows []api.TopDaemon) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range rows {
		t := &rows[i]
		if t.PID == 0 {
			t.Error = "it does not run"
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s, err := a.runtime.Stats(ctx, t.Container)
			if err != nil {
				t.Error = err.Error()
				return
			}
			t.At, t.CPUSeconds, t.Memory, t.MemoryLimit = timePtr(s.At), s.CPU.Seconds(), s.Memory, s.MemoryLimit
			t.PIDs, t.OOMKills = s.Pids, s.OOMKills
		})
	}
	wg.Wait()
}
