package containerd

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
)

func generate(t *testing.T, s runtime.Spec, m machine) *specs.Spec {
	t.Helper()
	img := image{config: ocispec.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"cmd"}, Env: []string{"A=image", "B=image"}, WorkingDir: "/work"}}
	if s.ID == "" {
		s.ID = "x"
	}
	spec, err := ociSpec(namespaces.WithNamespace(context.Background(), "test"), s, img, m)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestArguments(t *testing.T) {
	for name, c := range map[string]struct {
		command, args []string
		want          string
	}{
		"the image's own":                       {nil, nil, "/entry cmd"},
		"args replace the CMD":                  {nil, []string{"a"}, "/entry a"},
		"no args at all":                        {nil, []string{}, "/entry"},
		"command replaces the entrypoint":       {[]string{"/c"}, nil, "/c"},
		"both":                                  {[]string{"/c"}, []string{"a"}, "/c a"},
		"an empty command leaves args as a run": {[]string{}, []string{"/a"}, "/a"},
	} {
		got := generate(t, runtime.Spec{Command: c.command, Args: c.args}, machine{}).Process
		if strings.Join(got.Args, " ") != c.want || got.Cwd != "/work" {
			t.Errorf("%s: %v in %s, want %s", name, got.Args, got.Cwd, c.want)
		}
	}
	if _, err := argv(runtime.Spec{}, image{name: "i"}); err == nil {
		t.Error("nothing to run was accepted")
	}
	env := generate(t, runtime.Spec{Env: []string{"A=mine", "C=mine"}}, machine{}).Process.Env
	for _, kv := range []string{"A=mine", "B=image", "C=mine"} {
		if !slices.Contains(env, kv) {
			t.Errorf("environment %v lacks %s", env, kv)
		}
	}
	if slices.Contains(env, "A=image") || !strings.HasPrefix(env[0], "PATH=/usr") {
		t.Errorf("environment %v", env)
	}
}

func TestRights(t *testing.T) {
	root := generate(t, runtime.Spec{CapAdd: []string{"CAP_NET_ADMIN"}, CapDrop: []string{"CAP_KILL"}}, machine{}).Process
	if b := root.Capabilities.Bounding; !slices.Contains(b, "CAP_NET_ADMIN") || slices.Contains(b, "CAP_KILL") || !slices.Contains(b, "CAP_CHOWN") {
		t.Errorf("bounding %v", b)
	}
	if len(root.Capabilities.Ambient) != 0 || !root.NoNewPrivileges {
		t.Errorf("root: ambient %v, no_new_privs %v", root.Capabilities.Ambient, root.NoNewPrivileges)
	}
	user := generate(t, runtime.Spec{CapAdd: []string{"CAP_NET_RAW", "CAP_KILL"}, CapDrop: []string{"CAP_KILL"}}, machine{user: specs.User{UID: 1}}).Process
	if a := user.Capabilities.Ambient; !slices.Equal(a, []string{"CAP_NET_RAW"}) {
		t.Errorf("another user: ambient %v", a)
	}
	none := generate(t, runtime.Spec{CapDrop: []string{"CAP_ALL"}, CapAdd: []string{"CAP_CHOWN"}}, machine{})
	if e := none.Process.Capabilities.Effective; !slices.Equal(e, []string{"CAP_CHOWN"}) {
		t.Errorf("all dropped but one: %v", e)
	}
	// The profile is built last: what it allows depends on the capabilities.
	admin := generate(t, runtime.Spec{CapAdd: []string{"CAP_SYS_ADMIN"}}, machine{})
	if allows(none, "mount") || !allows(admin, "mount") {
		t.Error("the seccomp profile does not follow the capabilities")
	}
	all := generate(t, runtime.Spec{Privileged: true}, machine{caps: []string{"CAP_CHOWN"}})
	if all.Linux.Seccomp != nil || all.Process.NoNewPrivileges || len(all.Linux.MaskedPaths) != 0 || !slices.Equal(all.Process.Capabilities.Effective, []string{"CAP_CHOWN"}) {
		t.Errorf("privileged: %+v", all.Process)
	}
}

func allows(s *specs.Spec, call string) bool {
	return slices.ContainsFunc(s.Linux.Seccomp.Syscalls, func(c specs.LinuxSyscall) bool {
		return c.Action == specs.ActAllow && slices.Contains(c.Names, call)
	})
}

// Nothing about resources is said without a wish, but for the OOM score, which
// would be containerd's.
func TestResources(t *testing.T) {
	none := generate(t, runtime.Spec{}, machine{})
	if r := none.Linux.Resources; r.CPU != nil || r.Memory != nil || r.Pids != nil || r.Unified != nil {
		t.Errorf("without a wish: %+v", r)
	}
	if none.Process.OOMScoreAdj == nil || *none.Process.OOMScoreAdj != 0 || len(none.Process.Rlimits) != 0 {
		t.Errorf("without a wish: %+v", none.Process)
	}
	wish := runtime.Spec{Resources: runtime.Resources{CPU: 0.001, CPUWeight: 100, Memory: 1 << 20, Ulimits: map[string]int64{"nofile": 10, "memlock": -1}}}
	v1 := generate(t, wish, machine{})
	if c := v1.Linux.Resources.CPU; *c.Quota != minCPUQuota || *c.Shares != 1024 {
		t.Errorf("version 1: quota %d, shares %d", *c.Quota, *c.Shares)
	}
	if m := v1.Linux.Resources.Memory; *m.Limit != 1<<20 || m.Swap != nil {
		t.Errorf("memory without swap accounting: %+v", m)
	}
	if l := v1.Process.Rlimits; len(l) != 2 || l[0].Type != "RLIMIT_MEMLOCK" || l[0].Hard != ^uint64(0) || l[1].Soft != 10 {
		t.Errorf("limits %+v", l)
	}
	v2 := generate(t, wish, machine{unified: true, swapLimit: true})
	if r := v2.Linux.Resources; r.CPU.Shares != nil || r.Unified["cpu.weight"] != "100" || *r.Memory.Swap != 1<<20 {
		t.Errorf("version 2: %+v", r)
	}
}

func TestMounts(t *testing.T) {
	bind := func(target string, options ...string) runtime.Mount {
		return runtime.Mount{Type: "bind", Source: "/src", Target: target, Options: options}
	}
	spec := generate(t, runtime.Spec{HostNetwork: true, Mounts: []runtime.Mount{
		bind("/a/b/c"), bind("/a", "ro", "rslave"), bind("/dev/shm/"), bind("/etc/hosts"), {Type: "tmpfs", Target: "/t", Options: []string{"size=1m", "dev"}},
	}}, machine{hosts: true, resolv: true})
	at := map[string]specs.Mount{}
	order := map[string]int{}
	for i, m := range spec.Mounts {
		if _, twice := at[m.Destination]; twice {
			t.Errorf("two mounts at %s", m.Destination)
		}
		at[m.Destination], order[m.Destination] = m, i
	}
	for target, want := range map[string]string{
		"/a/b/c": "rbind,rw,rprivate", "/a": "ro,rslave,rbind", "/dev/shm": "rbind,rw,rprivate",
		"/etc/hosts": "rbind,rw,rprivate", "/etc/resolv.conf": "rbind,ro,rprivate", "/t": "size=1m,dev,nosuid,mode=1777",
	} {
		if got := strings.Join(at[target].Options, ","); got != want {
			t.Errorf("%s: options %s, want %s", target, got, want)
		}
	}
	deep := generate(t, runtime.Spec{Mounts: []runtime.Mount{bind("/a", "rbind", "ro", "rslave"), bind("/b", "bind", "ro"), bind("/c")}}, machine{deepReadOnly: true})
	for _, m := range deep.Mounts {
		if got := slices.Contains(m.Options, "rro"); got != (m.Destination == "/a") && strings.HasPrefix(m.Source, "/src") {
			t.Errorf("%s: read-only with what is below it: %v (%v)", m.Destination, got, m.Options)
		}
	}
	if order["/a"] > order["/a/b/c"] {
		t.Error("a mount hides one below it")
	}
	if spec.Linux.RootfsPropagation != "rslave" {
		t.Errorf("root propagation %q", spec.Linux.RootfsPropagation)
	}
	for _, bad := range []runtime.Mount{{Type: "bind", Source: "rel", Target: "/x"}, bind("/"), bind("rel"), {Type: "nfs", Target: "/x"}} {
		if _, err := ociMount(bad, machine{}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestNumericUser(t *testing.T) {
	for who, want := range map[string]specs.User{"1:2": {UID: 1, GID: 2}, "2147483647:0": {UID: 2147483647}} {
		if u, complete, err := numericUser(who); err != nil || !complete || u.UID != want.UID || u.GID != want.GID {
			t.Errorf("%s: %+v %v %v", who, u, complete, err)
		}
	}
	for _, who := range []string{"1", "a:1", "1:a", "a"} {
		if _, complete, err := numericUser(who); err != nil || complete {
			t.Errorf("%s: complete %v, %v", who, complete, err)
		}
	}
	for _, who := range []string{"2147483648", "1:4294967296", "99999999999999999999:1"} {
		if _, _, err := numericUser(who); err == nil {
			t.Errorf("%s was accepted", who)
		}
	}
}

// Files are read as an overlay shows them, and no image leads out of itself.
func TestReadLayered(t *testing.T) {
	dir := t.TempDir()
	layer := func(name string) string {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Join(p, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	put := func(layer, text string) {
		if err := os.WriteFile(filepath.Join(layer, "etc/passwd"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	base, top, empty, linked := layer("base"), layer("top"), layer("empty"), layer("linked")
	put(base, "base")
	put(top, "top")
	if err := os.Symlink("/etc/passwd", filepath.Join(linked, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	check := func(want string, layers ...string) {
		t.Helper()
		if got, err := readLayered(layers, "etc", "passwd"); err != nil || got != want {
			t.Errorf("%v: %q, %v; want %q", layers, got, err, want)
		}
	}
	check("top", top, base)
	check("base", empty, base)
	check("", empty)
	if _, err := readLayered([]string{linked, base}, "etc", "passwd"); err == nil {
		t.Error("a link was followed")
	}
	if os.Geteuid() != 0 {
		t.Skip("white-outs need root")
	}
	gone, opaque := layer("gone"), layer("opaque")
	if err := unix.Mknod(filepath.Join(gone, "etc/passwd"), unix.S_IFCHR, 0); err != nil {
		t.Skip(err)
	}
	check("", gone, base)
	if err := unix.Setxattr(filepath.Join(opaque, "etc"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Skip(err)
	}
	check("", opaque, base)
}

func TestLayerDirs(t *testing.T) {
	for want, m := range map[string]mount.Mount{
		"/a":    {Type: "bind", Source: "/a"},
		"/b,/a": {Type: "overlay", Options: []string{"index=off", "lowerdir=/b:/a"}},
	} {
		if got, err := layerDirs([]mount.Mount{m}); err != nil || strings.Join(got, ",") != want {
			t.Errorf("%+v: %v, %v", m, got, err)
		}
	}
	if _, err := layerDirs([]mount.Mount{{Type: "ext4", Source: "/dev/dm-1"}}); err == nil {
		t.Error("a block device was taken for a folder")
	}
}

func TestParseHierarchies(t *testing.T) {
	hybrid := `32 25 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 25 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 25 0:30 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw
35 25 0:31 / /proc rw - proc proc rw
`
	h := parseHierarchies(hybrid)
	if len(h.all) != 3 || h.memory != "/sys/fs/cgroup/memory" || h.unified {
		t.Errorf("hybrid: %+v", h)
	}
	h = parseHierarchies("24 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
	if len(h.all) != 1 || h.memory != "" || !h.unified {
		t.Errorf("version 2: %+v", h)
	}
}

// Two agents on one machine never share a cgroup, whatever the names.
func TestCgroupPaths(t *testing.T) {
	seen := map[string]string{}
	for _, systemd := range []bool{false, true} {
		for _, c := range [][2]string{{"agentd", "x"}, {"a", "b-c"}, {"a-b", "c"}, {"agentd", "x.next"}, {"x", "agentd"}} {
			r := &Runtime{systemd: systemd, cfg: Config{Namespace: c[0]}}
			p := r.cgroupsPath(c[1])
			if other, ok := seen[p]; ok {
				t.Errorf("%v and %s share %s", c, other, p)
			}
			seen[p] = c[0] + " " + c[1]
		}
	}
}

// systemd is told when to stop a container at shutdown; without systemd, runc
// would not know what to do with that.
func TestUnitProperties(t *testing.T) {
	spec := generate(t, runtime.Spec{ID: "x"}, machine{unit: (&Runtime{systemd: true}).unitProperties()})
	if got := spec.Annotations["org.systemd.property.Before"]; got != "['agentd-ready.target']" {
		t.Errorf("with systemd, a container's scope comes before %q", got)
	}
	spec = generate(t, runtime.Spec{ID: "x"}, machine{unit: (&Runtime{}).unitProperties()})
	if len(spec.Annotations) != 0 {
		t.Errorf("without systemd: %v", spec.Annotations)
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]int{
		"SIGTERM": 15, "term": 15, "15": 15, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "RTMIN+3": 37,
		"": 0, "SIGX": 0, "0": 0, "65": 0, "SIGRTMIN+40": 0, "SIGRTMIN+x": 0, "-1": 0,
	} {
		if got := parseSignal(text); int(got) != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
