// Package runtimetest is what every runtime.Runtime has to pass: the contract
// of package runtime as tests. It runs against the fake and against a real
// containerd, so that what holds in a simulation holds on a machine.
package runtimetest

import (
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
)

// Harness makes what the suite runs against.
type Harness struct {
	// New is called once for each test; what it returns may be shared, because
	// each test uses container ids of its own.
	New func(t *testing.T) Env
	// Around wraps each test, for a synctest bubble; nil runs it as it is.
	Around func(t *testing.T, test func(t *testing.T))
	// Cycles is how often the tests that cancel calls at random moments do so.
	Cycles int
}

// Env is a Runtime and what a test may do to it from outside.
type Env interface {
	Runtime() runtime.Runtime
	// Restarted is a second connection to the same containers, as a restarted
	// agent has; it is closed with the test.
	Restarted(t *testing.T) runtime.Runtime
	// Spec is a container that runs p, with an image that is present.
	Spec(id string, p Program) runtime.Spec
	// OtherImage is a reference that Pull finds and that was not pulled yet, and
	// the digest of it.
	OtherImage() (ref, digest string)
	// Argv makes an exec end with code after d.
	Argv(code int, d time.Duration) []string

	// Copies is how many instances of id live, by a look from outside.
	Copies(t *testing.T, id string) int
	// Settled returns when the program of the first instance of id is ready to
	// take signals.
	Settled(t *testing.T, id string)
	// Kill ends the init process of id with SIGKILL.
	Kill(t *testing.T, id string)
	// Halve brings s into a half-state, by force.
	Halve(t *testing.T, s runtime.Spec, h Half)
	// Foreign makes a running container that is not ours; the function that it
	// returns reports whether it still runs untouched.
	Foreign(t *testing.T, id string) (untouched func() bool)
	// Outage makes the runtime unreachable while f runs; containers go on.
	Outage(t *testing.T, f func())
}

// Program is what a container does; the zero value runs until SIGTERM and exits
// with 0 then.
type Program struct {
	Exits      bool // by itself,
	After      time.Duration
	Code       int
	IgnoreTerm bool
	OOM        bool // it takes more memory than it may
}

// Half is a state that a crash may leave behind.
type Half string

// The half-states that Ensure and Remove converge from.
const (
	NoTask       Half = "container without task"
	Created      Half = "task created, not started"
	Stopped      Half = "task stopped"
	Paused       Half = "task paused"
	SnapshotGone Half = "root file system gone"
	Wedged       Half = "runtime holds a task that it does not show"
	ShimKilled   Half = "shim killed"
	Stray        Half = "a process left in the cgroup"
	Bundle       Half = "left-over bundle of an interrupted create"
)

// Halves lists them all.
func Halves() []Half {
	return []Half{NoTask, Created, Stopped, Paused, SnapshotGone, Wedged, ShimKilled, Stray, Bundle}
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	if h.Around == nil {
		h.Around = func(t *testing.T, test func(t *testing.T)) { test(t) }
	}
	if h.Cycles == 0 {
		h.Cycles = 20
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s suite)
	}{
		{"ensure", testEnsure},
		{"ensure is idempotent", testIdempotent},
		{"a restarted agent adopts", testAdopt},
		{"adoption updates labels but no counters", testAdoptLabels},
		{"another digest replaces", testReplace},
		{"counters outlive a recreation", testCounters},
		{"concurrent ensures", testConcurrent},
		{"ensure without the image", testNoImage},
		{"foreign", testForeign},
		{"stop", testStop},
		{"stop after the grace", testStopGrace},
		{"stop what does not run", testStopNothing},
		{"cancelled stop does not kill", testStopCancelled},
		{"remove", testRemove},
		{"exit codes", testExitCodes},
		{"killed from outside", testKilled},
		{"oom", testOOM},
		{"wait outlasts an outage", testWaitOutage},
		{"wait for nothing", testWaitNothing},
		{"outage", testOutage},
		{"exec", testExec},
		{"exec times out", testExecTimeout},
		{"exec with streams", testExecStream},
		{"stats", testStats},
		{"labels", testLabels},
		{"events", testEvents},
		{"pull", testPull},
		{"cancelled calls never wedge", testCancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.Around(t, func(t *testing.T) { test.run(t, suite{h.New(t), h}) })
		})
	}
	for _, half := range Halves() {
		for _, then := range []string{"ensure", "ensure changed", "remove"} {
			t.Run(string(half)+"/"+then, func(t *testing.T) {
				h.Around(t, func(t *testing.T) { testHalf(t, suite{h.New(t), h}, half, then) })
			})
		}
	}
}

// suite is what each test gets.
type suite struct {
	Env
	h Harness
}

// spec is a container named after the test.
func (s suite) spec(id string, p Program) runtime.Spec {
	spec := s.Spec(id, p)
	spec.ID = id
	spec.StopGrace = 5 * time.Second
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	spec.Labels[runtime.LabelDaemon] = id
	spec.Labels[runtime.LabelDigest] = "digest-1"
	spec.Labels[runtime.LabelGeneration] = "1"
	return spec
}

// ensure makes it run and checks that exactly one does.
func (s suite) ensure(t *testing.T, spec runtime.Spec) runtime.Instance {
	t.Helper()
	inst, err := s.Runtime().Ensure(t.Context(), spec)
	if err != nil {
		t.Fatalf("ensure %s: %v", spec.ID, err)
	}
	if inst.ID != spec.ID || inst.State != runtime.StateRunning || inst.PID <= 0 {
		t.Fatalf("ensure answers %+v, want %s running", inst, spec.ID)
	}
	// From outside it is seen a moment later, when its program was executed.
	until(t, "one copy of "+spec.ID+" lives", func() bool {
		n := s.Copies(t, spec.ID)
		if n > 1 {
			t.Fatalf("%d copies of %s live", n, spec.ID)
		}
		return n == 1
	})
	return inst
}

// find lists one container.
func (s suite) find(t *testing.T, id string) (runtime.Instance, bool) {
	t.Helper()
	all, err := s.Runtime().List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	for _, i := range all {
		if i.ID == id {
			return i, true
		}
	}
	return runtime.Instance{}, false
}

// until waits for cond, at most 20 s.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("not reached within 20 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
