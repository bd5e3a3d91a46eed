package packaging

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// build runs build.sh for amd64 into a new folder and returns it.
func build(t *testing.T, formats string) string {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command("./build.sh")
	cmd.Env = append(os.Environ(), "OUT="+out, "ARCHES=amd64", "FORMATS="+formats, "LDFLAGS=-s -w", "VERSION=1.2.3-4-gabcdef0", "SOURCE_DATE_EPOCH=1700000000")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, b)
	}
	return out
}

// need skips a test where a program is missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s", p)
		}
	}
}

func output(t *testing.T, argv ...string) []byte {
	t.Helper()
	b, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return b
}

// The deb holds what users expect, where they expect it, owned by root.
func TestDeb(t *testing.T) {
	need(t, "dpkg-deb", "bash")
	if testing.Short() {
		t.Skip("builds packages")
	}
	deb := filepath.Join(build(t, "deb"), "agentd_1.2.3+4.gabcdef0_amd64.deb")

	for field, want := range map[string]string{
		"Package": "agentd", "Version": "1.2.3+4.gabcdef0", "Architecture": "amd64",
		"Depends": "containerd | containerd.io, runc | containerd.io",
		// What it is, on one line, without the name.
		"Description": "keeps one container of each daemon running on every machine",
	} {
		got, _, _ := strings.Cut(string(output(t, "dpkg-deb", "-f", deb, field)), "\n")
		if got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	checkFiles(t, output(t, "dpkg-deb", "--fsys-tarfile", deb), wantFiles(t))
	checkScripts(t, deb)
}

// wantFiles says which files the deb has, with their modes.
func wantFiles(t *testing.T) map[string]int64 {
	t.Helper()
	want := map[string]int64{
		"usr/bin/agentd": 0o755, "usr/bin/agentctl": 0o755, "usr/libexec/agentd/agentd-log": 0o755,
		"lib/systemd/system/agentd.service": 0o644, "usr/lib/sysusers.d/agentd.conf": 0o644,
		"etc/agentd/": 0o755, "etc/agentd/trust.d/": 0o755,
		"usr/share/man/man1/agentctl.1.gz": 0o644, "usr/share/man/man8/agentd.8.gz": 0o644,
		"usr/share/man/man5/agentd.toml.5.gz": 0o644, "usr/share/man/man5/agentd.spec.5.gz": 0o644,
		"usr/share/bash-completion/completions/agentctl":    0o644,
		"usr/share/zsh/vendor-completions/_agentctl":        0o644,
		"usr/share/fish/vendor_completions.d/agentctl.fish": 0o644,
		"usr/share/lintian/overrides/agentd":                0o644, "usr/share/doc/agentd/copyright": 0o644, "usr/share/doc/agentd/changelog.gz": 0o644,
		"usr/share/doc/agentd/examples/agentd.toml": 0o644,
	}
	daemons, err := filepath.Glob("../configs/examples/*.toml")
	if err != nil || len(daemons) == 0 {
		t.Fatal("no examples", err)
	}
	for _, d := range daemons {
		want["usr/share/doc/agentd/examples/daemons/"+filepath.Base(d)] = 0o644
	}
	return want
}

func checkFiles(t *testing.T, archive []byte, want map[string]int64) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 {
			t.Errorf("%s: uid %d, gid %d, mode %o; want root's, writable by nobody else", name, h.Uid, h.Gid, h.Mode)
		}
		if h.ModTime.Unix() > 1700000000 {
			t.Errorf("%s: of %s, newer than SOURCE_DATE_EPOCH", name, h.ModTime)
		}
		mode, known := want[name]
		switch {
		case known && h.Mode&0o7777 != mode:
			t.Errorf("%s: mode %o, want %o", name, h.Mode, mode)
		case !known && h.Typeflag != tar.TypeDir:
			t.Errorf("%s is in the package and not in this test", name)
		case known && h.Typeflag == tar.TypeReg && h.Size < 50:
			t.Errorf("%s: %d bytes", name, h.Size)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}

// Nothing of the package is a conffile, so that init and join may write there,
// and the scripts are shell.
func checkScripts(t *testing.T, deb string) {
	t.Helper()
	dir := t.TempDir()
	output(t, "dpkg-deb", "--control", deb, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, s := range []string{"postinst", "prerm", "postrm"} {
		if !slices.Contains(names, s) {
			t.Errorf("no %s", s)
			continue
		}
		if b, err := exec.Command("sh", "-n", filepath.Join(dir, s)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", s, err, b)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "conffiles")); len(bytes.TrimSpace(b)) > 0 {
		t.Errorf("conffiles:\n%s", b)
	}
}

// The same commit gives the same bytes.
func TestReproducible(t *testing.T) {
	need(t, "bash")
	if testing.Short() {
		t.Skip("builds packages")
	}
	first, second := build(t, "deb rpm"), build(t, "deb rpm")
	files, err := filepath.Glob(filepath.Join(first, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("made %v (%v), want a deb and an rpm", files, err)
	}
	for _, f := range files {
		a, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, filepath.Base(f)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("two builds of %s differ", filepath.Base(f))
		}
	}
}

// The scripts do with systemctl what they promise: an installation starts
// nothing, an upgrade restarts the agent only if it runs, a removal stops it.
func TestScripts(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("would be about this machine's own agentd")
	}
	for _, c := range []struct{ name, script, args, says string }{
		{"a first installation says what is next", "deb-postinst", "configure", "agentctl init"},
		{"removal says that containers run on", "deb-prerm", "remove", "containers run on"},
		{"purge says what is left", "deb-postrm", "purge", "/var/lib/agentd"},
		{"an upgrade says nothing before", "deb-prerm", "upgrade 2", ""},
		{"rpm: removal", "rpm-preremove", "0", "containers run on"},
		{"rpm: upgrade", "rpm-preremove", "1", ""},
	} {
		script, err := os.ReadFile(filepath.Join("scripts", c.script))
		if err != nil {
			t.Fatal(err)
		}
		// Files of the machine are replaced by what the case is about.
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "var/lib/agentd"), 0o755); err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("/etc/agentd", dir+"/etc/agentd", "/var/lib/agentd", dir+"/var/lib/agentd",
			"systemd-sysusers agentd.conf", "true", "groupadd", "true").Replace(string(script))
		b, err := exec.Command("sh", append([]string{"-c", text, c.script}, strings.Fields(c.args)...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(b), c.says) || c.says == "" && len(b) > 0 {
			t.Errorf("%s: %v, said %q; want %q", c.name, err, b, c.says)
		}
	}
}
