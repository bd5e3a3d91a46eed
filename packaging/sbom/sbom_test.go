package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The document says exactly what `go version -m` says, of every program.
func TestDocument(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "../../cmd/agentd-log", "../../cmd/agentd-mend")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, b)
	}
	programs := []string{filepath.Join(dir, "agentd-log"), filepath.Join(dir, "agentd-mend")}
	text := generate(t, programs...)
	var doc bom
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc.Format != "CycloneDX" || doc.Spec != "1.5" || doc.Version != 1 || doc.Metadata.Timestamp != "2023-11-14T22:13:20Z" || doc.Metadata.Component.Version != "1.2.3" {
		t.Errorf("head: %+v", doc)
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(doc.Serial) {
		t.Errorf("serial number %s", doc.Serial)
	}
	refs := map[string]component{}
	for _, c := range doc.Components {
		if _, twice := refs[c.Ref]; twice {
			t.Errorf("%s is there twice", c.Ref)
		}
		refs[c.Ref] = c
	}
	on := map[string][]string{}
	for _, d := range doc.Dependencies {
		on[d.Ref] = d.DependsOn
		for _, r := range d.DependsOn {
			if refs[r].Ref == "" {
				t.Errorf("%s depends on %s, which is no component", d.Ref, r)
			}
		}
	}
	if len(on["agentd"]) != len(programs) {
		t.Errorf("agentd is made of %v", on["agentd"])
	}
	used := map[string]bool{}
	for _, path := range programs {
		ref := "program:" + goEnv(t, "GOOS") + "/" + goEnv(t, "GOARCH") + "/" + filepath.Base(path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if h := refs[ref].Hashes; len(h) != 1 || h[0].Alg != "SHA-256" || h[0].Content != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: hashes %v", ref, h)
		}
		want := linked(t, path)
		var got []string
		for _, r := range on[ref] {
			used[r] = true
			got = append(got, refs[r].Name+" "+refs[r].Version)
			if refs[r].PURL != r || !strings.HasPrefix(r, "pkg:golang/") {
				t.Errorf("%s: package URL %s", r, refs[r].PURL)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: in the document are\n%s\nlinked are\n%s", ref, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for ref, c := range refs {
		if c.Type == "library" && !used[ref] {
			t.Errorf("%s is in no program", ref)
		}
	}
	if again := generate(t, programs...); !bytes.Equal(text, again) {
		t.Error("the same programs gave another document")
	}
	if other := generate(t, programs[0]); bytes.Contains(other, []byte(doc.Serial)) {
		t.Error("another document has the same serial number")
	}
}

func TestWrongCalls(t *testing.T) {
	for _, c := range []struct {
		what, epoch string
		args        []string
		code        int
	}{
		{"no program", "0", []string{"1.0"}, 2},
		{"no time", "", []string{"1.0", "x"}, 2},
		{"a program that is missing", "0", []string{"1.0", "/nonexistent"}, 1},
		{"no Go program", "0", []string{"1.0", "main.go"}, 1},
	} {
		var out, said bytes.Buffer
		if code := run(c.args, c.epoch, &out, &said); code != c.code || out.Len() > 0 || said.Len() == 0 {
			t.Errorf("%s: exit %d, want %d; out %q, said %q", c.what, code, c.code, &out, &said)
		}
	}
}

func generate(t *testing.T, programs ...string) []byte {
	t.Helper()
	var out, said bytes.Buffer
	if code := run(append([]string{"1.2.3"}, programs...), "1700000000", &out, &said); code != 0 {
		t.Fatalf("exit %d: %s", code, &said)
	}
	return out.Bytes()
}

// linked asks the go tool what is in a program: "module version", sorted.
func linked(t *testing.T, path string) []string {
	t.Helper()
	b, err := exec.Command("go", "version", "-m", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, path+": go"):
			out = append(out, "std "+strings.TrimPrefix(f[1], "go"))
		case len(f) >= 3 && f[0] == "dep":
			out = append(out, f[1]+" "+f[2])
		case len(f) >= 3 && f[0] == "=>":
			out[len(out)-1] = f[1] + " " + f[2]
		}
	}
	slices.Sort(out)
	return out
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	b, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
