package machines

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/e2e/lab"
)

// The life of the package: first installation, upgrade and downgrade under
// running containers, removal, purge.
func TestDeb(t *testing.T) {
	r := newWorld(t)
	r.story("installed", installed)
	r.boot("n2")
	r.boot("n3")
	r.form("n1", "n2", "n3")
	seen := r.everywhere(exporter, "n1", "n2", "n3")
	r.story("doctor", func(r ring) { examined(r, seen) })
	r.story("logs in the journal", logged)
	r.story("who may what", func(r ring) { rights(r, seen) })
	r.story("upgraded and downgraded", func(r ring) { upgraded(r, seen) })
	r.story("removed and installed again", func(r ring) { removed(r, seen) })
	r.story("left and purged", func(r ring) { purged(r, seen) })
}

// installed: a first installation starts nothing and says what to do.
func installed(r ring) {
	m, err := r.Add(r.ctx, "n1")
	r.must(err)
	said := r.install(m, versionA)
	for _, word := range []string{"agentctl init", "agentctl join"} {
		if !strings.Contains(said, word) {
			r.Errorf("the package does not say %q: %s", word, said)
		}
	}
	if state, _ := m.Unit(r.ctx, "agentd", "ActiveState"); state != "inactive" {
		r.Errorf("agentd.service is %s before anything is set up", state)
	}
	r.run(m, "getent", "group", "agentd")
	if res, err := m.Exec(r.ctx, "agentctl", "status"); err != nil || res.Code != 1 || !strings.Contains(res.Stderr, "hint:") {
		r.Errorf("agentctl status exits %d without a hint: %s", res.Code, res.Output())
	}
	if v := r.run(m, "agentd", "--version"); !strings.Contains(v, versionA) {
		r.Errorf("agentd --version says %q, want %s", v, versionA)
	}
}

// examined: on a machine that is well, agentctl doctor finds nothing wrong, and
// it finds what is.
func examined(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	r.run(m, "agentctl", "doctor")
	key, err := os.ReadFile(m.Path("/etc/agentd/ring.key"))
	r.must(err)
	r.run(m, "chmod", "0644", "/etc/agentd/ring.key")
	r.run(m, "systemctl", "stop", "containerd")
	res, err := m.Exec(r.ctx, "agentctl", "doctor")
	r.must(err)
	for _, word := range []string{"ring.key", "systemctl start containerd"} {
		if res.Code != 1 || !strings.Contains(res.Stdout, word) {
			r.Errorf("agentctl doctor exits %d without %q: %s", res.Code, word, res.Output())
		}
	}
	if strings.Contains(res.Output(), strings.TrimSpace(string(key))) {
		r.Error("agentctl doctor prints the ring key")
	}
	r.run(m, "chmod", "0600", "/etc/agentd/ring.key")
	r.run(m, "systemctl", "start", "containerd")
	r.eventually("doctor is content", func(ctx context.Context) error {
		_, err := m.Must(ctx, "agentctl", "doctor")
		return err
	})
	r.same(seen, "n1", "n2", "n3")
}

// logged: what a container writes is in the machine's journal, by daemon.
func logged(r ring) {
	m := r.Machine("n3")
	r.eventually("logs of the exporter", func(ctx context.Context) error {
		out, err := m.Must(ctx, "agentctl", "logs", exporter)
		if err == nil && !strings.Contains(out, "node_exporter") {
			err = fmt.Errorf("they are %q", out)
		}
		return err
	})
	if out := r.run(m, "journalctl", "-q", "-o", "cat", "AGENTD_DAEMON="+exporter); !strings.Contains(out, "node_exporter") {
		r.Errorf("the journal tells nothing of daemon %s: %q", exporter, out)
	}
}

// rights: the group agentd may look, and only root may touch what runs.
func rights(r ring, seen map[string]lab.Container) {
	m := r.Machine("n3")
	as := func(group string, args ...string) lab.Result {
		r.Helper()
		res, err := m.Exec(r.ctx, append([]string{"setpriv", "--reuid=nobody", "--regid=" + group, "--clear-groups", "agentctl"}, args...)...)
		r.must(err)
		return res
	}
	if res := as("agentd", "status"); res.Code != 0 || !strings.Contains(res.Stdout, exporter) {
		r.Errorf("status in the group exits %d: %s", res.Code, res.Output())
	}
	for _, c := range [][]string{{"agentd", "restart", exporter}, {"agentd", "leave", "--yes"}, {"nogroup", "status"}} {
		if res := as(c[0], c[1:]...); res.Code != 1 || !strings.Contains(res.Stderr, "hint:") {
			r.Errorf("%q in group %s exits %d without a hint: %s", c[1:], c[0], res.Code, res.Output())
		}
	}
	r.same(seen, "n1", "n2", "n3")
}

// upgraded: another version, newer or older, takes over what runs; meanwhile
// the ring holds two versions, and goes on.
//
// conformance: F1
func upgraded(r ring, seen map[string]lab.Container) {
	n1, n2 := r.Machine("n1"), r.Machine("n2")
	change := func(m *Machine, version string) {
		r.Helper()
		dir, err := Packages(r.ctx, version)
		r.must(err)
		old := r.agent(m, "")
		_, err = m.Install(r.ctx, dir)
		r.must(err)
		r.agent(m, old)
		r.agree("n1", "n2", "n3")
		r.version(m, version)
		r.same(seen, "n1", "n2", "n3")
	}
	change(n2, versionB)
	// Two versions in one ring: what one writes, the other runs.
	r.must(n1.Apply(r.ctx, testd("mixed", "")))
	r.everywhere("mixed", "n1", "n2", "n3")
	for _, version := range []string{versionA, versionB} {
		if said := r.run(n1, "agentctl", "version"); !strings.Contains(said, version) {
			r.Errorf("agentctl version does not tell of %s: %s", version, said)
		}
	}
	change(n1, versionB)
	r.must(n1.Apply(r.ctx, testd("mixed", `env = { ROUND = "2" }`)))
	r.agree("n1", "n2", "n3")
	change(n2, versionA)
	r.run(n1, "agentctl", "delete", "--yes", "mixed")
	for _, m := range r.Machines {
		r.none(m, "mixed")
	}
	r.same(seen, "n1", "n2", "n3")
}

// version waits until n1 sees a machine with a version.
func (r ring) version(m *Machine, want string) {
	r.Helper()
	r.eventually("version of "+m.Name, func(ctx context.Context) error {
		nodes, err := r.Machine("n1").Nodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes.Nodes {
			if n.Name == m.Name && n.Version == want {
				return nil
			}
		}
		return fmt.Errorf("want %s in %+v", want, nodes.Nodes)
	})
}

// removed: without the package the containers run on; with it again, they are
// taken over.
func removed(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	said := r.run(m, "dpkg", "--remove", "agentd")
	if !strings.Contains(said, "its containers run on") {
		r.Errorf("removing does not say what is left running: %s", said)
	}
	r.agree("n1", "n3")
	r.same(seen, "n1", "n2", "n3")
	if _, err := os.Stat(m.Path("/etc/agentd/agentd.toml")); err != nil {
		r.Errorf("the configuration is gone: %v", err)
	}
	if said := r.install(m, versionB); !strings.Contains(said, "systemctl enable --now agentd") {
		r.Errorf("the package does not say how to start again: %s", said)
	}
	r.run(m, "systemctl", "enable", "--now", "agentd")
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
}

// purged: a node that left and is purged keeps nothing but what it says.
//
// conformance: A3
func purged(r ring, seen map[string]lab.Container) {
	m := r.Machine("n3")
	// A volume is a daemon's data.
	r.must(os.MkdirAll(m.Path("/var/lib/agentd/volumes/kept"), 0o755))
	r.run(m, "agentctl", "leave", "--yes")
	r.none(m, exporter)
	r.agree("n1", "n2")
	said := r.run(m, "dpkg", "--purge", "agentd")
	for _, word := range []string{"/var/lib/agentd/volumes", "namespace agentd", "agentctl forget"} {
		if !strings.Contains(said, word) {
			r.Errorf("purge does not say %q: %s", word, said)
		}
	}
	left, err := filepath.Glob(m.Path("/var/lib/agentd/*"))
	r.must(err)
	if len(left) != 1 || filepath.Base(left[0]) != "volumes" {
		r.Errorf("purge leaves %q, want only volumes", left)
	}
	for _, path := range []string{"/etc/agentd", "/usr/bin/agentd", "/usr/libexec/agentd", "/etc/systemd/system/multi-user.target.wants/agentd.service"} {
		if _, err := os.Lstat(m.Path(path)); err == nil {
			r.Errorf("purge leaves %s", path)
		}
	}
	if n := strings.Count(r.run(m, "ps", "-eo", "args"), "agentd-log"); n != 0 {
		r.Errorf("%d loggers run on", n)
	}
	r.same(seen, "n1", "n2")
}

// The rpm installs, upgrades and goes as the deb does. The tools are Debian's,
// whose database knows no other package: --nodeps.
func TestRPM(t *testing.T) {
	r := newWorld(t)
	m, err := r.Add(r.ctx, "n1")
	r.must(err)
	r.images(m)
	rpm := func(version string, args ...string) string {
		dir, err := Packages(r.ctx, version)
		r.must(err)
		found, err := filepath.Glob(filepath.Join(dir, "agentd-*.rpm"))
		r.must(err)
		if len(found) != 1 {
			t.Fatalf("packages in %s: %q", dir, found)
		}
		r.must(m.Copy(found[0], "/root/agentd.rpm"))
		return r.run(m, append(append([]string{"rpm", "--nodeps", "--force-debian"}, args...), "/root/agentd.rpm")...)
	}
	if said := rpm(versionA, "--install"); !strings.Contains(said, "agentctl init") {
		t.Errorf("the package does not say what to do next: %s", said)
	}
	r.run(m, "getent", "group", "agentd")
	if state, _ := m.Unit(r.ctx, "agentd", "LoadState"); state != "loaded" {
		t.Errorf("agentd.service is %s", state)
	}
	r.form("n1")
	seen := r.everywhere(exporter, "n1")
	old := r.agent(m, "")
	rpm(versionB, "--upgrade")
	r.agent(m, old)
	r.version(m, versionB)
	r.same(seen, "n1")
	said := r.run(m, "rpm", "--force-debian", "--erase", "agentd")
	for _, word := range []string{"its containers run on", "/var/lib/agentd", "/etc/agentd"} {
		if !strings.Contains(said, word) {
			t.Errorf("erasing does not say %q: %s", word, said)
		}
	}
	if state, _ := m.Unit(r.ctx, "agentd", "ActiveState"); state == "active" {
		t.Error("agentd.service is active without its package")
	}
	r.same(seen, "n1")
}
