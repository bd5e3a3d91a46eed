// Package mutate breaks agentd's code on purpose, to see that a test notices.
//
// A mutation is a file agent/rollout/testdata/mutations/NAME.txtar: a comment
// that says what goes wrong, then the file that is changed, the old text, which
// has to be there exactly once, and the new one. The source is not touched: the
// test is compiled with go's -overlay.
package mutate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

const folder = "agent/rollout/testdata/mutations"

// Names returns the mutations that there are. root is the module's folder.
func Names(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, folder, "*.txtar"))
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".txtar")
	}
	return files, err
}

// Overlay writes the mutated file and an overlay for go build and go test into
// dir, and returns the overlay's path.
func Overlay(root, name, dir string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	a, err := txtar.ParseFile(filepath.Join(root, folder, name+".txtar"))
	if err != nil {
		return "", err
	}
	part := map[string][]byte{}
	for _, f := range a.Files {
		part[f.Name] = f.Data
	}
	path := filepath.Join(root, string(bytes.TrimSpace(part["file"])))
	src, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(src, part["old"]); n != 1 || len(part["old"]) == 0 {
		return "", fmt.Errorf("mutation %s: its old text is in %s %d times, want once", name, path, n)
	}
	mutant := filepath.Join(dir, name+".go")
	if err := os.WriteFile(mutant, bytes.Replace(src, part["old"], part["new"], 1), 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, name+".json")
	return out, os.WriteFile(out, overlay, 0o600)
}

// Kills runs a package's tests that match run with the mutation, and fails t
// unless one of them fails. It returns what they print. More arguments go to go
// test, before the package.
func Kills(t *testing.T, root, name, pkg, run string, args ...string) string {
	t.Helper()
	overlay, err := Overlay(root, name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"test", "-count=1", "-overlay=" + overlay, "-run=" + run}, append(args, pkg)...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		t.Errorf("%s holds with the mutation %s, so that it proves nothing:\n%s", run, name, out)
	case !bytes.Contains(out, []byte("--- FAIL:")):
		t.Errorf("%s did not run with the mutation %s: %v\n%s", run, name, err, out)
	}
	return string(out)
}
