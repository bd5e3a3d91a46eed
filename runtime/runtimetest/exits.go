package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
)

func testStop(t *testing.T, s suite) {
	spec := s.spec("stop", Program{})
	inst := s.ensure(t, spec)
	s.Settled(t, spec.ID)
	exit, err := s.Runtime().Stop(t.Context(), spec.ID, 10*time.Second)
	if err != nil || exit.Code != 0 || !exit.Known || exit.OOM {
		t.Fatalf("stop: %+v, %v; want code 0 from its own handler of SIGTERM", exit, err)
	}
	if n := s.Copies(t, spec.ID); n != 0 {
		t.Fatalf("%d copies live after stop", n)
	}
	got, ok := s.find(t, spec.ID)
	if !ok || got.State != runtime.StateStopped || got.Exit == nil || got.Exit.Code != 0 || !got.Exit.Known {
		t.Fatalf("after stop the list shows %+v (exit %+v); want stopped, with the exit", got, got.Exit)
	}
	if again := s.ensure(t, spec); again.PID == inst.PID {
		t.Fatal("the same pid again")
	}
}

func testStopGrace(t *testing.T, s suite) {
	spec := s.spec("stop-grace", Program{IgnoreTerm: true})
	s.ensure(t, spec)
	s.Settled(t, spec.ID)
	const grace = 700 * time.Millisecond
	start := time.Now()
	exit, err := s.Runtime().Stop(t.Context(), spec.ID, grace)
	took := time.Since(start)
	if err != nil || exit.Code != 128+9 {
		t.Fatalf("stop: %+v, %v; want 137", exit, err)
	}
	if took < grace || took > grace+5*time.Second {
		t.Fatalf("stop took %v with a grace of %v", took, grace)
	}
}

func testStopNothing(t *testing.T, s suite) {
	if _, err := s.Runtime().Stop(t.Context(), "nothing", time.Second); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("stop of nothing: %v, want ErrNotFound", err)
	}
	spec := s.spec("stopped", Program{Exits: true, Code: 5})
	if _, err := s.Runtime().Ensure(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	until(t, "it ended", func() bool { i, _ := s.find(t, spec.ID); return i.State == runtime.StateStopped })
	if _, err := s.Runtime().Stop(t.Context(), spec.ID, time.Second); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("stop of what ended: %v, want ErrNotFound", err)
	}
	if i, _ := s.find(t, spec.ID); i.Exit == nil || i.Exit.Code != 5 {
		t.Fatalf("its exit was lost: %+v", i.Exit)
	}
}

// An agent that stops while it waits for a container kills nothing.
func testStopCancelled(t *testing.T, s suite) {
	spec := s.spec("stop-cancelled", Program{IgnoreTerm: true})
	inst := s.ensure(t, spec)
	s.Settled(t, spec.ID)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := s.Runtime().Stop(ctx, spec.ID, 2*time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("cancelled stop: %v", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Fatalf("a cancelled stop took %v to return", took)
	}
	time.Sleep(2500 * time.Millisecond)
	if got, _ := s.find(t, spec.ID); got.State != runtime.StateRunning || got.PID != inst.PID {
		t.Fatalf("after a cancelled stop: %+v, want it running", got)
	}
	if err := s.Runtime().Remove(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
}

func testRemove(t *testing.T, s suite) {
	r := s.Runtime()
	if err := r.Remove(t.Context(), "never-was"); err != nil {
		t.Fatalf("remove of nothing: %v", err)
	}
	spec := s.spec("remove", Program{IgnoreTerm: true})
	s.ensure(t, spec)
	for range 2 {
		if err := r.Remove(t.Context(), spec.ID); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.find(t, spec.ID); ok || s.Copies(t, spec.ID) != 0 {
			t.Fatal("still there")
		}
	}
}

func testExitCodes(t *testing.T, s suite) {
	for _, code := range []int{0, 1, 42} {
		spec := s.spec(fmt.Sprintf("exit-%d", code), Program{Exits: true, After: 200 * time.Millisecond, Code: code})
		inst := s.ensure(t, spec)
		exit, err := s.Runtime().Wait(t.Context(), spec.ID)
		if err != nil || exit.Code != uint32(code) || !exit.Known || exit.OOM || exit.At.Before(inst.StartedAt) {
			t.Fatalf("wait: %+v, %v; want code %d", exit, err, code)
		}
		got, _ := s.find(t, spec.ID)
		if got.State != runtime.StateStopped || got.Exit == nil || got.Exit.Code != uint32(code) || got.PID != 0 {
			t.Fatalf("list: %+v, exit %+v; want stopped with %d", got, got.Exit, code)
		}
		// Waiting for what ended already answers at once.
		if exit, err := s.Runtime().Wait(t.Context(), spec.ID); err != nil || exit.Code != uint32(code) {
			t.Fatalf("second wait: %+v, %v", exit, err)
		}
	}
}

func testKilled(t *testing.T, s suite) {
	spec := s.spec("killed", Program{})
	first := s.ensure(t, spec)
	type answer struct {
		exit runtime.Exit
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		e, err := s.Runtime().Wait(t.Context(), spec.ID)
		got <- answer{e, err}
	}()
	time.Sleep(50 * time.Millisecond)
	s.Kill(t, spec.ID)
	a := <-got
	if a.err != nil || a.exit.Code != 128+9 || !a.exit.Known || a.exit.OOM {
		t.Fatalf("wait: %+v, %v; want 137", a.exit, a.err)
	}
	if next := s.ensure(t, spec); next.PID == first.PID {
		t.Fatal("the same pid again")
	}
}

func testOOM(t *testing.T, s suite) {
	spec := s.spec("oom", Program{OOM: true})
	if _, err := s.Runtime().Ensure(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	exit, err := s.Runtime().Wait(t.Context(), spec.ID)
	if err != nil || exit.Code != 128+9 || !exit.OOM {
		t.Fatalf("wait: %+v, %v; want 137 by the OOM killer", exit, err)
	}
	if got, _ := s.find(t, spec.ID); got.Exit == nil || !got.Exit.OOM {
		t.Fatalf("list: exit %+v, want oom", got.Exit)
	}
}

// An outage is not an exit; an exit during one is told afterwards.
func testWaitOutage(t *testing.T, s suite) {
	stays := s.spec("outage-stays", Program{})
	ends := s.spec("outage-ends", Program{})
	inst := s.ensure(t, stays)
	s.ensure(t, ends)
	type answer struct {
		id   string
		exit runtime.Exit
		err  error
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan answer, 2)
	for _, id := range []string{stays.ID, ends.ID} {
		go func() {
			e, err := s.Runtime().Wait(ctx, id)
			got <- answer{id, e, err}
		}()
	}
	time.Sleep(100 * time.Millisecond)
	s.Outage(t, func() {
		s.Kill(t, ends.ID)
		time.Sleep(500 * time.Millisecond)
	})
	a := <-got
	if a.id != ends.ID || a.err != nil {
		t.Fatalf("wait for %s answers %+v, %v; want only %s ended", a.id, a.exit, a.err, ends.ID)
	}
	if a.exit.Known && a.exit.Code != 128+9 {
		t.Fatalf("exit %+v; want 137, or unknown", a.exit)
	}
	if now, _ := s.find(t, stays.ID); now.State != runtime.StateRunning || now.PID != inst.PID {
		t.Fatalf("after the outage: %+v, want %+v", now, inst)
	}
	cancel()
	if a := <-got; !errors.Is(a.err, context.Canceled) {
		t.Fatalf("cancelled wait: %+v, %v", a.exit, a.err)
	}
}

func testWaitNothing(t *testing.T, s suite) {
	if _, err := s.Runtime().Wait(t.Context(), "nothing"); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("wait for nothing: %v, want ErrNotFound", err)
	}
}

// While the runtime is away every call says so, and nothing is changed.
func testOutage(t *testing.T, s suite) {
	spec := s.spec("outage", Program{})
	inst := s.ensure(t, spec)
	r := s.Runtime()
	s.Outage(t, func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, lerr := r.List(ctx)
		changed := spec
		changed.Labels = map[string]string{runtime.LabelDaemon: spec.ID, runtime.LabelDigest: "digest-2"}
		_, eerr := r.Ensure(ctx, changed)
		for what, err := range map[string]error{"ready": r.Ready(ctx), "list": lerr, "ensure": eerr, "remove": r.Remove(ctx, spec.ID)} {
			if !errors.Is(err, runtime.ErrUnavailable) {
				t.Errorf("%s: %v, want ErrUnavailable", what, err)
			}
		}
	})
	until(t, "ready again", func() bool { return r.Ready(t.Context()) == nil })
	if again := s.ensure(t, spec); again.PID != inst.PID {
		t.Fatal("it was restarted by an outage")
	}
}

func testExec(t *testing.T, s suite) {
	spec := s.spec("exec", Program{})
	s.ensure(t, spec)
	for _, code := range []int{0, 3} {
		got, err := s.Runtime().Exec(t.Context(), spec.ID, s.Argv(code, 0))
		if err != nil || got != code {
			t.Fatalf("exec: %d, %v; want %d", got, err, code)
		}
	}
	if _, err := s.Runtime().Exec(t.Context(), "nothing", s.Argv(0, 0)); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("exec in nothing: %v", err)
	}
}

func testExecTimeout(t *testing.T, s suite) {
	spec := s.spec("exec-timeout", Program{})
	inst := s.ensure(t, spec)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := s.Runtime().Exec(ctx, spec.ID, s.Argv(0, time.Hour)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("exec: %v, want DeadlineExceeded", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Fatalf("took %v", took)
	}
	until(t, "the exec is killed", func() bool { return s.Copies(t, spec.ID) == 1 })
	if again := s.ensure(t, spec); again.PID != inst.PID {
		t.Fatal("the container did not survive")
	}
}

func testLabels(t *testing.T, s suite) {
	spec := s.spec("labels", Program{})
	s.ensure(t, spec)
	r := s.Runtime()
	for _, n := range []string{"1", "2"} {
		if err := r.SetLabels(t.Context(), spec.ID, map[string]string{runtime.LabelRestarts: n, runtime.LabelWindow: "w" + n}); err != nil {
			t.Fatal(err)
		}
		got, _ := s.find(t, spec.ID)
		if got.Labels[runtime.LabelRestarts] != n || got.Labels[runtime.LabelWindow] != "w"+n || got.Labels[runtime.LabelDigest] != "digest-1" {
			t.Fatalf("labels %v", got.Labels)
		}
	}
	if err := r.SetLabels(t.Context(), "nothing", map[string]string{"a": "b"}); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("labels of nothing: %v", err)
	}
}

// A start or an exit wakes a listener; that this may be late or twice is fine.
func testEvents(t *testing.T, s suite) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := s.Runtime().Events(ctx)
	spec := s.spec("events", Program{})
	time.Sleep(100 * time.Millisecond) // to subscribe
	s.ensure(t, spec)
	for _, what := range []string{"start", "exit"} {
		select {
		case <-events:
		case <-time.After(10 * time.Second):
			t.Fatalf("no event of the %s", what)
		}
		time.Sleep(200 * time.Millisecond)
		select {
		case <-events:
		default:
		}
		if what == "start" {
			s.Kill(t, spec.ID)
		}
	}
}

func testPull(t *testing.T, s suite) {
	r := s.Runtime()
	ref, digest := s.OtherImage()
	if _, err := r.Pull(t.Context(), runtime.Pull{Ref: ref, Policy: "never"}); !errors.Is(err, runtime.ErrImage) {
		t.Fatalf("pull never: %v, want ErrImage", err)
	}
	for _, policy := range []string{"missing", "always", "never"} {
		got, err := r.Pull(t.Context(), runtime.Pull{Ref: ref, Policy: policy})
		if err != nil || got != digest {
			t.Fatalf("pull %s: %q, %v; want %s", policy, got, err, digest)
		}
	}
	spec := s.spec("pulled", Program{})
	spec.Image, spec.Digest = ref, digest
	s.ensure(t, spec)
	if got, _ := s.find(t, spec.ID); got.Labels[runtime.LabelImage] != digest {
		t.Fatalf("image label %q, want %s", got.Labels[runtime.LabelImage], digest)
	}
	if _, err := r.Pull(t.Context(), runtime.Pull{Ref: "agentd.test/absent:1", Policy: "missing"}); !errors.Is(err, runtime.ErrImage) {
		t.Fatalf("pull of what is not there: %v, want ErrImage", err)
	}
}
