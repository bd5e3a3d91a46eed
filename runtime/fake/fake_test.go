package fake_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
)

func testSpec(id string) runtime.Spec {
	return runtime.Spec{ID: id, Image: "img", StopGrace: time.Second, Labels: map[string]string{
		runtime.LabelDaemon: id, runtime.LabelDigest: "d1",
	}}
}

// A test may ask for a failure once, and the call after it succeeds.
func TestFailNext(t *testing.T) {
	r := fake.New(fake.Config{})
	r.Import("img", "sha256:1")
	boom := errors.New("boom")
	r.FailNextOf(fake.OpEnsure, "b", boom)
	if _, err := r.Ensure(t.Context(), testSpec("a")); err != nil {
		t.Fatalf("the failure meant for b hit a: %v", err)
	}
	if _, err := r.Ensure(t.Context(), testSpec("b")); !errors.Is(err, boom) {
		t.Fatalf("got %v, want the injected failure", err)
	}
	if _, err := r.Ensure(t.Context(), testSpec("b")); err != nil {
		t.Fatalf("the failure was not used up: %v", err)
	}
}

// An outage answers ErrUnavailable, hides an exit from Wait while it lasts, and
// never ends a container.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := fake.New(fake.Config{})
		r.Import("img", "sha256:1")
		if _, err := r.Ensure(t.Context(), testSpec("a")); err != nil {
			t.Fatal(err)
		}
		r.SetUnavailable(true)
		if _, err := r.List(t.Context()); !errors.Is(err, runtime.ErrUnavailable) {
			t.Fatalf("list: %v", err)
		}
		got := make(chan runtime.Exit, 1)
		go func() {
			e, err := r.Wait(t.Context(), "a")
			if err != nil {
				t.Error(err)
			}
			got <- e
		}()
		synctest.Wait()
		r.Crash("a", 7)
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("Wait answered during the outage")
		default:
		}
		r.SetUnavailable(false)
		if e := <-got; e.Code != 7 || !e.Known {
			t.Fatalf("exit %+v", e)
		}
	})
}

// A cancelled Ensure returns at once; the start goes on and is seen later.
func TestCancelledEnsure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := fake.New(fake.Config{StartLatency: time.Second})
		r.Import("img", "sha256:1")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.Ensure(ctx, testSpec("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if n := len(r.Running()); n != 0 {
			t.Fatalf("%d running before the latency passed", n)
		}
		time.Sleep(2 * time.Second)
		if n := r.Starts("a"); n != 1 || len(r.Running()) != 1 {
			t.Fatalf("%d starts, running %v", n, r.Running())
		}
	})
}

// Count sees both ids of a daemon during a surge.
func TestCount(t *testing.T) {
	r := fake.New(fake.Config{})
	r.Import("img", "sha256:1")
	next := testSpec("a")
	next.ID = "a.next"
	for _, s := range []runtime.Spec{testSpec("a"), next} {
		if _, err := r.Ensure(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if n := r.Count("a"); n != 2 {
		t.Fatalf("counted %d, want 2", n)
	}
}
