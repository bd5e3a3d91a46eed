package containerd

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/bundle"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// A containerd that is killed while it deletes a bundle leaves it under a hidden
// name, and can delete no bundle of that id from then on: every restart would
// find the one before in its way.
//
// conformance: E6
func TestHalfDeletedBundle(t *testing.T) {
	e := newEnv(t)
	dir := filepath.Join(e.cfg.StateDir, bundle.Part, e.ns)
	if _, err := e.r.Ensure(t.Context(), e.Spec("half", runtimetest.Program{})); err != nil {
		t.Fatal(err)
	}
	hidden := filepath.Join(dir, ".half")
	if err := os.MkdirAll(filepath.Join(hidden, "rootfs"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hidden, "config.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(hidden, old, old); err != nil {
		t.Fatal(err)
	}
	next := e.Spec("half", runtimetest.Program{})
	next.Labels[runtime.LabelDigest] = "digest-2"
	e.dropTask(t, "half")
	start := time.Now()
	if _, err := e.r.Ensure(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	t.Logf("started again after %v", time.Since(start))
	if _, err := os.Lstat(hidden); err == nil {
		t.Error("the half-deleted bundle is still there: it blocks every later delete")
	}
	if err := os.MkdirAll(filepath.Join(hidden, "rootfs"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := e.r.Remove(t.Context(), "half"); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{hidden, filepath.Join(dir, "half")} {
		if _, err := os.Lstat(left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}

// A shim is known by the folder that it works in too: the socket in its
// arguments may be another name of ours.
func TestShimByItsBundle(t *testing.T) {
	e := newEnv(t)
	if _, err := e.r.Ensure(t.Context(), e.Spec("byname", runtimetest.Program{})); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(e.dir, "other.sock")
	if err := os.Symlink(e.cfg.Address, link); err != nil {
		t.Fatal(err)
	}
	e.cfg.Address = link
	other := e.open(t)
	shims, err := other.shims("byname")
	if err != nil || len(shims) != 1 {
		t.Fatalf("shims of our own container by another name of the socket: %v, %v; want one", shims, err)
	}
	other.cfg.StateDir = e.dir // somebody else's containerd
	if shims, err = other.shims("byname"); err != nil || len(shims) != 0 {
		t.Fatalf("shims of another containerd: %v, %v; want none", shims, err)
	}
}

// A runc whose shim was killed may write into the folder of the root file system
// after that was unmounted. The bundle goes all the same, and nothing that is
// mounted in it does.
func TestLeftOverRootfs(t *testing.T) {
	e := newEnv(t)
	dir := filepath.Join(e.cfg.StateDir, bundle.Part, e.ns, "full")
	rootfs, data := filepath.Join(dir, "rootfs"), filepath.Join(e.dir, "data")
	for _, d := range []string{filepath.Join(rootfs, "dev", "pts"), filepath.Join(rootfs, "mnt"), data} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	precious := filepath.Join(data, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/fd", filepath.Join(rootfs, "dev", "fd")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice, on top of each other
		if err := unix.Mount(data, filepath.Join(rootfs, "mnt"), "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := e.r.Ensure(t.Context(), e.Spec("full", runtimetest.Program{})); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was mounted in the bundle: %v", err)
	}
}
