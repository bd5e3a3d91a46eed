package bundle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/e2e/lab"
)

func TestPointsBelow(t *testing.T) {
	info := "20 1 0:1 / / rw - ext4 a rw\n21 20 0:2 / /a rw - ext4 a rw\n22 21 0:3 / /a/b\\040c rw - ext4 a rw\n23 20 0:4 / /ab rw - ext4 a rw\n"
	if got := pointsBelow("/a", info); !slices.Equal(got, []string{"/a", "/a/b c"}) {
		t.Errorf("mounts below /a: %q", got)
	}
}

// Only a folder that can be a bundle is ever removed, whoever asks.
func TestCheck(t *testing.T) {
	for dir, ok := range map[string]bool{
		"/run/containerd/" + Part + "/agentd/web":         true,
		"/run/containerd/" + Part + "/agentd/.web":        true, // half-deleted
		"/srv/c/state/" + Part + "/agentd/web":            true,
		"/run/containerd/" + Part + "/agentd":             false, // all of a namespace
		"/run/containerd/" + Part:                         false, // all of containerd
		"/run/containerd/" + Part + "/agentd/web/rootfs":  false, // a container's root
		"/run/containerd/" + Part + "/agentd/web/":        false,
		"/run/containerd/" + Part + "/agentd/../../../..": false,
		"/" + Part + "/agentd/web":                        false,
		"run/" + Part + "/agentd/web":                     false,
		"":                                                false,
		"/":                                               false,
		"/etc":                                            false,
	} {
		if err := Check(dir); (err == nil) != ok {
			t.Errorf("Check(%q): %v; want it accepted: %t", dir, err, ok)
		}
		if !ok && Remove(dir) == nil {
			t.Errorf("Remove(%q) did not refuse", dir)
		}
	}
}

// The name of the unit gives the path back to systemd's %f.
func TestUnit(t *testing.T) {
	got := Unit("/run/containerd/" + Part + "/agentd/.a-b")
	want := `agentd-mend@run-containerd-io.containerd.runtime.v2.task-agentd-.a\x2db.service`
	if got != want {
		t.Errorf("unit %s, want %s", got, want)
	}
	// systemd takes 255 characters; a daemon's name has at most 63.
	longest := Unit("/run/containerd/" + Part + "/agentd/" + strings.Repeat("a-", 31) + "a")
	if len(longest) > 255 {
		t.Errorf("a unit's name of %d characters", len(longest))
	}
}

// Everything mounted in a bundle stays as it is; the bundle and its work folder
// go.
func TestRemove(t *testing.T) {
	lab.Require(t, "root")
	top := lab.TestDir(t)
	dir := filepath.Join(top, "state", Part, "ns", "web")
	work := filepath.Join(top, "root", Part, "ns", "web")
	data := filepath.Join(top, "data")
	for _, d := range []string{filepath.Join(dir, "rootfs", "mnt"), work, data} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	precious := filepath.Join(data, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(work, filepath.Join(dir, "work")); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"rootfs", "rootfs", "rootfs/mnt"} {
		if err := os.MkdirAll(filepath.Join(dir, at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(data, filepath.Join(dir, at), "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{dir, work} {
		if _, err := os.Lstat(gone); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was mounted in the bundle: %v", err)
	}
	if err := Remove(dir); err != nil {
		t.Errorf("again: %v", err)
	}
}
