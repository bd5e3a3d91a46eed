package packaging

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// versionA and versionB are what packages are built as, once each.
const versionA, versionB = "1.2.3-4-gabcdef0", "1.3.0"

// builds are the folders of buildOnce, by version, in a folder of TestMain.
var builds struct {
	sync.Mutex
	top  string
	done map[string]string
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		top, err := os.MkdirTemp("", "agtpkg")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(top)
		builds.top, builds.done = top, map[string]string{}
		return m.Run()
	}())
}

// buildOnce returns a folder with the packages of a version, which is only to be
// read.
func buildOnce(t *testing.T, version string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds packages")
	}
	need(t, "bash")
	builds.Lock()
	defer builds.Unlock()
	out, ok := builds.done[version]
	if !ok {
		out = filepath.Join(builds.top, version)
		build(t, out, version)
		builds.done[version] = out
	}
	return out
}

// build runs build.sh for amd64.
func build(t *testing.T, out, version string) {
	t.Helper()
	cmd := exec.Command("./build.sh")
	cmd.Env = append(os.Environ(), "OUT="+out, "ARCHES=amd64", "LDFLAGS=-s -w", "VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, b)
	}
}

// need skips a test where a program is missing, or fails it where
// AGENTD_TEST_REQUIRE names that program.
func need(t *testing.T, programs ...string) {
	t.Helper()
	required := strings.Split(os.Getenv("AGENTD_TEST_REQUIRE"), ",")
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if slices.Contains(required, p) {
			t.Fatalf("%s is required here (AGENTD_TEST_REQUIRE) and missing", p)
		}
		t.Skipf("needs %s", p)
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
	need(t, "dpkg-deb")
	deb := filepath.Join(buildOnce(t, versionA), "agentd_1.2.3+4.gabcdef0_amd64.deb")

	for field, want := range map[string]string{
		"Package": "agentd", "Version": "1.2.3+4.gabcdef0", "Architecture": "amd64",
		"Depends": "containerd | containerd.io | moby-containerd, runc | containerd.io | moby-runc",
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
		"lib/systemd/system/agentd.service": 0o644, "lib/systemd/system/agentd.socket": 0o644, "usr/lib/sysusers.d/agentd.conf": 0o644, "usr/lib/tmpfiles.d/agentd.conf": 0o644,
		"lib/systemd/system/agentd-ready.service": 0o644, "lib/systemd/system/agentd-ready.target": 0o644,
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

// SHA256SUMS tells of every file, and the list of what is in the programs tells
// of the very programs that are in the deb.
func TestReleased(t *testing.T) {
	need(t, "dpkg-deb", "sha256sum")
	dir := buildOnce(t, versionA)
	sums := string(output(t, "cat", filepath.Join(dir, "SHA256SUMS")))
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(sums, "\n"); got != len(files)-1 {
		t.Errorf("%d sums of %d files", got, len(files)-1)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if line := fmt.Sprintf("%x  %s\n", sha256.Sum256(b), f.Name()); f.Name() != "SHA256SUMS" && !strings.Contains(sums, line) {
			t.Errorf("no sum of %s in\n%s", f.Name(), sums)
		}
	}
	bom, err := os.ReadFile(filepath.Join(dir, "agentd_1.2.3+4.gabcdef0.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(bytes.NewReader(output(t, "dpkg-deb", "--fsys-tarfile", filepath.Join(dir, "agentd_1.2.3+4.gabcdef0_amd64.deb"))))
	programs := 0
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || h.Mode&0o111 == 0 {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		programs++
		if !bytes.Contains(bom, fmt.Appendf(nil, "%x", sha256.Sum256(b))) {
			t.Errorf("%s is not the one that was listed", h.Name)
		}
	}
	if listed := bytes.Count(bom, []byte(`"alg": "SHA-256"`)); programs == 0 || listed != programs {
		t.Errorf("%d programs in the deb, %d listed", programs, listed)
	}
}

// The same commit gives the same bytes.
func TestReproducible(t *testing.T) {
	first, second := buildOnce(t, versionA), t.TempDir()
	build(t, second, versionA)
	files, err := filepath.Glob(filepath.Join(first, "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("made %v (%v), want a deb, an rpm, what is in them, and sums", files, err)
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
	// Group and folders are made by programs that look at the machine.
	safe := strings.NewReplacer("systemd-sysusers", "true", "systemd-tmpfiles", "true").Replace(string(text))
	cmd := exec.Command("sh", append([]string{"-c", safe, name}, strings.Fields(args)...)...)
	cmd.Env = append(os.Environ(), "DPKG_ROOT="+root)
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v", name, args, err)
	}
	return string(b)
}
