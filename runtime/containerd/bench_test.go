package containerd

import (
	"syscall"
	"testing"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/logger"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// BenchmarkEnsure: nothing → running, warm image. The floor is
// BenchmarkCtrRun, in a process of its own.
func BenchmarkEnsure(b *testing.B) {
	e := newEnv(b)
	s := e.Spec("bench", runtimetest.Program{})
	for b.Loop() {
		if _, err := e.r.Ensure(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := e.r.Remove(b.Context(), s.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkCtrRun is what `ctr run -d` takes for the same.
func BenchmarkCtrRun(b *testing.B) {
	e := newEnv(b)
	for b.Loop() {
		if err := e.server.Run(b.Context(), e.ns, lab.TestImageRef, "bench"); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := e.server.Remove(b.Context(), e.ns, "bench"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkRestart: SIGKILL of init → running again.
func BenchmarkRestart(b *testing.B) {
	e := newEnv(b)
	e.benchRestart(b, e.Spec("bench", runtimetest.Program{}))
}

// BenchmarkRestartLogger is the same with a logger, which has to end and to
// start as well.
func BenchmarkRestartLogger(b *testing.B) {
	e := newEnv(b)
	bin, err := loggerProgram()
	if err != nil {
		b.Fatal(err)
	}
	s := e.Spec("bench", runtimetest.Program{})
	s.LogURI, err = logger.Options{Daemon: "bench", Sink: logger.SinkFile, Path: s.LogPath}.URI(bin)
	if err != nil {
		b.Fatal(err)
	}
	e.benchRestart(b, s)
}

func (e *env) benchRestart(b *testing.B, s runtime.Spec) {
	b.Helper()
	inst, err := e.r.Ensure(b.Context(), s)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := syscall.Kill(inst.PID, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		if _, err := e.r.Wait(b.Context(), s.ID); err != nil {
			b.Fatal(err)
		}
		if inst, err = e.r.Ensure(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdopt: Ensure of what runs already, the usual case of a relist.
func BenchmarkAdopt(b *testing.B) {
	e := newEnv(b)
	s := e.Spec("bench", runtimetest.Program{})
	for b.Loop() {
		if _, err := e.r.Ensure(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	e := newEnv(b)
	for _, id := range []string{"a", "b", "c", "d"} {
		if _, err := e.r.Ensure(b.Context(), e.Spec(id, runtimetest.Program{})); err != nil {
			b.Fatal(err)
		}
	}
	var all []runtime.Instance
	for b.Loop() {
		var err error
		if all, err = e.r.List(b.Context()); err != nil || len(all) != 4 {
			b.Fatal(all, err)
		}
	}
}
