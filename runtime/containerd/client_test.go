package containerd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// Each usual reason why containerd does not answer has its own words.
func TestReadyExplains(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mute := filepath.Join(dir, "mute.sock")
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: mute, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for address, want := range map[string]string{
		filepath.Join(dir, "absent.sock"): "systemctl start containerd",
		plain:                             "not a socket",
		dead:                              "not running",
		mute:                              "does not answer",
	} {
		r, err := New(Config{Address: address, Node: "n"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		start := time.Now()
		err = r.Ready(ctx)
		cancel()
		if !errors.Is(err, runtime.ErrUnavailable) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v, want ErrUnavailable with the address", address, err)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", address, err, want)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: took %v", address, took)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A containerd that hangs blocks nobody beyond their context, and ends nothing.
func TestHungServer(t *testing.T) {
	e := newEnv(t)
	s := e.Spec("hung", runtimetest.Program{})
	inst := e.run(t, s)
	if err := e.server.Freeze(); err != nil {
		t.Fatal(err)
	}
	thawed := false
	defer func() {
		if !thawed {
			_ = e.server.Thaw()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	waited := make(chan error, 1)
	wctx, wcancel := context.WithCancel(t.Context())
	defer wcancel()
	go func() {
		_, err := e.r.Wait(wctx, s.ID)
		waited <- err
	}()
	start := time.Now()
	if err := e.r.Ready(ctx); !errors.Is(err, runtime.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	for what, call := range map[string]func() error{
		"list":   func() error { _, err := e.r.List(ctx); return err },
		"stop":   func() error { _, err := e.r.Stop(ctx, s.ID, time.Second); return err },
		"remove": func() error { return e.r.Remove(ctx, s.ID) },
		"exec":   func() error { _, err := e.r.Exec(ctx, s.ID, e.Argv(0, 0)); return err },
	} {
		if err := call(); err == nil {
			t.Errorf("%s succeeded", what)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v with a context of 1 s", took)
	}
	if err := e.server.Thaw(); err != nil {
		t.Fatal(err)
	}
	thawed = true
	if got := e.get(t, s.ID); got.State != runtime.StateRunning || got.PID != inst.PID {
		t.Fatalf("after the hang: %+v", got)
	}
	wcancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
}

// Leases that a killed agent left go at the next start; those of others stay.
func TestLeasesAreSwept(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	svc := e.r.client.LeasesService()
	for id, label := range map[string]string{"left": e.cfg.Node, "others": "node-2"} {
		if _, err := svc.Create(ctx, leases.WithID(id), leases.WithLabels(map[string]string{leaseLabel: label})); err != nil {
			t.Fatal(err)
		}
	}
	lctx, done, err := e.r.withLease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	own, _ := leases.FromContext(lctx)
	if err := e.r.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	left, err := svc.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, l := range left {
		ids = append(ids, l.ID)
	}
	if len(ids) != 2 || !strings.Contains(strings.Join(ids, " "), "others") || !strings.Contains(strings.Join(ids, " "), own) {
		t.Fatalf("leases after the sweep: %v, want others and the one in use", ids)
	}
	done()
	if err := svc.Delete(ctx, leases.Lease{ID: "others"}); err != nil {
		t.Fatal(err)
	}
}
