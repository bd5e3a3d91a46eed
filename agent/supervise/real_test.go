package supervise

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/containerd"
	"github.com/agentd/agentd/spec"
)

// real is a containerd of the test's own that has the test images.
type real struct {
	t       *testing.T
	ctx     context.Context
	server  *lab.Containerd
	dir, ns string
	log     *slog.Logger
	runtime runtime.Runtime
}

func newReal(t *testing.T) *real {
	t.Helper()
	server := lab.TestContainerd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	r := &real{t: t, ctx: ctx, server: server, dir: lab.TestDir(t), ns: lab.TestNamespace(), log: slog.New(slog.NewTextHandler(logTo{t}, nil))}
	archive := filepath.Join(r.dir, "images.tar")
	if _, err := lab.TestImage(ctx, archive); err != nil {
		t.Fatal(err)
	}
	if err := server.Import(ctx, r.ns, archive); err != nil {
		t.Fatal(err)
	}
	rt, err := containerd.New(containerd.Config{
		Address: server.Address, Namespace: r.ns, Node: "n1", StateDir: filepath.Join(server.Dir, "state"), Log: r.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close() })
	r.runtime = rt
	return r
}

// begin starts a supervisor with its data in a folder; change may be nil. What
// it returns ends it, once.
func (r *real) begin(data string, change func(*Config)) (*Supervisor, func()) {
	cfg := Config{
		Node: spec.Node{Name: "n1"}, Runtime: r.runtime, DataDir: data, Log: r.log, Relist: time.Second,
		LogPath: func(d string) string { return filepath.Join(data, "logs", d+".log") },
	}
	if change != nil {
		change(&cfg)
	}
	s := New(cfg)
	ctx, stop := context.WithCancel(r.ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		stop()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

// logTo sends a supervisor's log to the test's.
type logTo struct{ tb testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	l.tb.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// until waits for a report that ok accepts.
func until(t *testing.T, s *Supervisor, name, what string, ok func(Report) bool) Report {
	t.Helper()
	var last Report
	err := lab.Within(t.Context(), 20*time.Second, func(context.Context) error {
		for _, r := range s.Reports() {
			if last = r; r.Name == name && ok(r) {
				return nil
			}
		}
		return fmt.Errorf("not %s: %+v", what, last)
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}
