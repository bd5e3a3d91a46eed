package fake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/agentd/agentd/runtime"
)

// Ensure implements runtime.Runtime.
func (r *Runtime) Ensure(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
	return lifecycle(ctx, r, OpEnsure, s.ID, func() (runtime.Instance, error) {
		adopted, err := r.adopt(s)
		if err != nil {
			return runtime.Instance{}, err
		}
		if adopted != nil {
			return *adopted, nil
		}
		if err := r.image(s); err != nil {
			return runtime.Instance{}, err
		}
		carried, err := r.tearDown(ctx, s.ID, false)
		if err != nil {
			return runtime.Instance{}, err
		}
		if err := ctx.Err(); err != nil {
			return runtime.Instance{}, err
		}
		return r.start(s, carried)
	})
}

// adopt answers with the instance that already runs s, if one does.
func (r *Runtime) adopt(s runtime.Spec) (*runtime.Instance, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, err := r.own(s.ID)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if i.Labels[runtime.LabelDigest] != s.Labels[runtime.LabelDigest] || i.half {
		return nil, nil
	}
	if i.State != runtime.StateRunning && i.State != runtime.StatePaused {
		return nil, nil
	}
	i.State = runtime.StateRunning
	for k, v := range s.Labels {
		if !runtime.Counter(k) {
			i.Labels[k] = v
		}
	}
	snap := i.snapshot()
	return &snap, nil
}

func (r *Runtime) image(s runtime.Spec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Digest == "" {
		if _, ok := r.local[s.Image]; !ok {
			return fmt.Errorf("%w: %q is not on this node", runtime.ErrImage, s.Image)
		}
		return nil
	}
	for _, d := range r.local {
		if d == s.Digest {
			return nil
		}
	}
	return fmt.Errorf("%w: no image with digest %s on this node", runtime.ErrImage, s.Digest)
}

func (r *Runtime) start(s runtime.Spec, carried map[string]string) (runtime.Instance, error) {
	var p Program
	if r.cfg.Program != nil {
		p = r.cfg.Program(s)
	}
	pause(r.cfg.StartLatency)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unavailable {
		return runtime.Instance{}, fmt.Errorf("start %q: %w", s.ID, runtime.ErrUnavailable)
	}
	r.nextPID++
	now := time.Now()
	i := &instance{spec: s, program: p, done: make(chan struct{})}
	i.Instance = runtime.Instance{ID: s.ID, State: runtime.StateCreated, Labels: runtime.MergeLabels(carried, s.Labels)}
	if i.Labels[runtime.LabelImage] = s.Digest; s.Digest == "" {
		i.Labels[runtime.LabelImage] = r.local[s.Image]
	}
	r.instances[s.ID] = i
	if p.FailStart != nil {
		close(i.done)
		return runtime.Instance{}, p.FailStart
	}
	i.State, i.PID, i.StartedAt = runtime.StateRunning, r.nextPID, now
	i.Labels[runtime.LabelStarted] = now.UTC().Format(time.RFC3339Nano)
	r.starts[s.ID]++
	r.count(s.Labels[runtime.LabelDaemon])
	r.changed(Started, i, false)
	if p.Exits {
		exit := runtime.Exit{Code: p.Code, Known: true, OOM: p.OOM}
		i.timer = time.AfterFunc(p.After, func() { r.end(i, exit, false) })
	}
	r.wake()
	return i.snapshot(), nil
}

// count notes how many instances of a daemon run now; r.mu is held.
func (r *Runtime) count(daemon string) {
	n := 0
	for _, i := range r.instances {
		if i.Labels[runtime.LabelDaemon] == daemon && i.PID != 0 {
			n++
		}
	}
	r.most[daemon] = max(r.most[daemon], n)
}

// end makes the instance end, unless it did before.
func (r *Runtime) end(i *instance, exit runtime.Exit, asked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(i, exit, asked)
}

func (r *Runtime) endLocked(i *instance, exit runtime.Exit, asked bool) bool {
	if i.State != runtime.StateRunning && i.State != runtime.StatePaused {
		return false
	}
	if i.timer != nil {
		i.timer.Stop()
	}
	exit.At = time.Now()
	i.State, i.PID, i.Exit = runtime.StateStopped, 0, &exit
	close(i.done)
	r.changed(Ended, i, asked)
	r.wake()
	return true
}

// stop ends what runs under id and returns how it ended.
func (r *Runtime) stop(ctx context.Context, id string, grace time.Duration, kill bool) (runtime.Exit, error) {
	r.mu.Lock()
	i, err := r.own(id)
	if err != nil {
		r.mu.Unlock()
		return runtime.Exit{}, err
	}
	if i.State != runtime.StateRunning && i.State != runtime.StatePaused {
		r.mu.Unlock()
		return runtime.Exit{}, runtime.ErrNotFound
	}
	i.State = runtime.StateRunning // a paused one is thawed to receive its signal
	p, after := i.program, r.cfg.StopLatency
	exit := runtime.Exit{Code: p.StopCode, Known: true}
	if kill {
		after, exit.Code = 0, 128+9
	} else if p.IgnoreStop || after > grace {
		after, exit.Code = grace, 128+9
	}
	r.mu.Unlock()

	t := time.NewTimer(after)
	defer t.Stop()
	select {
	case <-t.C:
		r.end(i, exit, true)
	case <-i.done:
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.Exit == nil { // the power was cut meanwhile
		return runtime.Exit{}, runtime.ErrNotFound
	}
	b, _ := json.Marshal(i.Exit)
	i.Labels[runtime.LabelExit] = string(b)
	return *i.Exit, nil
}

// tearDown removes what is left under id and returns the labels that its
// successor inherits.
func (r *Runtime) tearDown(ctx context.Context, id string, kill bool) (map[string]string, error) {
	r.mu.Lock()
	i, err := r.own(id)
	r.mu.Unlock()
	if errors.Is(err, runtime.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.stop(ctx, id, i.spec.StopGrace, kill); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unavailable {
		return nil, fmt.Errorf("remove %q: %w", id, runtime.ErrUnavailable)
	}
	if i.Exit != nil {
		b, _ := json.Marshal(i.Exit)
		i.Labels[runtime.LabelExit] = string(b)
	}
	delete(r.instances, id)
	r.changed(Removed, i, true)
	return i.Labels, nil
}

// Stop implements runtime.Runtime.
func (r *Runtime) Stop(ctx context.Context, id string, grace time.Duration) (runtime.Exit, error) {
	return lifecycle(ctx, r, OpStop, id, func() (runtime.Exit, error) {
		return r.stop(ctx, id, grace, false)
	})
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	_, err := lifecycle(ctx, r, OpRemove, id, func() (map[string]string, error) {
		return r.tearDown(context.WithoutCancel(ctx), id, true)
	})
	return err
}

// Wait implements runtime.Runtime. Like the real one it outlasts an outage: an
// exit during one is told when it is over.
func (r *Runtime) Wait(ctx context.Context, id string) (runtime.Exit, error) {
	exit, err := r.wait(ctx, id)
	return exit, r.record(OpWait, id, err)
}

func (r *Runtime) wait(ctx context.Context, id string) (runtime.Exit, error) {
	for {
		r.mu.Lock()
		unavailable, back := r.unavailable, r.back
		i, err := r.own(id)
		if err == nil && i.State == runtime.StateCreated {
			err = runtime.ErrNotFound
		}
		r.mu.Unlock()
		if unavailable {
			select {
			case <-back:
				continue
			case <-ctx.Done():
				return runtime.Exit{}, ctx.Err()
			}
		}
		if aerr := r.admit(ctx, OpWait, id); aerr != nil {
			return runtime.Exit{}, aerr
		}
		if err != nil {
			return runtime.Exit{}, fmt.Errorf("wait for %q: %w", id, err)
		}
		select {
		case <-i.done:
		case <-ctx.Done():
			return runtime.Exit{}, ctx.Err()
		}
		r.mu.Lock()
		exit, unavailable := i.Exit, r.unavailable
		r.mu.Unlock()
		if unavailable {
			continue
		}
		if exit == nil {
			return runtime.Exit{}, fmt.Errorf("wait for %q: %w", id, runtime.ErrNotFound)
		}
		return *exit, nil
	}
}

// lifecycle runs f alone for id. When ctx ends the caller gets its error at
// once, while f goes on to the end of its step, as a call to a real runtime does.
func lifecycle[T any](ctx context.Context, r *Runtime, op Op, id string, f func() (T, error)) (T, error) {
	var zero T
	r.mu.Lock()
	lock, ok := r.locks[id]
	if !ok {
		lock = make(chan struct{}, 1)
		r.locks[id] = lock
	}
	r.mu.Unlock()
	select {
	case lock <- struct{}{}:
	case <-ctx.Done():
		return zero, r.record(op, id, ctx.Err())
	}
	if err := r.admit(ctx, op, id); err != nil {
		<-lock
		return zero, r.record(op, id, err)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-lock }()
		v, err := f()
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%s %q: %w", op, id, err)
		}
		done <- result{v, r.record(op, id, err)}
	}()
	select {
	case res := <-done:
		return res.value, res.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// pause waits d; lifecycle steps are not cancelled.
func pause(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}
