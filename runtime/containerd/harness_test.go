package containerd

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// The tests of this package share one private containerd; each has a namespace
// of its own in it, because runc's state and the cgroups go by namespace and id.
var shared struct {
	once   sync.Once
	err    error
	dir    string
	server *lab.Containerd
	images []lab.Image
}

var serverBinary = flag.String("containerd", "", "containerd to test against; its shim is looked for beside it")

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop containerd:", err)
			code = 1
		}
	}
	if shared.dir != "" {
		if err := os.RemoveAll(shared.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func startShared() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var err error
	if shared.dir, err = lab.TempDir("agtrt"); err != nil {
		return err
	}
	if shared.images, err = lab.TestImages(ctx); err != nil {
		return err
	}
	// The first image is imported by each test, the others can be pulled only.
	if err := lab.WriteArchive(filepath.Join(shared.dir, "testd.tar"), shared.images[0]); err != nil {
		return err
	}
	shared.server, err = lab.StartContainerd(ctx, lab.ContainerdConfig{
		Dir: filepath.Join(shared.dir, "c"), ID: filepath.Base(shared.dir), Binary: *serverBinary,
	})
	return err
}

// env is a namespace of its own in the shared containerd.
type env struct {
	tb     testing.TB
	server *lab.Containerd
	ns     string
	dir    string
	cfg    Config
	r      *Runtime
}

func newEnv(tb testing.TB) *env {
	tb.Helper()
	lab.Require(tb, "root", "containerd")
	shared.once.Do(func() { shared.err = startShared() })
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	e := &env{tb: tb, server: shared.server, ns: lab.TestNamespace(), dir: tb.TempDir()}
	if err := e.server.Import(tb.Context(), e.ns, filepath.Join(shared.dir, "testd.tar")); err != nil {
		tb.Fatal(err)
	}
	e.cfg = Config{
		Address: e.server.Address, Namespace: e.ns, Node: "node-1", StateDir: filepath.Join(e.server.Dir, "state"),
		RegistryDir: filepath.Join(e.dir, "certs.d"), Log: slog.New(slog.NewTextHandler(testWriter{tb}, nil)),
	}
	e.r = e.open(tb)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r, err := New(e.cfg)
		if err != nil {
			tb.Fatal(err)
		}
		defer r.Close() //nolint:errcheck // the calls before tell
		all, err := r.List(ctx)
		if err != nil {
			tb.Errorf("list what is left: %v", err)
		}
		for _, i := range all {
			if err := r.Remove(ctx, i.ID); err != nil {
				tb.Errorf("remove what is left: %v", err)
			}
		}
	})
	return e
}

type testWriter struct{ tb testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.tb.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

func (e *env) open(tb testing.TB) *Runtime {
	r, err := New(e.cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// serve starts a registry with the test images under other names.
func (e *env) serve(tb testing.TB) {
	tb.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0))))
	tb.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	ref, err := name.ParseReference(host+"/other:1", name.Insecure)
	if err != nil {
		tb.Fatal(err)
	}
	if err := remote.Write(ref, shared.images[1].Image, remote.WithContext(tb.Context())); err != nil {
		tb.Fatal(err)
	}
	e.hosts(tb, "agentd.test", srv.URL)
}

// hosts points a registry's name to an address, as hosts.toml does.
func (e *env) hosts(tb testing.TB, registry, url string) {
	tb.Helper()
	dir := filepath.Join(e.cfg.RegistryDir, registry)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	text := fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", url, url)
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	e := newEnv(t)
	e.serve(t)
	runtimetest.Run(t, runtimetest.Harness{New: func(*testing.T) runtimetest.Env { return e }, Cycles: 40})
}

func (e *env) Runtime() runtime.Runtime               { return e.r }
func (e *env) Restarted(t *testing.T) runtime.Runtime { return e.open(t) }
func (e *env) OtherImage() (ref, digest string) {
	return "agentd.test/other:1", shared.images[1].Digest
}

func (e *env) Argv(code int, d time.Duration) []string {
	return []string{"/testd", "--exit-code", strconv.Itoa(code), "--exit-after", d.String()}
}

// mark is in the environment of every process of a container.
func (e *env) mark(id string) string { return "AGENTD_TEST_COPY=" + e.ns + "/" + id }

func (e *env) Spec(id string, p runtimetest.Program) runtime.Spec {
	s := runtime.Spec{
		ID: id, Image: lab.TestImageRef, Args: []string{}, Env: []string{e.mark(id)},
		User: "0:0", HostNetwork: true, StopSignal: "SIGTERM", StopGrace: 5 * time.Second,
		LogPath: filepath.Join(e.dir, "logs", id+".log"),
		Labels: map[string]string{
			runtime.LabelNode: e.cfg.Node, runtime.LabelDaemon: id, runtime.LabelDigest: "digest-1",
		},
	}
	if p.Exits {
		s.Args = append(s.Args, "--exit-code", strconv.Itoa(p.Code), "--exit-after", p.After.String())
	}
	if p.IgnoreTerm {
		s.Args = append(s.Args, "--ignore-term")
	}
	if p.OOM {
		s.Args = append(s.Args, "--eat-memory", "200")
		s.Resources.Memory = 20 << 20
	}
	return s
}

// pids are the living processes of a container, by a look into /proc.
func (e *env) pids(tb testing.TB, id string) []int {
	tb.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		tb.Fatal(err)
	}
	var out []int
	for _, d := range entries {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", d.Name(), "environ"))
		if err == nil && bytes.Contains(append(b, 0), append([]byte(e.mark(id)), 0)) && alive(pid) {
			out = append(out, pid)
		}
	}
	return out
}

func (e *env) Copies(t *testing.T, id string) int { return len(e.pids(t, id)) }

// Settled waits until the program of the first instance says that it is up.
func (e *env) Settled(t *testing.T, id string) {
	t.Helper()
	e.await(t, "up", func() bool {
		b, err := os.ReadFile(filepath.Join(e.dir, "logs", id+".log"))
		return err == nil && bytes.Contains(b, []byte("started"))
	})
}

func (e *env) Kill(t *testing.T, id string) {
	var pids []int
	e.await(t, "one process of "+id, func() bool { pids = e.pids(t, id); return len(pids) == 1 })
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func (e *env) Foreign(t *testing.T, id string) func() bool {
	t.Helper()
	if err := e.server.Run(t.Context(), e.ns, lab.TestImageRef, id); err != nil {
		t.Fatal(err)
	}
	before, err := e.server.Container(t.Context(), e.ns, id)
	if err != nil || !before.Running() {
		t.Fatalf("foreign container: %+v, %v", before, err)
	}
	t.Cleanup(func() {
		if err := e.server.Remove(context.Background(), e.ns, id); err != nil {
			t.Error(err)
		}
	})
	return func() bool {
		now, err := e.server.Container(t.Context(), e.ns, id)
		return err == nil && now.Same(before) && now.Running()
	}
}

func (e *env) Outage(t *testing.T, f func()) {
	t.Helper()
	if err := e.server.Kill(); err != nil {
		t.Fatal(err)
	}
	f()
	if err := e.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}
