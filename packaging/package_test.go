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
		"usr/libexec/agentd/agentd-mend": 0o755, "lib/systemd/system/agentd-mend@.service": 0o644,
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

// The scripts say what they did and what is next; DPKG_ROOT keeps them off this
// machine's own agentd.
func TestDebScripts(t *testing.T) {
	need(t, "sh", "find")
	for _, c := range []struct{ name, script, args, files, says string }{
		{"a first installation says what is next", "postinst", "configure", "", "agentctl init"},
		{"an upgrade of a node that was not set up, too", "postinst", "configure 1.0", "", "agentctl init"},
		{"an upgrade says nothing", "postinst", "configure 1.0", "etc/agentd/agentd.toml", ""},
		{"an installation over the configuration of before starts nothing", "postinst", "configure", "etc/agentd/agentd.toml", "enable --now"},
		{"removal says that containers run on", "prerm", "remove", "", "containers run on"},
		{"an upgrade does nothing before", "prerm", "upgrade 2", "", ""},
		{"removal leaves everything", "postrm", "remove", "etc/agentd/ring.key var/lib/agentd/node.key", ""},
		{"purge without state", "postrm", "purge", "", "agentctl forget"},
	} {
		root := fill(t, c.files)
		said := script(t, root, c.script, c.args)
		if !strings.Contains(said, c.says) || c.says == "" && said != "" {
			t.Errorf("%s: said %q; want %q", c.name, said, c.says)
		}
		for _, f := range strings.Fields(c.files) {
			if _, err := os.Stat(filepath.Join(root, f)); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// Purge removes what made the machine a node, keeps volumes, and says so.
func TestPurge(t *testing.T) {
	need(t, "sh", "find")
	root := fill(t, "etc/agentd/agentd.toml etc/agentd/trust.d/a.pub var/lib/agentd/node.key var/lib/agentd/records/a/b var/lib/agentd/volumes/v/data var/lib/other")
	said := script(t, root, "postrm", "purge")
	if !strings.Contains(said, "var/lib/agentd/volumes") {
		t.Errorf("does not say that volumes are left: %q", said)
	}
	var left []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if want := []string{"var/lib/agentd/volumes/v/data", "var/lib/other"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %v (%v), want %v", left, err, want)
	}

	root = fill(t, "var/lib/agentd/node.key")
	script(t, root, "postrm", "purge")
	if _, err := os.Stat(filepath.Join(root, "var/lib/agentd")); err == nil {
		t.Error("without volumes, the folder is left")
	}
}

// fill makes a folder with empty files in it.
func fill(t *testing.T, files string) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range strings.Fields(files) {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// script runs a maintainer script of the deb for the system below root.
func script(t *testing.T, root, name, args string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("scripts", "deb-"+name))
	if err != nil {
		t.Fatal(err)
	}
	// The group is made by a program that looks at the machine.
	safe := strings.ReplaceAll(string(text), "systemd-sysusers", "true")
	cmd := exec.Command("sh", append([]string{"-c", safe, name}, strings.Fields(args)...)...)
	cmd.Env = append(os.Environ(), "DPKG_ROOT="+root)
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v", name, args, err)
	}
	return string(b)
}
