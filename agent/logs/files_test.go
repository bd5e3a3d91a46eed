package logs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/runtime/logfile"
	"github.com/agentd/agentd/runtime/logger"
)

// epoch is the time of line 0; each line is a second later.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }

// formed is line n of a log.
func formed(n int) []byte {
	return logger.AppendLine(nil, logger.Line{Time: at(n), Stream: logger.Stdout, Text: fmt.Appendf(nil, "line %d", n)})
}

func appendTo(t testing.TB, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
}

// files makes a log of lines 0 to n-1, rotated after each of the given ones.
func files(t testing.TB, n int, rotated ...int) (Files, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.log")
	for i := range n {
		appendTo(t, path, formed(i))
		for _, r := range rotated {
			if r == i {
				if err := logfile.Shift(path, 100); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return Files{Path: func(string) string { return path }}, path
}

func readAll(t testing.TB, r Reader, q Query) []Entry {
	t.Helper()
	q.Daemon = "d"
	var all []Entry
	if err := r.Read(t.Context(), q, func(e Entry) error { all = append(all, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// lines are those from first to last, as they are read.
func wantLines(t testing.TB, got []Entry, first, last int) {
	t.Helper()
	if len(got) != max(last-first+1, 0) {
		t.Fatalf("%d lines, want %d to %d: %.300v", len(got), first, last, got)
	}
	for i, e := range got {
		if want := (Entry{Time: at(first + i), Stream: "stdout", Line: fmt.Sprintf("line %d", first+i)}); e != want {
			t.Fatalf("line %d is %+v, want %+v", first+i, e, want)
		}
	}
}

func TestFiles(t *testing.T) {
	f, path := files(t, 10, 2, 5, 9)
	for _, c := range []struct {
		name        string
		q           Query
		first, last int
	}{
		{"all", Query{}, 0, 9},
		{"none", Query{Tail: -1}, 0, -1},
		{"the last one, in an older file", Query{Tail: 1}, 9, 9},
		{"from the start of a file", Query{Tail: 4}, 6, 9},
		{"from the middle of an older one", Query{Tail: 5}, 5, 9},
		{"exactly all", Query{Tail: 10}, 0, 9},
		{"more than there are", Query{Tail: 99}, 0, 9},
		{"since", Query{Since: at(4)}, 4, 9},
		{"since, between two lines", Query{Since: at(4).Add(-time.Millisecond)}, 4, 9},
		{"since long ago", Query{Since: at(-100)}, 0, 9},
		{"since and tail", Query{Since: at(4), Tail: 3}, 7, 9},
		{"tail and a later since", Query{Since: at(8), Tail: 5}, 8, 9},
	} {
		t.Run(c.name, func(t *testing.T) { wantLines(t, readAll(t, f, c.q), c.first, c.last) })
	}
	t.Run("a file that was not written to since", func(t *testing.T) {
		if err := os.Chtimes(path+".3", at(2), at(2)); err != nil {
			t.Fatal(err)
		}
		wantLines(t, readAll(t, f, Query{Since: at(3)}), 3, 9)
	})
	t.Run("no log", func(t *testing.T) {
		none := Files{Path: func(string) string { return path + "-none" }}
		wantLines(t, readAll(t, none, Query{Tail: 3}), 0, -1)
	})
	t.Run("emit fails", func(t *testing.T) {
		full, n := errors.New("full"), 0
		err := f.Read(t.Context(), Query{Daemon: "d"}, func(Entry) error { n++; return full })
		if err != full || n != 1 {
			t.Errorf("%v after %d", err, n)
		}
	})
}

// Tail is what a reader of everything would see last, wherever blocks, pieces
// and rotations fall.
func TestTail(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(dir, fmt.Sprint(rand.Int64())+".log")
		f := Files{Path: func(string) string { return path }}
		var all []string
		for range rapid.IntRange(1, 3).Draw(rt, "files") {
			var b []byte
			for range rapid.IntRange(0, 8).Draw(rt, "lines") {
				text := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 100, blockSize - 45, blockSize - 44, blockSize, 3 * blockSize}).Draw(rt, "length"))
				l := logger.Line{Time: epoch, Stream: logger.Stderr, Partial: true}
				for range rapid.IntRange(0, 2).Draw(rt, "pieces") {
					l.Text = []byte("piece ")
					b = logger.AppendLine(b, l)
					text = "piece " + text
				}
				l.Text, l.Partial = []byte(strings.TrimPrefix(strings.ReplaceAll(text, "piece ", ""), "")), false
				b = logger.AppendLine(b, l)
				all = append(all, text)
			}
			if err := logfile.Shift(path, 10); err != nil {
				rt.Fatal(err)
			}
			appendTo(t, path, b)
		}
		n := rapid.IntRange(1, 30).Draw(rt, "tail")
		want := all[max(0, len(all)-n):]
		got := readAll(t, f, Query{Tail: n})
		if len(got) != len(want) {
			rt.Fatalf("%d lines of %d, want %d", len(got), len(all), len(want))
		}
		for i, e := range got {
			if e.Line != want[i] || e.Stream != "stderr" {
				rt.Fatalf("line %d: %d bytes of %s, want %d", i, len(e.Line), e.Stream, len(want[i]))
			}
		}
		if err := logfile.Remove(path); err != nil {
			rt.Fatal(err)
		}
	})
}

// Files that containerd itself appends to have neither times nor streams.
func TestRaw(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	appendTo(t, path, []byte("one\ntwo words\n\nno newline"))
	f := Files{Path: func(string) string { return path }}
	for q, want := range map[Query]string{
		{}:        "one|two words||no newline",
		{Tail: 2}: "two words||no newline", // what has no end is not counted
	} {
		var got []string
		for _, e := range readAll(t, f, q) {
			if e.Stream != "stdout" || !e.Time.IsZero() {
				t.Errorf("%+v", e)
			}
			got = append(got, e.Line)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%+v: got %q, want %q", q, got, want)
		}
	}
}

// A follower sees every line once and in order, however the writer rotates.
func TestFollow(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			f, path := files(t, 5, 1)
			const lines = 300
			done := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var got []Entry
			go func() {
				done <- f.Read(ctx, Query{Daemon: "d", Tail: 3, Follow: true}, func(e Entry) error {
					if got = append(got, e); e.Line == fmt.Sprintf("line %d", lines-1) {
						cancel()
					}
					return nil
				})
			}()
			synctest.Wait() // it has read what is there
			for i := 5; i < lines; i++ {
				b := formed(i)
				cut := rng.IntN(len(b)) // a write may end anywhere
				appendTo(t, path, b[:cut])
				if rng.IntN(3) == 0 {
					time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
				}
				appendTo(t, path, b[cut:])
				if rng.IntN(4) == 0 {
					if err := logfile.Shift(path, 1000); err != nil {
						t.Fatal(err)
					}
					if rng.IntN(2) == 0 {
						time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
					}
				}
			}
			select {
			case err := <-done:
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			case <-time.After(time.Minute):
				t.Fatalf("seed %d: %d lines came, the last is %+v", seed, len(got), got[len(got)-1])
			}
			wantLines(t, got, 2, lines-1)
		})
	}
}

// A follower that comes first sees the log begin, be emptied in place, and be
// removed and made again.
func TestFollowTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "logs", "d.log")
		f := Files{Path: func(string) string { return path }}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		var got []string
		go func() {
			done <- f.Read(ctx, Query{Daemon: "d", Follow: true}, func(e Entry) error { got = append(got, e.Line); return nil })
		}()
		step := func(f func() error) {
			t.Helper()
			time.Sleep(time.Second)
			if err := f(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		step(func() error { return os.Mkdir(filepath.Dir(path), 0o755) })
		step(func() error { appendTo(t, path, formed(0)); appendTo(t, path, formed(1)); return nil })
		step(func() error { return os.Truncate(path, 0) })
		step(func() error { appendTo(t, path, formed(2)); return nil })
		step(func() error { return os.Remove(path) })
		step(func() error { appendTo(t, path, formed(3)); return nil })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if s := strings.Join(got, ","); s != "line 0,line 1,line 2,line 3" {
			t.Errorf("got %s", s)
		}
	})
}

// A line without an end must not fill the memory.
func TestEndlessLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.log")
	appendTo(t, path, []byte(strings.Repeat("x", 5*maxRaw/2)))
	var b []byte
	for range 2 * maxJoined / 1000 {
		b = logger.AppendLine(b, logger.Line{Time: epoch, Stream: logger.Stdout, Partial: true, Text: []byte(strings.Repeat("y", 1000))})
	}
	appendTo(t, path+".1", b)
	total := 0
	for _, e := range readAll(t, Files{Path: func(string) string { return path }}, Query{}) {
		if len(e.Line) > maxRaw+blockSize {
			t.Errorf("a line of %d bytes", len(e.Line))
		}
		total += len(e.Line)
	}
	if want := 5*maxRaw/2 + 2*maxJoined/1000*1000; total != want {
		t.Errorf("%d bytes, want %d", total, want)
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.000000006Z stdout P he\n2026-01-02T03:04:05.000000006Z stdout F llo\nraw\n"), 1)
	f.Add([]byte("\n\n\n"), 2)
	f.Fuzz(func(t *testing.T, b []byte, tail int) {
		path := filepath.Join(t.TempDir(), "d.log")
		appendTo(t, path, b)
		files := Files{Path: func(string) string { return path }}
		all := readAll(t, files, Query{})
		some := readAll(t, files, Query{Tail: tail})
		if tail >= 0 && len(some) > len(all) {
			t.Fatalf("tail %d gives %d of %d lines", tail, len(some), len(all))
		}
	})
}

func BenchmarkFiles(b *testing.B) {
	f, path := files(b, 0)
	var text []byte
	for i := range 10_000 {
		text = append(text, formed(i)...)
	}
	appendTo(b, path, text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		readAll(b, f, Query{})
	}
}
