package containerd

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// A policy that permits a path read-only means all of it: what is mounted below
// the path too.
func TestReadOnlyReachesWhatIsMountedBelow(t *testing.T) {
	e := newEnv(t)
	if !recursiveReadOnly() {
		t.Skip("this kernel has no recursive read-only mounts (Linux 5.12)")
	}
	source := filepath.Join(e.dir, "host")
	below := filepath.Join(source, "run")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(below, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := e.Spec("readonly", runtimetest.Program{})
	s.Mounts = []runtime.Mount{
		{Type: "bind", Source: source, Target: "/host", Options: []string{"rbind", "ro", "rslave"}},
		{Type: "bind", Source: source, Target: "/writable", Options: []string{"rbind", "rw", "rprivate"}},
	}
	mounts := proc(t, e.run(t, s).PID, "mountinfo")
	checkMount(t, mounts, "/host", "ro")
	checkMount(t, mounts, "/host/run", "ro")
	checkMount(t, mounts, "/writable/run", "rw")
}
