package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"

	"github.com/agentd/agentd/runtime"
)

// unknownCode is the exit code of an instance whose end nobody saw, as
// containerd itself has it.
const unknownCode = 255

// List implements runtime.Runtime: two calls, however many containers.
func (r *Runtime) List(ctx context.Context) ([]runtime.Instance, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	recs, err := r.containers().List(ctx, fmt.Sprintf("labels.%q==%s", runtime.LabelNode, strconv.Quote(r.cfg.Node)))
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", translate(err))
	}
	resp, err := r.tasks().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", translate(err))
	}
	running := make(map[string]*task.Process, len(resp.Tasks))
	for _, p := range resp.Tasks {
		running[p.ID] = p
	}
	out := make([]runtime.Instance, 0, len(recs))
	for _, rec := range recs {
		if r.ours(rec) {
			out = append(out, r.instance(rec, running[rec.ID]))
		}
	}
	slices.SortFunc(out, func(a, b runtime.Instance) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// ours reports whether this agent made the container.
func (r *Runtime) ours(rec containers.Container) bool {
	return rec.Labels[runtime.LabelDaemon] != "" && rec.Labels[runtime.LabelNode] == r.cfg.Node
}

// foreign is the error for a container that is not ours.
func (r *Runtime) foreign(rec containers.Container) error {
	whose := "agentd did not make it"
	if n := rec.Labels[runtime.LabelNode]; n != "" {
		whose = fmt.Sprintf("it belongs to node %q, and this is %q", n, r.cfg.Node)
	}
	return fmt.Errorf("%w: %s; look at it with: ctr -n %s containers info %s", runtime.ErrForeign, whose, r.cfg.Namespace, rec.ID)
}

// record returns the container of id, nil if there is none, ErrForeign with the
// record if it is not ours.
func (r *Runtime) record(ctx context.Context, id string) (*containers.Container, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	rec, err := r.containers().Get(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up container: %w", translate(err))
	}
	if !r.ours(rec) {
		return nil, r.foreign(rec)
	}
	return &rec, nil
}

// process returns the task of id, nil if there is none.
func (r *Runtime) process(ctx context.Context, id string) (*task.Process, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	resp, err := r.tasks().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		err = translate(err)
		// Without its shim there is nothing to ask any more; whether its
		// processes are gone is another question, see strays.
		if errdefs.IsNotFound(err) || lostShim(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("look up task: %w", err)
	}
	return resp.Process, nil
}

// instance is what a record and its task, nil for none, amount to.
func (r *Runtime) instance(rec containers.Container, p *task.Process) runtime.Instance {
	i := runtime.Instance{ID: rec.ID, Labels: rec.Labels}
	started, err := time.Parse(time.RFC3339Nano, rec.Labels[runtime.LabelStarted])
	if err == nil {
		i.StartedAt = started
	}
	if p == nil {
		if i.StartedAt.IsZero() {
			i.State = runtime.StateCreated
			return i
		}
		i.State = runtime.StateStopped
		// Either Stop recorded the exit, or the task was lost with its exit
		// code: newer servers drop a task that ended while they were down.
		exit, ok := exitLabel(rec.Labels)
		if !ok || exit.At.Before(i.StartedAt) {
			exit = runtime.Exit{Code: unknownCode, At: rec.UpdatedAt}
		}
		i.Exit = &exit
		return i
	}
	switch p.Status {
	case task.Status_RUNNING:
		i.State, i.PID = runtime.StateRunning, int(p.Pid)
	case task.Status_PAUSED, task.Status_PAUSING:
		i.State, i.PID = runtime.StatePaused, int(p.Pid)
	case task.Status_STOPPED:
		exit := r.exit(rec.ID, p)
		i.State, i.Exit = runtime.StateStopped, &exit
	case task.Status_CREATED:
		i.State = runtime.StateCreated
	default:
		i.State = runtime.StateBroken
	}
	return i
}

// exit reads how a stopped task ended. Its cgroup still exists, because the
// task is not deleted yet.
func (r *Runtime) exit(id string, p *task.Process) runtime.Exit {
	e := runtime.Exit{Code: p.ExitStatus, Known: true, OOM: r.sawOOM(id)}
	if e.Code == killedCode && !e.OOM {
		e.OOM = r.vanishedOOM(id)
	}
	if p.ExitedAt != nil {
		e.At = p.ExitedAt.AsTime()
	}
	// A shim that was told nothing answers 255 and no time.
	if e.At.IsZero() || e.At.Unix() <= 0 {
		e.At, e.Known = time.Now(), e.Code != unknownCode
	}
	return e
}

func exitLabel(labels map[string]string) (runtime.Exit, bool) {
	var e runtime.Exit
	if err := json.Unmarshal([]byte(labels[runtime.LabelExit]), &e); err != nil {
		return runtime.Exit{}, false
	}
	return e, true
}

func formatExit(e runtime.Exit) string {
	e.At = e.At.UTC()
	b, err := json.Marshal(e)
	if err != nil {
		return ""
	}
	return string(b)
}

// SetLabels implements runtime.Runtime.
func (r *Runtime) SetLabels(ctx context.Context, id string, labels map[string]string) error {
	rec, err := r.record(ctx, id)
	if err == nil && rec == nil {
		err = runtime.ErrNotFound
	}
	if err == nil {
		err = r.setLabels(ctx, id, labels)
	}
	if err != nil {
		return fmt.Errorf("set labels of container %q: %w", id, err)
	}
	return nil
}

func (r *Runtime) setLabels(ctx context.Context, id string, labels map[string]string) error {
	labels = permitted(labels)
	if len(labels) == 0 {
		return nil
	}
	paths := make([]string, 0, len(labels))
	for k := range labels {
		paths = append(paths, "labels."+k)
	}
	ctx, cancel := steady(ctx)
	defer cancel()
	_, err := r.containers().Update(ctx, containers.Container{ID: id, Labels: labels}, paths...)
	if errdefs.IsNotFound(err) {
		return runtime.ErrNotFound
	}
	return translate(err)
}

// permitted drops labels that containerd itself would act on. None of ours is
// one; an image's labels never get here (CVE-2026-53488).
func permitted(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for k, v := range labels {
		if !strings.HasPrefix(k, "containerd.io/") {
			out[k] = v
		}
	}
	return out
}
