package fake

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agentd/agentd/runtime"
)

// Pull implements runtime.Runtime.
func (r *Runtime) Pull(ctx context.Context, p runtime.Pull) (string, error) {
	digest, err := r.pull(ctx, p)
	return digest, r.record(OpPull, p.Ref, err)
}

func (r *Runtime) pull(ctx context.Context, p runtime.Pull) (string, error) {
	if err := r.admit(ctx, OpPull, p.Ref); err != nil {
		return "", err
	}
	want := p.Digest
	if _, d, ok := strings.Cut(p.Ref, "@"); ok && want == "" {
		want = d
	}
	r.mu.Lock()
	have, ok := r.local[p.Ref]
	r.mu.Unlock()
	if ok && (want == "" && p.Policy != "always" || want == have) {
		return have, nil
	}
	if p.Policy == "never" {
		return "", fmt.Errorf("pull %q: %w: not on this node, and pull = \"never\"", p.Ref, runtime.ErrImage)
	}
	for half := range int64(2) { // of an image of 2 MiB
		if p.Progress != nil {
			p.Progress(half<<20, 2<<20)
		}
		select {
		case <-time.After(r.cfg.PullLatency / 2):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	digest, ok := r.registry[p.Ref]
	if r.registry == nil {
		digest, ok = Digest(p.Ref), true
		if want != "" {
			digest = want
		}
	}
	if !ok || want != "" && want != digest {
		return "", fmt.Errorf("pull %q: %w: manifest unknown", p.Ref, runtime.ErrImage)
	}
	if p.Progress != nil {
		p.Progress(2<<20, 2<<20)
	}
	r.local[p.Ref] = digest
	return digest, nil
}

// Digest is what a reference resolves to when Config.Images is nil.
func Digest(ref string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(ref)))
}

// SetImage makes the registry answer ref with digest; "" makes it unknown.
func (r *Runtime) SetImage(ref, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.registry == nil {
		r.registry = map[string]string{}
	}
	if digest == "" {
		delete(r.registry, ref)
		return
	}
	r.registry[ref] = digest
}

// Import puts an image onto the node without a pull.
func (r *Runtime) Import(ref, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.local[ref] = digest
}

// FailNext makes the next call of op fail with err. Calls add up.
func (r *Runtime) FailNext(op Op, err error) { r.FailNextOf(op, "", err) }

// FailNextOf is FailNext for one container id (or image reference).
func (r *Runtime) FailNextOf(op Op, id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[op] = append(r.failures[op], failure{id, err})
}

// FailNoMore takes back what FailNext and FailNextOf have left.
func (r *Runtime) FailNoMore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.failures)
}

// SetUnavailable starts or ends an outage: every call answers
// runtime.ErrUnavailable, waits go on, containers too.
func (r *Runtime) SetUnavailable(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if down == r.unavailable {
		return
	}
	r.unavailable = down
	if down {
		r.back = make(chan struct{})
		return
	}
	close(r.back)
	r.wake()
}

// Crash makes the container of id end by itself with code; it reports whether
// one ran.
func (r *Runtime) Crash(id string, code uint32) bool {
	return r.injure(id, runtime.Exit{Code: code, Known: true})
}

// Kill ends the container of id with SIGKILL.
func (r *Runtime) Kill(id string) bool {
	return r.injure(id, runtime.Exit{Code: 128 + 9, Known: true})
}

// OOM ends the container of id by the OOM killer.
func (r *Runtime) OOM(id string) bool {
	return r.injure(id, runtime.Exit{Code: 128 + 9, Known: true, OOM: true})
}

// Lose ends the container of id unseen, as when its shim is killed.
func (r *Runtime) Lose(id string) bool {
	return r.injure(id, runtime.Exit{Code: 255})
}

func (r *Runtime) injure(id string, exit runtime.Exit) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.instances[id]
	return ok && r.endLocked(i, exit, false)
}

// Put leaves a container in some state, as a crash or somebody else may have.
// Labels are taken from s; StateBroken is a wedged id.
func (r *Runtime) Put(s runtime.Spec, state runtime.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := &instance{spec: s, done: make(chan struct{}), half: state == runtime.StateBroken}
	if old, ok := r.instances[s.ID]; ok {
		r.endLocked(old, runtime.Exit{Code: 255}, false)
	}
	i.Instance = runtime.Instance{ID: s.ID, State: state, Labels: runtime.MergeLabels(nil, s.Labels)}
	switch state {
	case runtime.StateRunning, runtime.StatePaused:
		r.nextPID++
		i.PID, i.StartedAt = r.nextPID, time.Now()
		if r.cfg.Program != nil {
			i.program = r.cfg.Program(s)
		}
	case runtime.StateStopped:
		i.Exit = &runtime.Exit{Code: 1, At: time.Now(), Known: true}
		close(i.done)
	default:
		close(i.done)
	}
	r.instances[s.ID] = i
	r.count(s.Labels[runtime.LabelDaemon])
	r.wake()
}

// PutForeign adds a running container that is not ours.
func (r *Runtime) PutForeign(id string) {
	r.Put(runtime.Spec{ID: id}, runtime.StateRunning)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instances[id].foreign = true
}

// Instance is the view from outside, during outages and of foreign containers too.
func (r *Runtime) Instance(id string) (runtime.Instance, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.instances[id]
	if !ok {
		return runtime.Instance{}, false
	}
	return i.snapshot(), true
}

// Spec is what Ensure was last asked to run under id.
func (r *Runtime) Spec(id string) (runtime.Spec, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.instances[id]
	if !ok {
		return runtime.Spec{}, false
	}
	return i.spec, true
}

// Count is the most instances of a daemon that ever ran at once, over all ids.
func (r *Runtime) Count(daemon string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most[daemon]
}

// Starts is how often a container with that id was started.
func (r *Runtime) Starts(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starts[id]
}

// Running lists the ids of all running containers, foreign ones too, sorted.
func (r *Runtime) Running() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, id := range slices.Sorted(maps.Keys(r.instances)) {
		if r.instances[id].PID != 0 {
			out = append(out, id)
		}
	}
	return out
}

// Calls returns the finished calls in order; those named in ops only, if any are.
func (r *Runtime) Calls(ops ...Op) []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Call
	for _, c := range r.calls {
		if len(ops) == 0 || slices.Contains(ops, c.Op) {
			out = append(out, c)
		}
	}
	return out
}
