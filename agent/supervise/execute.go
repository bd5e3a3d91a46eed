package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"time"

	"github.com/agentd/agentd/runtime"
)

const (
	// pullTimeout ends a pull that goes nowhere; the next attempt goes on with
	// the layers that are here.
	pullTimeout = 30 * time.Minute
	// stepTimeout is how long a lifecycle call may take besides a grace period,
	// the limit that the runtime sets to its own calls.
	stepTimeout = 2 * time.Minute
	// startSlots starts are let through at once: containerd starts twenty
	// containers no sooner when it is asked for all of them at once than for a few
	// at a time (six did best on two cores, in make bench), and a machine that
	// boots has other things to do. One that waited for startPatience, behind a
	// container that takes its grace period to stop, goes ahead.
	startSlots    = 6
	startPatience = 2 * time.Second
	// pullSlots pulls are let through at once; a further one waits pullPatience
	// for its turn and then goes all the same, so that a pull that hangs holds
	// up nobody.
	pullSlots    = 3
	pullPatience = 30 * time.Second
	// hookLeast is what a stop leaves for the signal when its hook took all of
	// the grace period, as Kubernetes has it.
	hookLeast = 2 * time.Second
)

// job is a step under way.
type job struct {
	step       Step
	of         Desired
	since      time.Time
	cancel     context.CancelFunc
	done       chan outcome // capacity 1
	superseded bool
}

// progress is how far a pull is, in bytes.
type progress struct{ done, total int64 }

func (p progress) String() string {
	return fmt.Sprintf("image: %d of %d MiB", p.done>>20, p.total>>20)
}

// outcome is how a step ended.
type outcome struct {
	err      error
	inst     runtime.Instance // Start
	exit     *runtime.Exit    // Stop; nil: it did not run
	prepared Prepared         // Prepare
	ends     []JobEnd         // Record
	said     Said             // Listen
	panicked any
	stack    []byte
}

// finished is the channel of the job's outcome; without a job it never fires.
func (j *job) finished() <-chan outcome {
	if j == nil {
		return nil
	}
	return j.done
}

// supersede cancels a preparation that nobody wants any more. Lifecycle calls
// are never cancelled: that would wedge the container (see package runtime/containerd).
func (j *job) supersede(sit situation) {
	if j == nil {
		return
	}
	d := sit.of
	if sit.left || d == nil || d.Delete || d.Hold != "" || !j.step.Fallback && d.Digest != j.of.Digest {
		j.superseded = true
		j.cancel()
	}
}

// begin starts a step. Whether one may be started is decided together with
// StopAll, so that nothing starts behind its back.
func (w *worker) begin(ctx context.Context, step Step, of *Desired) {
	slot := w.slot(step)
	if *slot != nil || w.away != nil && w.away.step.ID == step.ID && step.Op != Prepare {
		return // its turn comes
	}
	s := w.s
	s.mu.Lock()
	if s.left && (step.Op == Start || step.Op == Prepare) {
		s.mu.Unlock()
		poke(w.wake)
		return
	}
	s.busy++
	s.mu.Unlock()

	j := &job{step: step, since: time.Now(), done: make(chan outcome, 1)}
	if of != nil {
		j.of = *of
	}
	limit, parent := stepTimeout, context.WithoutCancel(ctx)
	switch step.Op {
	case Prepare:
		limit, parent = pullTimeout, ctx
	case Start:
		limit += j.of.Daemon.Stop.Grace.D()
	case Stop:
		limit += step.Grace
	}
	jctx, cancel := context.WithTimeout(parent, limit)
	j.cancel = cancel
	*slot = j
	w.hist = w.hist.Begun(step)
	w.log.Debug("step", "step", string(step.Op), "container", step.ID, "reason", step.Reason)
	go func() { // joined by w: it takes j.done before it ends
		j.done <- w.execute(jctx, step, j.of)
	}()
}

// slot is where a step of that kind is while it is under way.
func (w *worker) slot(s Step) **job {
	switch {
	case s.Op == Prepare:
		return &w.prep
	case s.Extra:
		return &w.away
	}
	return &w.job
}

// stepEnded is begin's counterpart; mark is the clock after the step.
func (s *Supervisor) stepEnded(mark uint64) {
	s.mu.Lock()
	s.busy--
	s.settled = max(s.settled, mark)
	s.movedLocked()
	s.mu.Unlock()
}

// execute carries out one step. It decides nothing.
func (w *worker) execute(ctx context.Context, step Step, of Desired) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			o = outcome{panicked: p, stack: debug.Stack()}
		}
	}()
	rt := w.s.cfg.Runtime
	switch step.Op {
	case Prepare:
		o.prepared, o.err = w.prepare(ctx, step, of)
	case Start:
		o.inst, o.err = w.start(ctx, step, of)
	case Stop:
		exit, err := w.stop(ctx, step)
		switch {
		case err == nil:
			o.exit = &exit
		case !errors.Is(err, runtime.ErrNotFound): // else it had ended already
			o.err = err
		}
	case Remove:
		dir := w.s.cfg.DataDir
		switch o.err = rt.Remove(ctx, step.ID); {
		case o.err != nil:
		case step.Extra:
			w.tidy(dropFiles(dir, w.name, step.Keep...))
		default:
			w.tidy(dropFiles(dir, w.name), dropCurrent(dir, w.name))
		}
	case Label:
		o.err = rt.SetLabels(ctx, step.ID, step.Labels)
	case Hook:
		if o.err = w.hook(ctx, step.ID, step.Argv); o.err == nil {
			o.err = rt.SetLabels(ctx, step.ID, step.Labels)
		}
	case Record:
		o.ends, o.err = writeJob(w.s.cfg.DataDir, w.name, *step.Job)
	case HandOver:
		// Should it not be written, an agent that starts before the old
		// container is gone does it again.
		w.tidy(writeCurrent(w.s.cfg.DataDir, of, step.Image))
	case Listen:
		o.said = w.listen(ctx, step.Beside)
	default:
		o.err = fmt.Errorf("unknown step %q", step.Op)
	}
	return o
}

// host is this node as Render sees it.
func (w *worker) host() Host {
	cfg := &w.s.cfg
	h := Host{Node: cfg.Node.Name, DataDir: cfg.DataDir, LogPath: cfg.LogPath(w.name), LogURI: cfg.LogURI(w.name)}
	if p := w.s.policy.Load(); p != nil {
		h.Resolve, h.Masks = p.Resolve, p.MountMasks
	}
	return h
}

// prepare makes everything ready that a start needs and that can fail without
// anything being stopped.
func (w *worker) prepare(ctx context.Context, step Step, of Desired) (Prepared, error) {
	r := Render(of, w.host())
	if err := checkHost(r); err != nil {
		return Prepared{}, err
	}
	if err := writeHost(r); err != nil {
		return Prepared{}, err
	}
	release := acquire(ctx, w.s.pull, pullPatience)
	defer release()
	p := runtime.Pull{
		Ref: of.Daemon.Image, Digest: step.Image, Policy: string(of.Daemon.Pull),
		Progress: func(done, total int64) {
			w.progress.Store(&progress{done, total})
		},
	}
	if p.Digest == "" {
		p.Digest = of.ImageDigest
	}
	got, err := w.s.cfg.Runtime.Pull(ctx, p)
	note := ""
	if err != nil && p.Digest != "" && errors.Is(err, runtime.ErrImage) && ctx.Err() == nil {
		// The digest is a hint, and a daemon that runs another build of the
		// tag is better than none. It is said.
		note = fmt.Sprintf("image %s could not be had; the tag's present one is taken", short(p.Digest))
		p.Digest = ""
		if fresh, again := w.s.cfg.Runtime.Pull(ctx, p); again == nil {
			got, err = fresh, nil
		}
	}
	if err != nil {
		return Prepared{}, err
	}
	return Prepared{Digest: of.Digest, Image: got, Note: note}, nil
}

// start runs the container, and remembers what was started.
func (w *worker) start(ctx context.Context, step Step, of Desired) (runtime.Instance, error) {
	r := Render(of, w.host())
	if err := errors.Join(checkHost(r), writeHost(r)); err != nil {
		return runtime.Instance{}, err
	}
	r.Spec.ID, r.Spec.Digest = step.ID, step.Image
	maps.Copy(r.Spec.Labels, step.Labels)
	if step.Image != "" {
		r.Spec.Labels[runtime.LabelImage] = step.Image
	}
	release := acquire(ctx, w.s.starts, startPatience)
	inst, err := w.s.cfg.Runtime.Ensure(ctx, r.Spec)
	release()
	if err != nil {
		return inst, err
	}
	if c := w.current; c == nil || c.Digest != of.Digest || c.Deleted { // w waits for this step: nobody writes current
		dir := w.s.cfg.DataDir
		w.tidy(dropFiles(dir, w.name, step.Keep...))
		if !step.Beside {
			w.tidy(writeCurrent(dir, of, step.Image))
		}
	}
	return inst, nil
}

// stop runs the pre_stop hook, within the grace period, and ends the container.
// A hook that fails keeps nothing running.
func (w *worker) stop(ctx context.Context, step Step) (runtime.Exit, error) {
	rt, grace := w.s.cfg.Runtime, step.Grace
	if step.Fault != "" {
		// So that an agent that takes over now knows that this is no success.
		w.tidy(rt.SetLabels(ctx, step.ID, map[string]string{labelFault: step.Fault}))
	}
	if len(step.Argv) > 0 {
		began := time.Now()
		hctx, cancel := context.WithTimeout(ctx, max(grace, hookLeast))
		err := w.hook(hctx, step.ID, step.Argv)
		cancel()
		if err != nil {
			w.log.Warn("pre_stop failed", "container", step.ID, "err", err)
			w.tell(Event{Type: EventHook, Reason: "pre_stop " + errorWords(err)})
		}
		grace = max(hookLeast, grace-time.Since(began))
	}
	return rt.Stop(ctx, step.ID, grace)
}

// hook runs a command in the container.
func (w *worker) hook(ctx context.Context, id string, argv []string) error {
	code, err := w.s.cfg.Runtime.Exec(ctx, id, argv)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("did not end in time and was killed")
	case err != nil:
		return err
	case code != 0:
		return fmt.Errorf("exited with code %d", code)
	}
	return nil
}

// tidy logs what failed besides the step itself.
func (w *worker) tidy(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		w.log.Warn("cannot tidy up after a step", "err", err)
	}
}

// acquire waits for one of the slots, but not for ever: one daemon that is slow
// must not keep the others waiting.
func acquire(ctx context.Context, slots chan struct{}, patience time.Duration) (release func()) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }
	case <-t.C:
	case <-ctx.Done():
	}
	return func() {}
}
