package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// conformance: C2
func TestBackoffProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := Backoff{
			Base: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(rt, "base")),
			Max:  time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(rt, "max")),
			Free: rapid.IntRange(0, 3).Draw(rt, "free"),
		}
		n := rapid.IntRange(-1, 200).Draw(rt, "n")
		seed := rapid.String().Draw(rt, "seed")
		d := b.Delay(n, seed)
		if d != b.Delay(n, seed) {
			rt.Fatal("the same attempt waits differently")
		}
		if n <= b.Free {
			if d != 0 {
				rt.Fatalf("attempt %d waits %v", n, d)
			}
			return
		}
		full := float64(b.Base)
		for i := 1; i < n-b.Free && full < float64(b.Max); i++ {
			full *= 2
		}
		full = min(full, float64(b.Max))
		if low := full*(1-jitter) - 1; float64(d) < low || float64(d) > full {
			rt.Fatalf("attempt %d waits %v, want %v less at most %v", n, d, time.Duration(full), jitter)
		}
	})
}

// Different nodes draw different delays.
func TestJitterSpreads(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 100 {
		seen[pullBackoff.Delay(5, fmt.Sprintf("node-%d/web", i))] = true
	}
	if len(seen) < 50 {
		t.Fatalf("only %d different delays for 100 nodes", len(seen))
	}
}

func TestRender(t *testing.T) {
	d := Desired{Daemon: spec.Daemon{
		Name: "web", Image: "web:v1", Args: []string{"-x"}, Command: []string{"/bin/web"}, Env: map[string]string{"B": "2", "A": "1"},
		User: "65534", WorkingDir: "/srv", PID: spec.NamespaceHost, ReadOnly: true,
		Capabilities: spec.Capabilities{Add: []string{"net_admin"}, Drop: []string{"ALL"}}, Devices: []string{"/dev/fuse"},
		Mounts: []spec.Mount{
			{Source: "/link", Target: "/host", Options: []string{"ro", "rslave"}},
			{Volume: "data", Target: "/data"},
			{Tmpfs: true, Target: "/tmp", Size: 64 << 20},
		},
		Files:     []spec.File{{Target: "/etc/x", Content: "hi", Mode: "0400"}},
		Resources: spec.Resources{CPU: 0.5, Memory: 1 << 20, Ulimits: map[string]int64{"nofile": 9}},
	}.WithDefaults(), Digest: "0123456789abcdef0123", Generation: 5, Revision: 2}
	got := Render(d, Host{Node: "n1", DataDir: "/var/lib/agentd", LogPath: "/l",
		Resolve: func(p string) string { return "/real" + p },
		Masks: func(m spec.Mount) []string {
			if m.Source == "/link" {
				return []string{m.Target + "/etc/agentd"}
			}
			return nil
		}})
	file := "/var/lib/agentd/files/web/0123456789abcdef/0"
	wantSpec := runtime.Spec{
		ID: "web", Image: "web:v1", Args: []string{"-x"}, Command: []string{"/bin/web"}, Env: []string{"A=1", "B=2"},
		User: "65534", WorkingDir: "/srv", Hostname: "n1", HostNetwork: true, HostPID: true, ReadOnly: true,
		CapAdd: []string{"CAP_NET_ADMIN"}, CapDrop: []string{"ALL"}, Devices: []string{"/dev/fuse"},
		Mounts: []runtime.Mount{
			{Type: "bind", Source: "/real/link", Target: "/host", Options: []string{"rbind", "ro", "rslave"}},
			{Type: "tmpfs", Source: "tmpfs", Target: "/host/etc/agentd", Options: []string{"ro", "nosuid", "nodev", "noexec", "mode=0555", "size=4k"}},
			{Type: "bind", Source: "/var/lib/agentd/volumes/data", Target: "/data", Options: []string{"rbind", "rw", "rprivate"}},
			{Type: "tmpfs", Source: "tmpfs", Target: "/tmp", Options: []string{"rw", "nosuid", "nodev", "size=67108864"}},
			{Type: "bind", Source: file, Target: "/etc/x", Options: []string{"bind", "ro", "rprivate"}},
		},
		Resources:  runtime.Resources{CPU: 0.5, Memory: 1 << 20, Ulimits: map[string]int64{"nofile": 9}},
		StopSignal: "SIGTERM", StopGrace: 30 * time.Second, LogPath: "/l",
		Labels: map[string]string{
			runtime.LabelDaemon: "web", runtime.LabelDigest: d.Digest, runtime.LabelGeneration: "5", runtime.LabelRevision: "2",
			runtime.LabelNode: "n1", runtime.LabelStopSignal: "SIGTERM", runtime.LabelStopGrace: "30s", labelSource: d.Digest,
		},
	}
	if !reflect.DeepEqual(got.Spec, wantSpec) {
		t.Errorf("spec is\n%+v\nwant\n%+v", got.Spec, wantSpec)
	}
	if want := []HostFile{{file, 0o400, []byte("hi")}}; !reflect.DeepEqual(got.Files, want) {
		t.Errorf("files are %+v", got.Files)
	}
	if want := []HostDir{{"/var/lib/agentd/volumes/data", 65534, 65534}}; !reflect.DeepEqual(got.Volumes, want) {
		t.Errorf("volumes are %+v", got.Volumes)
	}
	if want := []string{"/real/link"}; !reflect.DeepEqual(got.Sources, want) {
		t.Errorf("sources are %+v", got.Sources)
	}
}

// A mount of the whole host shows nothing of agentd's own.
func TestRenderMasksByPolicy(t *testing.T) {
	root := t.TempDir()
	own := filepath.Join(root, "var", "agentd")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(config.Default().Policy, own)
	if err != nil {
		t.Fatal(err)
	}
	d := want("web", 1, func(d *spec.Daemon) {
		d.Mounts = []spec.Mount{{Source: root, Target: "/host", Options: []string{"ro"}}}
	})
	got := Render(d, Host{Resolve: p.Resolve, Masks: p.MountMasks})
	if n := len(got.Spec.Mounts); n != 2 || got.Spec.Mounts[1].Target != "/host/var/agentd" || got.Spec.Mounts[1].Type != "tmpfs" {
		t.Fatalf("mounts are %+v", got.Spec.Mounts)
	}
}

// What was started last survives in a file; a broken one is as good as none.
func TestCurrentFile(t *testing.T) {
	dir := t.TempDir()
	d := want("web", 3, func(d *spec.Daemon) { d.Args = []string{"-v"} })
	if err := writeCurrent(dir, d, "sha256:1"); err != nil {
		t.Fatal(err)
	}
	got := readCurrent(dir, "web")
	if got == nil || got.Digest != d.Digest || got.Revision != 3 || got.ImageDigest != "sha256:1" || got.Daemon.Digest() != d.Digest {
		t.Fatalf("got %+v", got)
	}
	b, err := os.ReadFile(currentPath(dir, "web"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range b {
		if err := os.WriteFile(currentPath(dir, "web"), b[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readCurrent(dir, "web"); got != nil {
			t.Fatalf("%d of %d bytes were taken for whole", cut, len(b))
		}
	}
	if err := dropCurrent(dir, "web"); err != nil || readCurrent(dir, "web") != nil {
		t.Fatal("not dropped")
	}
}

// Whatever is on the disk or in a container's labels, reading it ends, and what
// is taken for whole is what was written.
func FuzzLocalState(f *testing.F) {
	f.Add([]byte(`{"spec":{"schema":1,"name":"web","image":"web:v1"},"digest":"x","revision":1}`), "3")
	f.Add([]byte(`{"code":137,"at":"2026-01-02T03:04:05Z","known":true}`), "-1")
	f.Fuzz(func(t *testing.T, b []byte, count string) {
		if d := decodeCurrent(b, "web"); d != nil && (d.Daemon.Name != "web" || d.Daemon.Digest() != d.Digest) {
			t.Fatalf("took %+v", d)
		}
		labels := map[string]string{
			runtime.LabelExit: string(b), runtime.LabelRestarts: count, labelStreak: count, runtime.LabelWindow: count, runtime.LabelStopGrace: count,
		}
		if c := countsOf(labels); c.Restarts < 0 || c.Streak < 0 {
			t.Fatalf("counts %+v", c)
		}
		inst := runtime.Instance{ID: "web", State: runtime.StateStopped, Labels: labels}
		h := History{}.Observe(&inst, time.Now())
		d := want("web", 1)
		if r := Plan(Input{Name: "web", Desired: &d, Actual: []runtime.Instance{inst}, History: h, Now: time.Now()}); r.Reason == "" {
			t.Fatal("no reason")
		}
	})
}

// conformance: F5
func TestLock(t *testing.T) {
	locks, a, b := t.TempDir(), t.TempDir(), t.TempDir()
	sock := filepath.Join(t.TempDir(), "containerd.sock")
	if err := os.WriteFile(sock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := sock + ".link"
	if err := os.Symlink(sock, link); err != nil {
		t.Fatal(err)
	}
	first, err := lockIn(locks, a, sock, "agentd")
	if err != nil {
		t.Fatal(err)
	}
	holder := fmt.Sprintf("(pid %d)", os.Getpid())
	for name, try := range map[string]func() (*NodeLock, error){
		"the same state":                       func() (*NodeLock, error) { return lockIn(locks, a, sock, "other") },
		"the same namespace, other state":      func() (*NodeLock, error) { return lockIn(locks, b, sock, "agentd") },
		"the same socket under another name":   func() (*NodeLock, error) { return lockIn(locks, b, "unix://"+link, "agentd") },
		"the same of both, which is the usual": func() (*NodeLock, error) { return lockIn(locks, a, sock, "agentd") },
	} {
		if l, err := try(); err == nil || !strings.Contains(err.Error(), holder) || l != nil {
			t.Errorf("%s: lock %v, error %v; want one that names %s", name, l, err, holder)
		}
	}
	// A refused one leaves no lock of its own behind.
	second, err := lockIn(locks, b, sock, "two")
	if err != nil {
		t.Fatal(err)
	}
	second.Unlock()
	first.Unlock()
	again, err := lockIn(locks, a, sock, "agentd")
	if err != nil {
		t.Fatal(err)
	}
	again.Unlock()
}

func TestExitWords(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		exit runtime.Exit
		away bool
		want string
	}{
		{runtime.Exit{Code: 0, Known: true, At: at}, false, "exited with code 0 at 03:04:05Z"},
		{runtime.Exit{Code: 1, Known: true}, true, "exited with code 1 while agentd was away"},
		{runtime.Exit{Code: 137, Known: true}, false, "ended by SIGKILL (exit code 137)"},
		{runtime.Exit{Code: 137, Known: true, OOM: true}, false, "killed by the kernel: out of memory (exit code 137)"},
		{runtime.Exit{Code: 255, Known: true}, false, "exited with code 255"},
		{runtime.Exit{Code: 255}, false, "ended with unknown exit code"},
	}
	for _, tt := range tests {
		if got := exitWords(tt.exit, tt.away); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.exit, got, tt.want)
		}
	}
}
