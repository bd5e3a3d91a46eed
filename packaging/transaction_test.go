package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is a small system that packages can be installed into: a shell, and
// programs that write down how they were called.
type root struct {
	t   *testing.T
	dir string
}

func newRoot(t *testing.T) root {
	t.Helper()
	need(t, "chroot", "ldd")
	if os.Geteuid() != 0 {
		t.Skip("needs root: a package's scripts run in a chroot")
	}
	r := root{t, t.TempDir()}
	for _, name := range []string{"sh", "cat", "find", "rm", "rmdir"} {
		r.borrow(name)
	}
	for _, called := range []string{"systemd-sysusers", "systemd-tmpfiles", "groupadd"} {
		r.write("usr/bin/"+called, "#!/bin/sh\necho \"${0##*/} $*\" >>/called\n", 0o755)
	}
	r.write("usr/bin/systemctl", `#!/bin/sh
case $1 in
is-enabled | is-active) [ -e /enabled ]; exit ;;
disable) rm -f /enabled ;;
esac
echo "systemctl $*" >>/called
`, 0o755)
	r.write("dev/null", "", 0o666)
	r.mkdir("run/systemd/system", "etc", "tmp", "var/tmp")
	return r
}

// borrow copies a program of this machine, with the libraries that it needs.
func (r root) borrow(name string) {
	r.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		r.t.Fatal(err)
	}
	files := []string{path}
	out, err := exec.Command("ldd", path).Output()
	if err == nil { // not linked statically
		for f := range strings.FieldsSeq(string(out)) {
			if filepath.IsAbs(f) {
				files = append(files, f)
			}
		}
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			r.t.Fatal(err)
		}
		if f == path {
			f = filepath.Join("bin", name)
		}
		if !r.has(f) {
			r.write(f, string(b), 0o755)
		}
	}
}

func (r root) mkdir(names ...string) {
	r.t.Helper()
	for _, n := range names {
		if err := os.MkdirAll(filepath.Join(r.dir, n), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r root) write(name, text string, mode os.FileMode) {
	r.t.Helper()
	r.mkdir(filepath.Dir(name))
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), mode); err != nil {
		r.t.Fatal(err)
	}
}

func (r root) has(name string) bool {
	_, err := os.Lstat(filepath.Join(r.dir, name))
	return err == nil
}

// run runs a package manager on the root. It returns what was said, and what
// the scripts called.
func (r root) run(argv ...string) (said string, called []string) {
	r.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	b, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, b)
	}
	path := filepath.Join(r.dir, "called")
	text, err := os.ReadFile(path)
	if err != nil {
		return string(b), nil
	}
	if err := os.Remove(path); err != nil {
		r.t.Fatal(err)
	}
	return string(b), strings.Split(strings.TrimSpace(string(text)), "\n")
}

// one is the only file of a version that matches.
func one(t *testing.T, version, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(buildOnce(t, version), pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("built %v: %v", files, err)
	}
	return files[0]
}

// step is one transaction.
type step struct {
	what   string
	argv   []string
	called []string // by the scripts, in this order
	says   []string
	has    []string // files afterwards
	gone   []string
}

func (r root) steps(steps []step) {
	r.t.Helper()
	for _, s := range steps {
		said, called := r.run(s.argv...)
		if !slices.Equal(called, s.called) {
			r.t.Errorf("%s: the scripts called\n  %s\nwant\n  %s", s.what, strings.Join(called, "\n  "), strings.Join(s.called, "\n  "))
		}
		for _, words := range s.says {
			if !strings.Contains(said, words) {
				r.t.Errorf("%s: said %q, without %q", s.what, said, words)
			}
		}
		for _, name := range s.has {
			if !r.has(name) {
				r.t.Errorf("%s: %s is not there", s.what, name)
			}
		}
		for _, name := range s.gone {
			if r.has(name) {
				r.t.Errorf("%s: %s is still there", s.what, name)
			}
		}
	}
}

// what an administrator and agentd leave on a node that was set up.
func (r root) setUp() {
	r.write("enabled", "", 0o644)
	r.write("etc/agentd/agentd.toml", "", 0o644)
	r.write("etc/agentd/ring.key", "", 0o600)
	r.write("var/lib/agentd/node.key", "", 0o600)
	r.write("var/lib/agentd/volumes/v/data", "", 0o600)
}

var (
	made    = []string{"systemd-sysusers agentd.conf", "systemd-tmpfiles --create agentd.conf", "systemctl daemon-reload"}
	stopped = []string{"systemctl stop agentd-ready.target agentd-ready.service", "systemctl disable --now agentd.socket agentd.service"}
)

// Installing starts nothing, upgrading restarts the agent alone, erasing stops
// it and leaves state: by rpm itself, whose scripts of the old and the new
// version mix in an order of their own.
func TestRPMTransactions(t *testing.T) {
	need(t, "rpm")
	r := newRoot(t)
	older, newer := one(t, versionA, "*.rpm"), one(t, versionB, "*.rpm")
	run := func(args ...string) []string {
		return append([]string{"rpm", "--root", r.dir, "--dbpath", "/var/lib/rpm", "--nodeps"}, args...)
	}
	r.run("rpm", "--root", r.dir, "--dbpath", "/var/lib/rpm", "--initdb")
	r.steps([]step{{
		what: "install", argv: run("-i", older), called: made, says: []string{"agentctl init", "agentctl join"},
		has: []string{"usr/bin/agentd", "usr/libexec/agentd/agentd-mend", "usr/lib/systemd/system/agentd.service", "etc/agentd/trust.d"},
	}})
	r.setUp()
	r.steps([]step{{
		what: "upgrade", argv: run("-U", newer),
		// The new version's postinstall, then the old one's postremove.
		called: append(slices.Clone(made), "systemctl try-restart agentd.service", "systemctl daemon-reload"),
		has:    []string{"usr/bin/agentd", "etc/agentd/agentd.toml", "var/lib/agentd/node.key"},
	}, {
		what: "downgrade", argv: run("-U", "--oldpackage", older),
		called: append(slices.Clone(made), "systemctl try-restart agentd.service", "systemctl daemon-reload"),
		has:    []string{"usr/bin/agentd", "etc/agentd/agentd.toml", "var/lib/agentd/node.key"},
	}, {
		what: "erase", argv: run("-e", "agentd"), called: append(slices.Clone(stopped), "systemctl daemon-reload"),
		says: []string{"containers run on", "/etc/agentd", "/var/lib/agentd"},
		has:  []string{"etc/agentd/agentd.toml", "etc/agentd/ring.key", "var/lib/agentd/node.key", "var/lib/agentd/volumes/v/data"},
		gone: []string{"usr/bin/agentd", "usr/libexec/agentd/agentd-log", "usr/lib/systemd/system/agentd.service"},
	}, {
		what: "install over the state of before", argv: run("-i", older), called: made, says: []string{"enable --now agentd"},
	}})
}

// The same by dpkg, which can purge, too.
func TestDebTransactions(t *testing.T) {
	need(t, "dpkg", "dpkg-deb")
	r := newRoot(t)
	older, newer := one(t, versionA, "*.deb"), one(t, versionB, "*.deb")
	r.mkdir("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers")
	r.write("var/lib/dpkg/status", "", 0o644)
	run := func(args ...string) []string {
		return append([]string{"dpkg", "--root", r.dir, "--force-depends,bad-path,architecture", "--log", "/dev/null"}, args...)
	}
	made := []string{"systemd-sysusers --root=/ agentd.conf", "systemd-tmpfiles --root=/ --create agentd.conf", "systemctl daemon-reload"}
	r.steps([]step{{
		what: "install", argv: run("-i", older), called: made, says: []string{"agentctl init", "agentctl join"},
		has: []string{"usr/bin/agentd", "usr/libexec/agentd/agentd-mend", "lib/systemd/system/agentd.service", "etc/agentd/trust.d"},
	}})
	r.setUp()
	r.steps([]step{{
		what: "upgrade", argv: run("-i", newer), called: append(slices.Clone(made), "systemctl try-restart agentd.service"),
		has: []string{"usr/bin/agentd", "etc/agentd/agentd.toml", "var/lib/agentd/node.key"},
	}, {
		what: "downgrade", argv: run("-i", older), called: append(slices.Clone(made), "systemctl try-restart agentd.service"),
		has: []string{"usr/bin/agentd", "etc/agentd/agentd.toml", "var/lib/agentd/node.key"},
	}, {
		what: "remove", argv: run("-r", "agentd"), called: append(slices.Clone(stopped), "systemctl daemon-reload"), says: []string{"containers run on"},
		has:  []string{"etc/agentd/agentd.toml", "var/lib/agentd/node.key"},
		gone: []string{"usr/bin/agentd", "lib/systemd/system/agentd.service"},
	}, {
		what: "install over the state of before", argv: run("-i", older), called: append(slices.Clone(made), "systemctl try-restart agentd.service"),
		says: []string{"enable --now agentd"},
	}, {
		what: "purge", argv: run("-P", "agentd"),
		called: slices.Concat(stopped, []string{"systemctl daemon-reload", "systemctl daemon-reload"}),
		says:   []string{"containers and images", "/var/lib/agentd/volumes", "agentctl forget"},
		has:    []string{"var/lib/agentd/volumes/v/data"},
		gone:   []string{"etc/agentd", "var/lib/agentd/node.key", "usr/bin/agentd"},
	}})
}
