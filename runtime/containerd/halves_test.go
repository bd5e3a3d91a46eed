package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/bundle"
	"github.com/agentd/agentd/runtime/runtimetest"
)

func (e *env) Halve(t *testing.T, s runtime.Spec, h runtimetest.Half) {
	t.Helper()
	if _, err := e.r.Ensure(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	switch h {
	case runtimetest.NoTask:
		e.dropTask(t, s.ID)
	case runtimetest.Created:
		e.dropTask(t, s.ID)
		if err := e.createTask(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	case runtimetest.Stopped:
		e.Kill(t, s.ID)
		e.await(t, "stopped", func() bool { i := e.get(t, s.ID); return i.State == runtime.StateStopped })
	case runtimetest.Paused:
		if _, err := e.r.tasks().Pause(t.Context(), &tasks.PauseTaskRequest{ContainerID: s.ID}); err != nil {
			t.Fatal(err)
		}
	case runtimetest.SnapshotGone:
		e.dropTask(t, s.ID)
		if err := e.r.snapshots().Remove(t.Context(), snapshotKey(s.ID)); err != nil {
			t.Fatal(err)
		}
	case runtimetest.Wedged:
		e.wedge(t, s)
	case runtimetest.ShimKilled:
		shims, err := e.r.shims(s.ID)
		if err != nil || len(shims) != 1 {
			t.Fatalf("shims %v, %v", shims, err)
		}
		if err := syscall.Kill(shims[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	case runtimetest.Stray:
		e.dropTask(t, s.ID)
		e.stray(t, s.ID)
	case runtimetest.Bundle:
		e.dropTask(t, s.ID)
		dir := filepath.Join(e.cfg.StateDir, bundle.Part, e.ns, s.ID)
		if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o711); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("unknown half-state %q", h)
	}
}

func (e *env) get(t *testing.T, id string) runtime.Instance {
	t.Helper()
	all, err := e.r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.ID == id {
			return i
		}
	}
	return runtime.Instance{}
}

func (e *env) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	err := lab.Within(t.Context(), 20*time.Second, func(context.Context) error {
		if cond() {
			return nil
		}
		return errors.New("not " + what)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dropTask takes the task away and leaves the record.
func (e *env) dropTask(t *testing.T, id string) {
	t.Helper()
	ctx := t.Context()
	if _, err := e.r.tasks().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(syscall.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.r.tasks().Wait(ctx, &tasks.WaitRequest{ContainerID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id}); err != nil {
		t.Fatal(err)
	}
}

// createTask makes a task of the container that is there, without starting it.
func (e *env) createTask(ctx context.Context, s runtime.Spec) error {
	mounts, err := e.r.snapshots().Mounts(ctx, snapshotKey(s.ID))
	if err != nil {
		return err
	}
	req := &tasks.CreateTaskRequest{ContainerID: s.ID}
	for _, m := range mounts {
		req.Rootfs = append(req.Rootfs, &types.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	}
	_, err = e.r.tasks().Create(ctx, req)
	return err
}

// wedge cancels deletes until containerd holds a task that it does not show.
func (e *env) wedge(t *testing.T, s runtime.Spec) {
	t.Helper()
	for cycle := range 200 {
		if _, err := e.r.tasks().Kill(t.Context(), &tasks.KillRequest{ContainerID: s.ID, Signal: uint32(syscall.SIGKILL)}); err != nil && !errdefs.IsNotFound(translate(err)) {
			t.Fatal(err)
		}
		if _, err := e.r.tasks().Wait(t.Context(), &tasks.WaitRequest{ContainerID: s.ID}); err != nil && !errdefs.IsNotFound(translate(err)) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+cycle%15)*time.Millisecond)
		_, _ = e.r.tasks().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: s.ID})
		cancel()
		time.Sleep(100 * time.Millisecond)
		if p, err := e.r.process(t.Context(), s.ID); err != nil || p != nil {
			continue // not deleted yet
		}
		err := e.createTask(t.Context(), s)
		if err == nil {
			continue
		}
		if err = translate(err); errdefs.IsAlreadyExists(err) || strings.Contains(err.Error(), "file exists") {
			t.Logf("wedged after %d cycles: %v", cycle+1, err)
			return
		}
		t.Logf("not wedged, but: %v", err)
	}
	t.Fatal("200 cancelled deletes did not wedge it")
}

// stray puts a process into the cgroup of a container that is gone.
func (e *env) stray(t *testing.T, id string) {
	t.Helper()
	proc, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{Env: []string{e.mark(id)}})
	if err != nil {
		t.Fatal(err)
	}
	go proc.Wait() //nolint:errcheck // it is killed
	for _, dir := range e.r.cgroupDirs(id) {
		if !strings.Contains(dir, "/pids/") && !e.r.cgroups.unified {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(proc.Pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
