package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
)

func testEnsure(t *testing.T, s suite) {
	before := time.Now()
	spec := s.spec("ensure", Program{})
	inst := s.ensure(t, spec)
	listed, ok := s.find(t, spec.ID)
	if !ok || listed.State != runtime.StateRunning || listed.PID != inst.PID {
		t.Fatalf("list shows %+v, want %+v", listed, inst)
	}
	if listed.StartedAt.Before(before.Add(-time.Second)) || listed.StartedAt.After(time.Now().Add(time.Second)) {
		t.Errorf("started at %v, want about %v", listed.StartedAt, before)
	}
	for k, v := range spec.Labels {
		if listed.Labels[k] != v {
			t.Errorf("label %s is %q, want %q", k, listed.Labels[k], v)
		}
	}
	if listed.Exit != nil {
		t.Errorf("a running instance has an exit: %+v", listed.Exit)
	}
}

func testIdempotent(t *testing.T, s suite) {
	spec := s.spec("again", Program{})
	first := s.ensure(t, spec)
	for range 3 {
		if again := s.ensure(t, spec); again.PID != first.PID {
			t.Fatalf("pid %d became %d: it was restarted", first.PID, again.PID)
		}
	}
}

func testAdopt(t *testing.T, s suite) {
	spec := s.spec("adopt", Program{})
	first := s.ensure(t, spec)
	next := s.Restarted(t)
	all, err := next.List(t.Context())
	if err != nil || len(all) == 0 {
		t.Fatalf("a restarted agent sees %v, %v", all, err)
	}
	inst, err := next.Ensure(t.Context(), spec)
	if err != nil || inst.PID != first.PID {
		t.Fatalf("a restarted agent got %+v, %v; want pid %d untouched", inst, err, first.PID)
	}
}

// The generation of a running container may change without its digest; what
// was counted must not be lost by that.
func testAdoptLabels(t *testing.T, s suite) {
	spec := s.spec("adopt-labels", Program{})
	first := s.ensure(t, spec)
	if err := s.Runtime().SetLabels(t.Context(), spec.ID, map[string]string{runtime.LabelRestarts: "4"}); err != nil {
		t.Fatal(err)
	}
	spec.Labels[runtime.LabelGeneration] = "2"
	spec.Labels[runtime.LabelRestarts] = "0"
	if again := s.ensure(t, spec); again.PID != first.PID {
		t.Fatal("a new generation of the same digest restarted it")
	}
	got, _ := s.find(t, spec.ID)
	if got.Labels[runtime.LabelGeneration] != "2" || got.Labels[runtime.LabelRestarts] != "4" {
		t.Fatalf("labels %v, want generation 2 and restarts 4", got.Labels)
	}
}

func testReplace(t *testing.T, s suite) {
	spec := s.spec("replace", Program{})
	first := s.ensure(t, spec)
	spec.Labels[runtime.LabelDigest] = "digest-2"
	second := s.ensure(t, spec)
	if second.PID == first.PID {
		t.Fatal("the old instance still runs")
	}
	got, _ := s.find(t, spec.ID)
	if got.Labels[runtime.LabelDigest] != "digest-2" {
		t.Fatalf("digest %q after the change", got.Labels[runtime.LabelDigest])
	}
}

func testCounters(t *testing.T, s suite) {
	spec := s.spec("counters", Program{})
	s.ensure(t, spec)
	if err := s.Runtime().SetLabels(t.Context(), spec.ID, map[string]string{runtime.LabelRestarts: "7"}); err != nil {
		t.Fatal(err)
	}
	s.Kill(t, spec.ID)
	until(t, "the exit is seen", func() bool { i, _ := s.find(t, spec.ID); return i.State == runtime.StateStopped })
	s.ensure(t, spec)
	got, _ := s.find(t, spec.ID)
	if got.Labels[runtime.LabelRestarts] != "7" || got.Labels[runtime.LabelExit] == "" {
		t.Fatalf("labels after a restart: %v; want restarts 7 and the last exit", got.Labels)
	}
	spec.Labels[runtime.LabelDigest] = "digest-2"
	s.ensure(t, spec)
	if got, _ := s.find(t, spec.ID); got.Labels[runtime.LabelRestarts] != "" {
		t.Fatalf("another digest inherited restarts %q", got.Labels[runtime.LabelRestarts])
	}
}

// Different ids at once, and the same id from several callers: one each.
func testConcurrent(t *testing.T, s suite) {
	var wg sync.WaitGroup
	for n := range 12 {
		spec := s.spec(fmt.Sprintf("many-%d", n%6), Program{})
		wg.Go(func() {
			if _, err := s.Runtime().Ensure(t.Context(), spec); err != nil {
				t.Errorf("ensure %s: %v", spec.ID, err)
			}
		})
	}
	wg.Wait()
	for n := range 6 {
		id := fmt.Sprintf("many-%d", n)
		until(t, "one copy of "+id, func() bool { return s.Copies(t, id) == 1 })
		wg.Go(func() {
			if err := s.Runtime().Remove(t.Context(), id); err != nil {
				t.Errorf("remove %s: %v", id, err)
			}
		})
	}
	wg.Wait()
}

// What cannot be replaced is not stopped.
func testNoImage(t *testing.T, s suite) {
	spec := s.spec("no-image", Program{})
	first := s.ensure(t, spec)
	next := spec
	next.Labels = maps.Clone(spec.Labels)
	next.Labels[runtime.LabelDigest] = "digest-2"
	next.Image, next.Digest = "agentd.test/absent:1", ""
	if _, err := s.Runtime().Ensure(t.Context(), next); !errors.Is(err, runtime.ErrImage) {
		t.Fatalf("ensure without an image: %v, want ErrImage", err)
	}
	if again := s.ensure(t, spec); again.PID != first.PID {
		t.Fatal("the old instance was stopped for one that cannot start")
	}
}

func testForeign(t *testing.T, s suite) {
	spec := s.spec("foreign", Program{})
	untouched := s.Foreign(t, spec.ID)
	r := s.Runtime()
	_, err := r.Ensure(t.Context(), spec)
	_, serr := r.Stop(t.Context(), spec.ID, time.Second)
	for what, err := range map[string]error{
		"ensure": err, "stop": serr,
		"remove":     r.Remove(t.Context(), spec.ID),
		"set labels": r.SetLabels(t.Context(), spec.ID, map[string]string{runtime.LabelDaemon: "x"}),
	} {
		if !errors.Is(err, runtime.ErrForeign) {
			t.Errorf("%s: %v, want ErrForeign", what, err)
		}
	}
	if _, ok := s.find(t, spec.ID); ok {
		t.Error("a foreign container is listed")
	}
	if !untouched() {
		t.Error("the foreign container was touched")
	}
}

func testHalf(t *testing.T, s suite, half Half, then string) {
	spec := s.spec("half", Program{})
	r := s.Runtime()
	if err := r.Remove(t.Context(), spec.ID); err != nil {
		t.Fatalf("clean start: %v", err)
	}
	s.Halve(t, spec, half)
	pid := 0
	if i, ok := s.find(t, spec.ID); ok {
		pid = i.PID
	}
	start := time.Now()
	switch then {
	case "ensure":
		inst := s.ensure(t, spec)
		if half == Paused && inst.PID != pid {
			t.Error("a paused container was restarted, not resumed")
		}
	case "ensure changed":
		spec.Labels[runtime.LabelDigest] = "digest-2"
		s.ensure(t, spec)
	case "remove":
		if err := r.Remove(t.Context(), spec.ID); err != nil {
			t.Fatalf("remove: %v", err)
		}
		if n := s.Copies(t, spec.ID); n != 0 {
			t.Fatalf("%d copies live after remove", n)
		}
		s.ensure(t, spec) // and nothing stands in the way of a new one
	}
	t.Logf("converged in %v", time.Since(start))
	if err := r.Remove(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if n := s.Copies(t, spec.ID); n != 0 {
		t.Fatalf("%d copies live at the end", n)
	}
}

// Calls whose context ends at any moment leave nothing that the next call
// cannot deal with, and never two instances.
func testCancelled(t *testing.T, s suite) {
	rng := rand.New(rand.NewPCG(1, 2))
	spec := s.spec("cancelled", Program{})
	r := s.Runtime()
	for n := range s.h.Cycles {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(80_000))*time.Microsecond)
		switch n % 4 {
		case 0, 1:
			_, _ = r.Ensure(ctx, spec)
		case 2:
			_, _ = r.Stop(ctx, spec.ID, time.Second)
		case 3:
			_ = r.Remove(ctx, spec.ID)
		}
		cancel()
		if c := s.Copies(t, spec.ID); c > 1 {
			t.Fatalf("cycle %d: %d copies", n, c)
		}
	}
	s.ensure(t, spec)
	if err := r.Remove(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
}
