package logfile_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/agentd/agentd/runtime/logfile"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return "<absent>"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	limits := logfile.Limits{MaxSize: 10, MaxFiles: 3}
	check := func(want ...string) {
		t.Helper()
		if err := logfile.Rotate(path, limits); err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			name := path
			if i > 0 {
				name = fmt.Sprintf("%s.%d", path, i)
			}
			if got := read(t, name); got != w {
				t.Fatalf("%s holds %q, want %q", filepath.Base(name), got, w)
			}
		}
	}
	check("<absent>") // no log yet is fine
	write(t, path, "short\n")
	check("short\n", "<absent>")
	write(t, path, "abcdef\n")
	check("", "abcdef\n", "<absent>") // the last 10 bytes, from a whole line on
	write(t, path, "0123456789\n")
	check("", "", "abcdef\n", "<absent>") // a last line that is too long is cut at its end
	write(t, path, "A\nB\nC\nD\nE\nF\n")
	check("", "B\nC\nD\nE\nF\n", "", "<absent>")
}

// The writer keeps its descriptor and goes on at the start of the empty file.
func TestWriterGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	w, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fmt.Fprintln(w, strings.Repeat("x", 100))
	if err := logfile.Rotate(path, logfile.Limits{MaxSize: 10, MaxFiles: 2}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, "next")
	if got := read(t, path); got != "next\n" {
		t.Fatalf("after the rotation the file holds %q", got)
	}
}

// Lowered limits remove what is beyond them; one file keeps none.
func TestLoweredLimits(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	for n := 1; n <= 5; n++ {
		write(t, fmt.Sprintf("%s.%d", path, n), "old")
	}
	write(t, path, "0123456789abc")
	if err := logfile.Rotate(path, logfile.Limits{MaxSize: 10, MaxFiles: 2}); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(path + ".*"); len(names) != 1 {
		t.Fatalf("left: %v, want one older file", names)
	}
	write(t, path, "0123456789abc")
	if err := logfile.Rotate(path, logfile.Limits{MaxSize: 10, MaxFiles: 1}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "" {
		t.Fatalf("one file only: it holds %q", got)
	}
}

// A writer that never pauses cannot make the folder grow without bounds.
//
// conformance: U9 E6
func TestBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	const size = 64 << 10
	w, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		line := append(bytes.Repeat([]byte("y"), 99), '\n')
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := w.Write(line); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 50 {
		if err := logfile.Rotate(path, logfile.Limits{MaxSize: size, MaxFiles: 3}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	olds, _ := filepath.Glob(path + ".*")
	if len(olds) > 2 {
		t.Fatalf("%v", olds)
	}
	for _, o := range olds {
		st, err := os.Stat(o)
		if err != nil {
			t.Fatal(err)
		}
		if st.Size() > size+size/8 {
			t.Errorf("%s has %d bytes, more than %d", o, st.Size(), size+size/8)
		}
	}
}

func TestRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	write(t, target, strings.Repeat("z", 100))
	link := filepath.Join(dir, "x.log")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := logfile.Rotate(link, logfile.Limits{MaxSize: 10, MaxFiles: 2}); err == nil {
		t.Fatal("a link was rotated")
	}
	if got := read(t, target); len(got) != 100 {
		t.Fatal("the link's target was truncated")
	}
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	for _, p := range []string{path, path + ".1", path + ".2", path + ".tmp"} {
		write(t, p, "x")
	}
	for range 2 {
		if err := logfile.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := filepath.Glob(path + "*"); len(names) != 0 {
		t.Fatalf("left: %v", names)
	}
}
