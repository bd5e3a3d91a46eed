package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// proc reads what the kernel says about a process.
func proc(t *testing.T, pid int, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// procStatus is one field of /proc/PID/status.
func procStatus(t *testing.T, pid int, field string) string {
	t.Helper()
	for line := range strings.Lines(proc(t, pid, "status")) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	t.Fatalf("no %s in the status of %d", field, pid)
	return ""
}

func sameNS(t *testing.T, pid int, ns string) bool {
	t.Helper()
	a, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
	b, err2 := os.Readlink("/proc/self/ns/" + ns)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return a == b
}

func (e *env) run(t *testing.T, s runtime.Spec) runtime.Instance {
	t.Helper()
	inst, err := e.r.Ensure(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	e.Settled(t, s.ID)
	return inst
}

// What a daemon may ask for is what its process has, by the kernel's word.
func TestSetup(t *testing.T) {
	e := newEnv(t)
	data := filepath.Join(e.dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	// rslave means something only below a mount that is shared.
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(data, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", data, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"sub", "scratch", "later"} {
		if err := os.Mkdir(filepath.Join(data, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := e.Spec("setup", runtimetest.Program{})
	s.User, s.WorkingDir, s.ReadOnly = "1234:5678", "/tmp", true
	s.Env = append(s.Env, "A=1", "IMAGE_REVISION=mine")
	s.Hostname, s.HostNetwork = "somewhere", false
	s.CapAdd, s.CapDrop = []string{"CAP_SYS_TIME"}, []string{"CAP_CHOWN"}
	s.Mounts = []runtime.Mount{
		{Type: "tmpfs", Target: "/data/scratch", Options: []string{"size=1m"}}, // deeper, and first
		{Type: "bind", Source: data, Target: "/data", Options: []string{"ro", "rslave"}},
	}
	s.Resources = runtime.Resources{
		CPU: 0.5, Memory: 64 << 20, MemoryReserve: 32 << 20, Pids: 77, CPUWeight: 200, OOMScoreAdj: 300,
		Ulimits: map[string]int64{"nofile": 512, "core": 0},
	}
	pid := e.run(t, s).PID

	for field, want := range map[string]string{
		"Uid": "1234 1234 1234 1234", "Gid": "5678 5678 5678 5678", "Groups": "",
		"NoNewPrivs": "1", "Seccomp": "2",
		"CapEff": "0000000002000000", // CAP_SYS_TIME is bit 25: ambient, for another user than root
	} {
		if got := procStatus(t, pid, field); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if bnd := procStatus(t, pid, "CapBnd"); strings.HasSuffix(bnd, "1") || strings.HasSuffix(bnd, "b") {
		t.Errorf("CAP_CHOWN is in the bounding set %s", bnd)
	}
	for _, ns := range []string{"net", "pid", "uts", "ipc", "mnt"} {
		if sameNS(t, pid, ns) {
			t.Errorf("namespace %s is the host's", ns)
		}
	}
	env := proc(t, pid, "environ")
	for _, kv := range []string{"A=1", "IMAGE_REVISION=mine", "PATH=/"} {
		if !strings.Contains(env, kv+"\x00") {
			t.Errorf("environment lacks %s: %q", kv, env)
		}
	}
	host, err := lab.Must(t.Context(), "nsenter", "--uts", "--target", strconv.Itoa(pid), "hostname")
	if err != nil || strings.TrimSpace(host) != "somewhere" {
		t.Errorf("hostname %q, %v", host, err)
	}
	if got := strings.TrimSpace(proc(t, pid, "oom_score_adj")); got != "300" {
		t.Errorf("oom_score_adj %s", got)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/tmp" {
		t.Errorf("cwd %q, %v", cwd, err)
	}
	limits := proc(t, pid, "limits")
	if !strings.Contains(strings.Join(strings.Fields(limits), " "), "Max open files 512 512") {
		t.Errorf("limits:\n%s", limits)
	}
	mounts := proc(t, pid, "mountinfo")
	checkMount(t, mounts, "/", "ro,")
	checkMount(t, mounts, "/data", "ro,", "master:")
	checkMount(t, mounts, "/data/scratch", "rw,", "size=1024k")
	if err := unix.Mount("tmpfs", filepath.Join(data, "later"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	checkMount(t, proc(t, pid, "mountinfo"), "/data/later") // what the host mounts later shows
	if strings.Contains(mounts, " /run ") {
		t.Error("/run is hidden by a mount")
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/data/sub", pid)); err != nil {
		t.Error(err)
	}
	if e.r.cgroups.unified {
		return
	}
	for file, want := range map[string]string{
		"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000", "cpu/cpu.shares": "2048",
		"memory/memory.limit_in_bytes": "67108864", "memory/memory.soft_limit_in_bytes": "33554432", "pids/pids.max": "77",
	} {
		controller, name, _ := strings.Cut(file, "/")
		var got string
		for _, dir := range e.r.cgroupDirs("setup") {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil && strings.Contains(dir, "/"+controller) {
				got = strings.TrimSpace(string(b))
			}
		}
		if got != want {
			t.Errorf("%s is %q, want %s", file, got, want)
		}
	}
}

func checkMount(t *testing.T, mountinfo, target string, want ...string) {
	t.Helper()
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 6 || f[4] != target {
			continue
		}
		for _, w := range want {
			if !strings.Contains(strings.Join(f[5:], " "), w) {
				t.Errorf("mount %s lacks %q: %s", target, w, line)
			}
		}
		return
	}
	t.Errorf("no mount at %s", target)
}

// On the host's network and among its processes names and views are the host's.
func TestHostNamespaces(t *testing.T) {
	e := newEnv(t)
	s := e.Spec("host", runtimetest.Program{})
	s.HostNetwork, s.HostPID = true, true
	pid := e.run(t, s).PID
	for ns, want := range map[string]bool{"net": true, "pid": true, "uts": true, "ipc": false, "mnt": false} {
		if got := sameNS(t, pid, ns); got != want {
			t.Errorf("shares namespace %s: %v, want %v", ns, got, want)
		}
	}
	for _, file := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		want, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if got := proc(t, pid, "root"+file); got != string(want) {
			t.Errorf("%s in the container differs from the host's", file)
		}
	}
	// A child in the host's process namespace outlives init, unless it is
	// looked for: Stop has to take it along.
	if _, err := e.r.Stop(t.Context(), "host", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if n := e.Copies(t, "host"); n != 0 {
		t.Fatalf("%d processes left", n)
	}
}

func TestPrivileged(t *testing.T) {
	e := newEnv(t)
	s := e.Spec("privileged", runtimetest.Program{})
	s.Privileged = true
	pid := e.run(t, s).PID
	server, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.server.PID))
	if err != nil {
		t.Fatal(err)
	}
	want := procStatus(t, pid, "CapEff")
	if !strings.Contains(string(server), "CapEff:\t"+want) {
		t.Errorf("CapEff %s is not containerd's", want)
	}
	if got := procStatus(t, pid, "Seccomp"); got != "0" {
		t.Errorf("seccomp %s", got)
	}
	if got := procStatus(t, pid, "NoNewPrivs"); got != "0" {
		t.Errorf("no_new_privs %s", got)
	}
	checkMount(t, proc(t, pid, "mountinfo"), "/sys", "rw,")
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/dev/mem", pid)); err != nil {
		if _, herr := os.Stat("/dev/mem"); herr == nil {
			t.Error("a privileged container lacks the host's devices:", err)
		}
	}
}

func TestDevice(t *testing.T) {
	e := newEnv(t)
	s := e.Spec("device", runtimetest.Program{})
	s.Devices = []string{"/dev/full:r"}
	pid := e.run(t, s).PID
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/dev/full", pid)); err != nil {
		t.Error(err)
	}
	s = e.Spec("no-device", runtimetest.Program{})
	s.Devices = []string{"/dev/absent"}
	if _, err := e.r.Ensure(t.Context(), s); err == nil || !strings.Contains(err.Error(), "device /dev/absent") {
		t.Errorf("a device that is not there: %v", err)
	}
}

// Users that need the image's own files: by name, and a uid without a gid.
func TestUsers(t *testing.T) {
	e := newEnv(t)
	for who, want := range map[string]string{
		"nobody":         "65534 65534 65534 65534/65534 65534 65534 65534", // by name
		"65534":          "65534 65534 65534 65534/65534 65534 65534 65534", // its group is in passwd
		"4242":           "4242 4242 4242 4242/0 0 0 0",                     // in no file: gid 0
		"nobody:nogroup": "65534 65534 65534 65534/65534 65534 65534 65534",
		"":               "0 0 0 0/0 0 0 0",
	} {
		s := e.Spec("user-x"+strings.ReplaceAll(who, ":", "-"), runtimetest.Program{})
		s.User = who
		pid := e.run(t, s).PID
		if got := procStatus(t, pid, "Uid") + "/" + procStatus(t, pid, "Gid"); got != want {
			t.Errorf("user %q runs as %s, want %s", who, got, want)
		}
	}
	s := e.Spec("user-unknown", runtimetest.Program{})
	s.User = "alice"
	if _, err := e.r.Ensure(t.Context(), s); err == nil || !strings.Contains(err.Error(), "alice") {
		t.Errorf("a user that is not there: %v", err)
	}
	if leases, err := e.r.client.LeasesService().List(t.Context()); err != nil || len(leases) != 0 {
		t.Errorf("leases left: %v, %v", leases, err)
	}
}

// A container writes on, whoever is gone, and others may not read it.
func TestLog(t *testing.T) {
	e := newEnv(t)
	s := e.Spec("log", runtimetest.Program{})
	s.Args = append(s.Args, "--spam-lines", "20000") // more than a pipe holds
	e.run(t, s)
	if err := e.r.Close(); err != nil {
		t.Fatal(err)
	}
	e.r = e.open(t)
	e.await(t, "all lines are there", func() bool {
		b, err := os.ReadFile(s.LogPath)
		return err == nil && strings.Contains(string(b), "line 20000 of 20000")
	})
	for path, want := range map[string]os.FileMode{s.LogPath: 0o640, filepath.Dir(s.LogPath): 0o750} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, st.Mode(), err, want)
		}
	}
}

// Starts that cannot work say why and leave nothing that runs.
func TestStartFails(t *testing.T) {
	e := newEnv(t)
	for name, c := range map[string]struct {
		change func(*runtime.Spec)
		want   string
	}{
		"command":   {func(s *runtime.Spec) { s.Command = []string{"/absent"} }, "/absent"},
		"mount":     {func(s *runtime.Spec) { s.Mounts = []runtime.Mount{{Type: "bind", Source: "/absent/x", Target: "/x"}} }, "/absent/x"},
		"log":       {func(s *runtime.Spec) { s.LogPath = "/proc/x/log" }, "log folder"},
		"bad user":  {func(s *runtime.Spec) { s.User = "4294967296" }, "2147483647"},
		"bad image": {func(s *runtime.Spec) { s.Image = "UPPER case" }, "bad reference"},
	} {
		s := e.Spec("fails", runtimetest.Program{})
		c.change(&s)
		_, err := e.r.Ensure(t.Context(), s)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to name %s", name, err, c.want)
		}
		if n := e.Copies(t, "fails"); n != 0 {
			t.Errorf("%s: %d processes", name, n)
		}
	}
	e.run(t, e.Spec("fails", runtimetest.Program{})) // and the way is free
}
