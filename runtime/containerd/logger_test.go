package containerd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/logger"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// loggerProgram builds agentd-log once.
var loggerProgram = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(shared.dir, logger.Program)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", bin, "github.com/agentd/agentd/cmd/agentd-log")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the logger: %w: %s", err, out)
	}
	return bin, nil
})

// logged is a container that runs script, with a logger of its own.
func (e *env) logged(t testing.TB, id string, o logger.Options, script string) runtime.Spec {
	t.Helper()
	bin, err := loggerProgram()
	if err != nil {
		t.Fatal(err)
	}
	s := e.shellSpec(id)
	s.LogPath = ""
	o.Daemon = id
	if s.LogURI, err = o.URI(bin); err != nil {
		t.Fatal(err)
	}
	s.Command = sh("trap 'echo bye; exit 0' TERM\n" + script + "\nwhile :; do sleep 0.05; done")
	return s
}

func (e *env) up(t *testing.T, s runtime.Spec) runtime.Instance {
	t.Helper()
	inst, err := e.r.Ensure(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return inst
}

// loggers counts the living loggers of this test's containers.
func (e *env) loggers(t *testing.T) int {
	t.Helper()
	procs, err := lab.Procs()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range procs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		if err == nil && p.Base() == logger.Program && strings.Contains(string(b), "CONTAINER_NAMESPACE="+e.ns+"\x00") {
			n++
		}
	}
	return n
}

func (e *env) awaitLoggers(t *testing.T, want int) {
	t.Helper()
	e.await(t, fmt.Sprintf("%d loggers", want), func() bool { return e.loggers(t) == want })
}

func (e *env) contains(path, text string) func() bool {
	return func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(b), text)
	}
}

// A logger lives exactly as long as its container: through restarts of the
// agent and of containerd, and never longer, however the container ends.
//
// conformance: F1 F2 E6
func TestLoggerLife(t *testing.T) {
	e := newEnv(t)
	path := filepath.Join(e.dir, "logs", "d.log")
	s := e.logged(t, "logged", logger.Options{Sink: logger.SinkFile, Path: path}, "echo up; while :; do echo tick; echo tock >&2; sleep 0.02; done")
	inst := e.up(t, s)
	e.await(t, "both streams", func() bool {
		return e.contains(path, " stdout F tick\n")() && e.contains(path, " stderr F tock\n")()
	})
	e.awaitLoggers(t, 1)

	if err := e.r.Close(); err != nil { // the agent is away
		t.Fatal(err)
	}
	e.Outage(t, func() { // and so is containerd
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		e.await(t, "it logs on its own", e.contains(path, " stdout F tick\n"))
	})
	e.r = e.open(t)
	if again := e.up(t, s); again.PID != inst.PID {
		t.Fatal("it was restarted")
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	e.await(t, "it logs after the restarts", e.contains(path, " stdout F tick\n"))
	e.awaitLoggers(t, 1)

	for range 5 { // killed and started again
		e.Kill(t, s.ID)
		e.await(t, "the exit", func() bool {
			all, err := e.r.List(t.Context())
			return err == nil && len(all) == 1 && all[0].State == runtime.StateStopped
		})
		e.up(t, s)
	}
	e.awaitLoggers(t, 1)
	s.Labels[runtime.LabelDigest] = "digest-2" // replaced
	e.up(t, s)
	e.awaitLoggers(t, 1)
	e.killShim(t, s.ID)
	e.up(t, s)
	e.awaitLoggers(t, 1)

	e.await(t, "up", e.contains(path, "up"))
	begin := time.Now()
	if _, err := e.r.Stop(t.Context(), s.ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %v", time.Since(begin))
	if !e.contains(path, " stdout F bye\n")() {
		t.Error("the last words are missing when Stop returns")
	}
	e.awaitLoggers(t, 0)
}

// killShim ends the shim of id with SIGKILL.
func (e *env) killShim(t *testing.T, id string) {
	t.Helper()
	procs, err := lab.Procs()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		line := strings.Join(p.Args, " ")
		if strings.HasPrefix(p.Base(), "containerd-shim") && strings.Contains(line, "-namespace "+e.ns+" ") && strings.Contains(line+" ", "-id "+id+" ") {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no shim of %s", id)
}

// Whatever is wrong with the sink, the container runs on, and its removal does
// not take long.
func TestLoggerNeverBlocks(t *testing.T) {
	e := newEnv(t)
	full := filepath.Join(e.dir, "full")
	if err := os.Mkdir(full, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", full, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(full, syscall.MNT_DETACH)
	deaf := filepath.Join(e.dir, "deaf")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: deaf, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, o := range map[string]logger.Options{
		"full":   {Sink: logger.SinkFile, Path: filepath.Join(full, "d.log"), Rate: -1},
		"absent": {Sink: logger.SinkJournald, Socket: filepath.Join(e.dir, "absent"), Rate: -1},
		"deaf":   {Sink: logger.SinkJournald, Socket: deaf, Rate: -1},
		"rate":   {Sink: logger.SinkFile, Path: filepath.Join(e.dir, "rate.log"), Rate: 10, Burst: 10},
	} {
		t.Run(name, func(t *testing.T) {
			done := filepath.Join(e.dir, "out-"+name)
			if err := os.Mkdir(done, 0o777); err != nil {
				t.Fatal(err)
			}
			s := e.logged(t, name, o, "seq 1 1000000; echo over >/out/over") // 6.9 MB
			s.Mounts = append(s.Mounts, runtime.Mount{Type: "bind", Source: done, Target: "/out", Options: []string{"rbind", "rw"}})
			e.up(t, s)
			e.await(t, "it gets past its output", e.contains(filepath.Join(done, "over"), "over"))
			if name == "rate" {
				e.await(t, "what was suppressed is told", e.contains(o.Path, "lines: more than 10 per second"))
			}
			begin := time.Now()
			if _, err := e.r.Stop(t.Context(), s.ID, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 6*time.Second {
				t.Errorf("the stop took %v", took)
			}
			e.awaitLoggers(t, 0)
		})
	}
}

// What cannot be logged is told before the old instance is stopped for it.
func TestLoggerMissing(t *testing.T) {
	e := newEnv(t)
	s := e.Spec("kept", runtimetest.Program{})
	s.ID = "kept"
	first := e.up(t, s)
	s.Labels[runtime.LabelDigest] = "digest-2"
	for uri, want := range map[string]string{
		"binary:///no/such/agentd-log?daemon=x": "no such file",
		"binary:///etc/passwd":                  "not a program",
		"syslog://somewhere/x":                  "absolute",
		"fifo:///x":                             "neither",
		"file://relative":                       "absolute",
	} {
		s.LogURI = uri
		if _, err := e.r.Ensure(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", uri, err, want)
		}
	}
	s.Labels[runtime.LabelDigest] = "digest-1"
	if again := e.up(t, s); again.PID != first.PID {
		t.Error("the old instance was stopped")
	}
}
