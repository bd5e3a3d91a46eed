package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
)

func testExecStream(t *testing.T, s suite) {
	spec := s.spec("exec-stream", Program{})
	r := s.Runtime()
	if _, err := r.ExecStream(t.Context(), spec.ID, runtime.ExecOptions{Argv: s.Argv(0, 0)}); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("exec in nothing: %v, want ErrNotFound", err)
	}
	inst := s.ensure(t, spec)
	for _, code := range []int{0, 3} {
		var stdout, stderr bytes.Buffer
		got, err := r.ExecStream(t.Context(), spec.ID, runtime.ExecOptions{
			Argv: s.Argv(code, 10*time.Millisecond), Stdin: strings.NewReader("nobody reads this"), Stdout: &stdout, Stderr: &stderr,
		})
		if err != nil || got != code {
			t.Fatalf("exec answers %d, %v; want %d; it said %q", got, err, code, stderr.String())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := r.ExecStream(ctx, spec.ID, runtime.ExecOptions{Argv: s.Argv(0, time.Hour)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("an exec that hangs: %v, want DeadlineExceeded", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Fatalf("its end took %v", took)
	}
	until(t, "the exec is killed", func() bool { return s.Copies(t, spec.ID) == 1 })
	if again := s.ensure(t, spec); again.PID != inst.PID {
		t.Fatal("the container did not survive")
	}
}

func testStats(t *testing.T, s suite) {
	spec := s.spec("stats", Program{})
	r := s.Runtime()
	if _, err := r.Stats(t.Context(), spec.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("stats of nothing: %v, want ErrNotFound", err)
	}
	s.ensure(t, spec)
	got, err := r.Stats(t.Context(), spec.ID)
	if err != nil || got.Pids == 0 || time.Since(got.At).Abs() > time.Minute {
		t.Fatalf("stats: %+v, %v", got, err)
	}
	if _, err := r.Stop(t.Context(), spec.ID, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Stats(t.Context(), spec.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("stats of what was stopped: %v, want ErrNotFound", err)
	}
}
