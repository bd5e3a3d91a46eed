package logger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime/logfile"
)

// batchOf makes records of texts.
func batchOf(texts ...string) []byte {
	var b []byte
	for i, s := range texts {
		b = appendRecord(b, Line{Time: time.Unix(int64(i), 0), Stream: Stdout, Text: []byte(s)})
	}
	return b
}

// kept reads all files of a log, the oldest first; every line has to be whole.
func kept(t *testing.T, path string) (texts []string, files int) {
	t.Helper()
	for n := 100; n >= 0; n-- {
		b, err := os.ReadFile(logfile.Older(path, n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		files++
		for line := range bytes.Lines(b) {
			l, ok := ParseLine(bytes.TrimSuffix(line, []byte{'\n'}))
			if !ok || !bytes.HasSuffix(line, []byte{'\n'}) {
				t.Fatalf("%s has %.200q", logfile.Older(path, n), line)
			}
			texts = append(texts, string(l.Text))
		}
	}
	return texts, files
}

func fileOptions(path string, size int64, files int) Options {
	return Options{Daemon: "d", Sink: SinkFile, Path: path, MaxSize: size, MaxFiles: files}.filled()
}

// Whatever was written, the folder holds no more than it may, and the newest.
//
// conformance: U9
func TestFileBounded(t *testing.T) {
	for _, files := range []int{1, 2, 5} {
		path := filepath.Join(t.TempDir(), "logs", "d.log")
		s := newFileSink(fileOptions(path, 10_000, files))
		const lines = 3000
		for i := range lines {
			b := batchOf(fmt.Sprintf("line %d", i))
			if n, err := s.write(b); n != len(b) || err != nil {
				t.Fatal(n, err)
			}
		}
		s.close()
		texts, have := kept(t, path)
		if have != files {
			t.Errorf("%d files, want %d", have, files)
		}
		for n := range files {
			if st, err := os.Stat(logfile.Older(path, n)); err != nil || st.Size() > 10_000 || st.Mode().Perm() != 0o640 {
				t.Errorf("file %d: %v, %v", n, st, err)
			}
		}
		for i, text := range texts {
			if want := fmt.Sprintf("line %d", lines-len(texts)+i); text != want {
				t.Fatalf("line %d of the kept is %q, want %q", i, text, want)
			}
		}
	}
}

// Two loggers of one daemon, as for a moment when it is replaced, tear nothing
// and lose nothing.
func TestFileTwoWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	o := fileOptions(path, 4000, 100)
	sinks := []*fileSink{newFileSink(o), newFileSink(o)}
	for i := range 500 {
		if _, err := sinks[i%2].write(batchOf(fmt.Sprintf("line %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	texts, _ := kept(t, path)
	if len(texts) != 500 {
		t.Fatalf("%d lines", len(texts))
	}
	for i, text := range texts {
		if text != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d is %q", i, text)
		}
	}
}

// A file or folder that somebody took away is made again; a torn end is ended.
func TestFileRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	path := filepath.Join(dir, "d.log")
	s := newFileSink(fileOptions(path, 1<<20, 3))
	for _, injure := range []func() error{
		func() error { return nil },
		func() error { return os.Remove(path) },
		func() error { return os.RemoveAll(dir) },
		func() error { return os.Rename(path, path+".old") },
	} {
		if err := injure(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.write(batchOf("again")); err != nil {
			t.Fatal(err)
		}
		if texts, _ := kept(t, path); len(texts) == 0 || texts[len(texts)-1] != "again" {
			t.Fatalf("the log has %q", texts)
		}
	}
	s.close()
	if err := os.WriteFile(path, []byte("1970-01-01T00:00:00.000000000Z stdout F torn"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := newFileSink(fileOptions(path, 1<<20, 3)).write(batchOf("whole")); err != nil {
		t.Fatal(err)
	}
	if texts, _ := kept(t, path); strings.Join(texts, ",") != "torn,whole" {
		t.Fatalf("the log has %q", texts)
	}
}

// A symbolic link or a fifo in the file's place is an error, and no trap.
func TestFileTraps(t *testing.T) {
	dir := t.TempDir()
	link, fifo := filepath.Join(dir, "link.log"), filepath.Join(dir, "fifo.log")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, fifo, dir} {
		if _, err := newFileSink(fileOptions(path, 1<<20, 3)).write(batchOf("x")); err == nil {
			t.Errorf("%s was written to", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("the link was followed")
	}
}

// A full file system: an error with words, no torn line, and it goes on where
// it stopped once there is room.
func TestFileFull(t *testing.T) {
	lab.Require(t, "root")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 30<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "d.log")
	s := newFileSink(fileOptions(path, 1<<20, 3))
	var batch []byte
	const lines = 300
	for i := range lines {
		batch = append(batch, batchOf(fmt.Sprintf("line %d %s", i, strings.Repeat("x", 100)))...)
	}
	n, err := s.write(batch)
	if !errors.Is(err, syscall.ENOSPC) || n == 0 {
		t.Fatalf("%d of %d, %v; want no space", n, len(batch), err)
	}
	for range 3 {
		m, err := s.write(batch[n:])
		if n += m; !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("again: %d, %v; want no space", m, err)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	m, err := s.write(batch[n:])
	if err != nil || n+m != len(batch) {
		t.Fatalf("%d and %d of %d, %v", n, m, len(batch), err)
	}
	texts, _ := kept(t, path)
	if len(texts) != lines {
		t.Fatalf("%d lines of %d", len(texts), lines)
	}
	for i, text := range texts {
		if !strings.HasPrefix(text, fmt.Sprintf("line %d ", i)) {
			t.Fatalf("line %d is %.40q", i, text)
		}
	}
}

func BenchmarkFile(b *testing.B) {
	s := newFileSink(fileOptions(filepath.Join(b.TempDir(), "d.log"), DefaultMaxSize, DefaultMaxFiles))
	batch := batchOf(strings.Repeat("x", 99))
	batch = bytes.Repeat(batch, 1000)
	b.SetBytes(100 * 1000)
	for b.Loop() {
		if _, err := s.write(batch); err != nil {
			b.Fatal(err)
		}
	}
}
