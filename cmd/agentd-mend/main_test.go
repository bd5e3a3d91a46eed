package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/agentd/agentd/runtime/bundle"
)

func TestRun(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, bundle.Part, "agentd", "web")
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		args []string
		code int
		left bool
	}{
		{"no bundle named", nil, 2, true},
		{"two of them", []string{dir, dir}, 2, true},
		{"a whole namespace", []string{filepath.Dir(dir)}, 2, true},
		{"the bundle", []string{dir}, 0, false},
		{"one that is gone", []string{dir}, 0, false},
	} {
		if code := run(c.args, io.Discard); code != c.code {
			t.Errorf("%s: exit %d, want %d", c.what, code, c.code)
		}
		if _, err := os.Lstat(dir); (err == nil) != c.left {
			t.Errorf("%s: the bundle is there: %t, want %t", c.what, err == nil, c.left)
		}
	}
}
