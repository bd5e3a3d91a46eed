package containerd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/agentd/agentd/runtime"
)

// runtimeName is the shim that every server since 1.4 has.
const runtimeName = "io.containerd.runc.v2"

// createAttempts bounds how often a create that finds something left over is
// tried again after mending.
const createAttempts = 4

// Ensure implements runtime.Runtime. There are two ways only: what runs with
// the wanted digest is adopted; anything else is taken away and made anew, so
// that no half-state needs a way of its own.
func (r *Runtime) Ensure(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
	inst, err := alone(ctx, r, s.ID, func(ctx context.Context) (runtime.Instance, error) {
		rec, err := r.record(ctx, s.ID)
		if err != nil {
			return runtime.Instance{}, err
		}
		p, err := r.process(ctx, s.ID)
		if err != nil {
			return runtime.Instance{}, err
		}
		if rec != nil && p != nil && rec.Labels[runtime.LabelDigest] == s.Labels[runtime.LabelDigest] {
			inst, ok, err := r.adopt(ctx, s, *rec, p)
			if err != nil || ok {
				return inst, err
			}
		}
		// Everything that can fail without touching the old one comes first.
		plan, err := r.plan(ctx, s)
		if err != nil {
			return runtime.Instance{}, err
		}
		how := ending{signal: stopSignal(rec), grace: stopGrace(rec, s.StopGrace)}
		exit, err := r.tearDown(ctx, s.ID, rec, how)
		if err != nil {
			return runtime.Instance{}, fmt.Errorf("take the old instance away: %w", err)
		}
		plan.inherit(rec, exit)
		if err := r.forget(ctx, s.ID, rec); err != nil {
			return runtime.Instance{}, err
		}
		return r.create(ctx, plan)
	})
	if err != nil {
		return runtime.Instance{}, fmt.Errorf("ensure container %q: %w", s.ID, err)
	}
	return inst, nil
}

// adopt takes over what runs already, if it does.
func (r *Runtime) adopt(ctx context.Context, s runtime.Spec, rec containers.Container, p *task.Process) (runtime.Instance, bool, error) {
	switch p.Status {
	case task.Status_RUNNING:
	case task.Status_PAUSED, task.Status_PAUSING:
		if err := r.resume(ctx, s.ID); err != nil {
			return runtime.Instance{}, false, err
		}
		p.Status = task.Status_RUNNING
	default:
		return runtime.Instance{}, false, nil
	}
	changed := map[string]string{}
	for k, v := range r.wantedLabels(s) {
		if !runtime.Counter(k) && rec.Labels[k] != v {
			changed[k] = v
			rec.Labels[k] = v
		}
	}
	if err := r.setLabels(ctx, s.ID, changed); err != nil {
		return runtime.Instance{}, false, fmt.Errorf("set labels: %w", err)
	}
	return r.instance(rec, p), true, nil
}

// plan is a container about to be made.
type plan struct {
	runtime.Spec
	image  image
	oci    typeurl.Any
	labels map[string]string
	log    output
}

func (r *Runtime) plan(ctx context.Context, s runtime.Spec) (plan, error) {
	log, err := outputOf(s)
	if err != nil {
		return plan{}, err
	}
	img, err := r.presentImage(ctx, s)
	if err != nil {
		return plan{}, err
	}
	spec, err := r.buildSpec(ctx, s, img)
	if err != nil {
		return plan{}, err
	}
	any, err := typeurl.MarshalAny(spec)
	if err != nil {
		return plan{}, fmt.Errorf("encode OCI spec: %w", err)
	}
	labels := r.wantedLabels(s)
	if labels[runtime.LabelStopSignal] == "" && img.config.StopSignal != "" {
		labels[runtime.LabelStopSignal] = img.config.StopSignal
	}
	labels[runtime.LabelImage] = img.digest.String()
	return plan{Spec: s, image: img, oci: any, labels: labels, log: log}, nil
}

// wantedLabels are those of s, with those that make it ours and what Stop has to
// know of it.
func (r *Runtime) wantedLabels(s runtime.Spec) map[string]string {
	labels := permitted(s.Labels)
	labels[runtime.LabelNode] = r.cfg.Node
	if labels[runtime.LabelDaemon] == "" {
		labels[runtime.LabelDaemon] = s.ID
	}
	if s.StopSignal != "" {
		labels[runtime.LabelStopSignal] = s.StopSignal
	}
	labels[runtime.LabelStopGrace] = s.StopGrace.String()
	return labels
}

// inherit carries the counters of the instance before over.
func (p *plan) inherit(old *containers.Container, exit *runtime.Exit) {
	if old == nil {
		return
	}
	p.labels = runtime.MergeLabels(old.Labels, p.labels)
	if exit != nil && old.Labels[runtime.LabelDigest] == p.labels[runtime.LabelDigest] && !startedAt(old).IsZero() {
		p.labels[runtime.LabelExit] = formatExit(*exit)
	}
}

// create makes record, root file system and task, and starts it. What a failure
// leaves is a record without a task, which keeps the counters; Ensure and
// Remove know how to go on from there.
func (r *Runtime) create(ctx context.Context, p plan) (runtime.Instance, error) {
	if err := ctx.Err(); err != nil {
		return runtime.Instance{}, err
	}
	// Before anything starts: does something of ours still run? Only some
	// versions of runc refuse by themselves.
	if err := r.emptyCgroup(ctx, p.ID); err != nil {
		return runtime.Instance{}, err
	}
	if err := r.dropHalfDeleted(ctx, p.ID); err != nil {
		return runtime.Instance{}, err
	}
	if err := p.log.prepare(); err != nil {
		return runtime.Instance{}, err
	}
	rec, err := r.createRecord(ctx, p)
	if err != nil {
		return runtime.Instance{}, err
	}
	mounts, err := r.rootfs(ctx, p)
	if err != nil {
		return runtime.Instance{}, err
	}
	if err := r.createTask(ctx, p, mounts); err != nil {
		return runtime.Instance{}, err
	}
	// From here on the instance may have run, whatever happens to us.
	started := startTime(p.labels).Format(time.RFC3339Nano)
	if err := r.setLabels(ctx, p.ID, map[string]string{runtime.LabelStarted: started}); err != nil {
		return runtime.Instance{}, errors.Join(err, r.rollBack(ctx, p.ID))
	}
	rec.Labels[runtime.LabelStarted] = started
	pid, err := r.start(ctx, p.ID)
	if errors.Is(err, runtime.ErrUnavailable) {
		return runtime.Instance{}, err // it may run: the next look tells
	}
	if err != nil {
		return runtime.Instance{}, errors.Join(err, r.rollBack(ctx, p.ID))
	}
	return r.instance(rec, &task.Process{ID: p.ID, Pid: pid, Status: task.Status_RUNNING}), nil
}

// rollBack takes away a task that was made and never ran.
func (r *Runtime) rollBack(ctx context.Context, id string) error {
	ctx, cancel := steady(ctx)
	defer cancel()
	if _, err := r.tearDown(ctx, id, nil, ending{}); err != nil {
		return fmt.Errorf("take the failed start away: %w", err)
	}
	return nil
}

// createRecord writes the container's record. It comes before the snapshot: a
// record is what keeps its snapshot from being collected as garbage, so that no
// lease is needed.
func (r *Runtime) createRecord(ctx context.Context, p plan) (containers.Container, error) {
	opts, err := typeurl.MarshalAny(&options.Options{SystemdCgroup: r.systemd})
	if err != nil {
		return containers.Container{}, fmt.Errorf("encode runc options: %w", err)
	}
	ctx, cancel := steady(ctx)
	defer cancel()
	rec, err := r.containers().Create(ctx, containers.Container{
		ID: p.ID, Labels: p.labels, Image: p.image.name, Spec: p.oci,
		Runtime:     containers.RuntimeInfo{Name: runtimeName, Options: opts},
		Snapshotter: r.cfg.Snapshotter, SnapshotKey: snapshotKey(p.ID),
	})
	if err != nil {
		return rec, fmt.Errorf("create container: %w", translate(err))
	}
	return rec, nil
}

func snapshotKey(id string) string { return "agentd-" + id }

// rootfs makes a fresh root file system.
func (r *Runtime) rootfs(ctx context.Context, p plan) ([]mount.Mount, error) {
	ctx, cancel := steady(ctx)
	defer cancel()
	key, parent := snapshotKey(p.ID), p.image.chain.String()
	mounts, err := r.snapshots().Prepare(ctx, key, parent)
	// A snapshot of that name was left by a call that was cut off, or by hand;
	// or containerd was killed in the middle and left a folder under the number
	// that it gives to this one, which the failure removes ("file exists").
	for range 2 {
		if !errdefs.IsAlreadyExists(err) && (err == nil || !strings.Contains(err.Error(), "file exists")) {
			break
		}
		if err = r.snapshots().Remove(ctx, key); err == nil || errdefs.IsNotFound(err) {
			mounts, err = r.snapshots().Prepare(ctx, key, parent)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make the root file system with snapshotter %s: %w", r.cfg.Snapshotter, snapshotError(translate(err)))
	}
	return mounts, nil
}

// createTask creates the task, mending what an earlier create may have left.
func (r *Runtime) createTask(ctx context.Context, p plan, mounts []mount.Mount) error {
	req := &tasks.CreateTaskRequest{ContainerID: p.ID}
	for _, m := range mounts {
		req.Rootfs = append(req.Rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	req.Stdout, req.Stderr = p.log.uri, p.log.uri
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		cctx, cancel := steady(ctx)
		_, err := r.tasks().Create(cctx, req)
		cancel()
		if err == nil {
			return nil
		}
		err = translate(err)
		if attempt == createAttempts || !wedged(err) {
			return fmt.Errorf("create task: %w", err)
		}
		if merr := r.mend(ctx, p.ID, err); merr != nil {
			return fmt.Errorf("create task: %w; mending failed: %w", err, merr)
		}
		if perr := pause(ctx, time.Duration(attempt)*50*time.Millisecond); perr != nil {
			return perr
		}
	}
}

func (r *Runtime) start(ctx context.Context, id string) (uint32, error) {
	ctx, cancel := steady(ctx)
	defer cancel()
	resp, err := r.tasks().Start(ctx, &tasks.StartRequest{ContainerID: id})
	if err != nil {
		return 0, fmt.Errorf("start: %w", translate(err))
	}
	return resp.Pid, nil
}
