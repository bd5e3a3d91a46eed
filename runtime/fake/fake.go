// Package fake is a Runtime in memory, for tests. It keeps the contract of
// runtime.Runtime (the conformance suite runs against it too), lets a test
// injure it from outside, and remembers what happened: each call, how often
// each container started, and how many instances of a daemon ran at once.
//
// It works inside testing/synctest bubbles: make it inside the bubble; all its
// waits are on channels and timers, and it leaves no goroutine behind once the
// latencies that it was given have passed. Safe for concurrent use.
package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/agentd/agentd/runtime"
)

// Op names a method of runtime.Runtime, for FailNext and Calls.
type Op string

// The operations that can be made to fail.
const (
	OpReady      Op = "ready"
	OpList       Op = "list"
	OpPull       Op = "pull"
	OpEnsure     Op = "ensure"
	OpStop       Op = "stop"
	OpRemove     Op = "remove"
	OpWait       Op = "wait"
	OpExec       Op = "exec"
	OpExecStream Op = "execstream"
	OpStats      Op = "stats"
	OpSetLabels  Op = "setlabels"
)

// Config is what the machine is like. The zero value is a machine on which
// every image exists, nothing takes time and every program runs until it is
// told to stop.
type Config struct {
	// Images maps references to the digests that the registry answers with.
	// nil: every reference exists, with a digest made from the reference.
	Images map[string]string
	// PullLatency, StartLatency and StopLatency are how long a download, a
	// start, and a program's reaction to its stop signal take.
	PullLatency, StartLatency, StopLatency time.Duration
	// Program tells how the container of s behaves; nil is the zero Program.
	Program func(s runtime.Spec) Program
	// Watch is told of each transition, with the runtime's lock held: it must
	// neither block nor call back. nil: nobody is.
	Watch func(Change)
}

// Program is how a container behaves.
type Program struct {
	Exits      bool          // it ends by itself
	After      time.Duration // so long after its start
	Code       uint32        // with this code
	OOM        bool          // because of the OOM killer
	IgnoreStop bool          // only SIGKILL ends it
	StopCode   uint32        // exit code on its stop signal
	FailStart  error         // Ensure fails with it, after StartLatency
	// Exec answers Runtime.Exec; nil answers 0.
	Exec func(ctx context.Context, argv []string) (int, error)
	// ExecStream answers Runtime.ExecStream; nil leaves it to Exec.
	ExecStream func(ctx context.Context, o runtime.ExecOptions) (int, error)
	// Stats answers Runtime.Stats; nil answers one process that uses nothing.
	Stats func() runtime.Stats
}

// Call is one finished call, for assertions on order.
type Call struct {
	Op  Op
	ID  string // container id; for a pull the reference
	At  time.Time
	Err error
}

// Runtime is the fake. Use New.
type Runtime struct {
	cfg Config

	mu          sync.Mutex // guards all below; never held while waiting
	registry    map[string]string
	local       map[string]string // reference -> digest of what was pulled
	instances   map[string]*instance
	locks       map[string]chan struct{}
	failures    map[Op][]failure
	unavailable bool
	back        chan struct{} // closed when an unavailable period ends
	subs        map[chan struct{}]struct{}
	calls       []Call
	starts      map[string]int
	most        map[string]int // daemon -> most instances at once
	nextPID     int
}

type failure struct {
	id  string // "" any
	err error
}

type instance struct {
	runtime.Instance
	spec    runtime.Spec
	program Program
	foreign bool
	half    bool          // wedged: mended by Ensure and Remove
	done    chan struct{} // closed when the instance ended
	timer   *time.Timer
}

var _ runtime.Runtime = (*Runtime)(nil)

// New returns an empty machine.
func New(cfg Config) *Runtime {
	r := &Runtime{
		cfg:       cfg,
		registry:  maps.Clone(cfg.Images),
		local:     map[string]string{},
		instances: map[string]*instance{},
		locks:     map[string]chan struct{}{},
		failures:  map[Op][]failure{},
		subs:      map[chan struct{}]struct{}{},
		starts:    map[string]int{},
		most:      map[string]int{},
		nextPID:   1000,
	}
	return r
}

// Ready implements runtime.Runtime.
func (r *Runtime) Ready(ctx context.Context) error {
	return r.record(OpReady, "", r.admit(ctx, OpReady, ""))
}

// List implements runtime.Runtime.
func (r *Runtime) List(ctx context.Context) ([]runtime.Instance, error) {
	if err := r.admit(ctx, OpList, ""); err != nil {
		return nil, r.record(OpList, "", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []runtime.Instance
	for _, id := range slices.Sorted(maps.Keys(r.instances)) {
		if i := r.instances[id]; !i.foreign {
			out = append(out, i.snapshot())
		}
	}
	r.calls = append(r.calls, Call{Op: OpList, At: time.Now()})
	return out, nil
}

// SetLabels implements runtime.Runtime.
func (r *Runtime) SetLabels(ctx context.Context, id string, labels map[string]string) error {
	return r.record(OpSetLabels, id, func() error {
		if err := r.admit(ctx, OpSetLabels, id); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		i, err := r.own(id)
		if err != nil {
			return fmt.Errorf("set labels of %q: %w", id, err)
		}
		maps.Copy(i.Labels, labels)
		return nil
	}())
}

// Events implements runtime.Runtime.
func (r *Runtime) Events(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	r.mu.Lock()
	r.subs[ch] = struct{}{}
	r.mu.Unlock()
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		delete(r.subs, ch)
		r.mu.Unlock()
	})
	return ch
}

// Close implements runtime.Runtime. Containers go on, and the same value may be
// used again, as a restarted agent would use a new connection.
func (r *Runtime) Close() error { return nil }

// own returns the instance of id if it is ours; r.mu is held.
func (r *Runtime) own(id string) (*instance, error) {
	i, ok := r.instances[id]
	switch {
	case !ok:
		return nil, runtime.ErrNotFound
	case i.foreign:
		return nil, runtime.ErrForeign
	}
	return i, nil
}

// admit answers injected failures and outages, before a call does anything.
func (r *Runtime) admit(ctx context.Context, op Op, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, f := range r.failures[op] {
		if f.id == "" || f.id == id {
			r.failures[op] = slices.Delete(r.failures[op], n, n+1)
			return f.err
		}
	}
	if r.unavailable {
		return fmt.Errorf("%s %q: %w", op, id, runtime.ErrUnavailable)
	}
	return nil
}

func (r *Runtime) record(op Op, id string, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, Call{Op: op, ID: id, At: time.Now(), Err: err})
	return err
}

// wake tells the subscribers that something may have changed; r.mu is held.
func (r *Runtime) wake() {
	for ch := range r.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (i *instance) snapshot() runtime.Instance {
	s := i.Instance
	s.Labels = maps.Clone(s.Labels)
	if i.Exit != nil {
		e := *i.Exit
		s.Exit = &e
	}
	return s
}
