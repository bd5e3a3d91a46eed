package logger

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// pieces cuts in as a reader does that gets chunks of the given sizes.
func pieces(in []byte, chunk func(room int) int) (out []Line) {
	var s splitter
	emit := func(text []byte, partial bool) {
		out = append(out, Line{Text: bytes.Clone(text), Partial: partial})
	}
	for len(in) > 0 {
		n := copy(s.space()[:chunk(len(s.space()))], in)
		in = in[n:]
		s.take(n, emit)
	}
	s.end(emit)
	return out
}

// However the bytes arrive, nothing is lost, torn or too long.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []byte
		for range rapid.IntRange(0, 6).Draw(t, "lines") {
			n := rapid.SampledFrom([]int{0, 1, 10, maxLine - 1, maxLine, maxLine + 1, 2*maxLine - 1, 2 * maxLine, 5 * maxLine}).Draw(t, "length")
			in = append(in, bytes.Repeat([]byte{'x'}, n)...)
			in = append(in, '\n')
		}
		in = append(in, bytes.Repeat([]byte{'y'}, rapid.SampledFrom([]int{0, 1, 3 * maxLine}).Draw(t, "rest"))...)
		got := pieces(slices.Clone(in), func(room int) int {
			return min(room, rapid.SampledFrom([]int{1, 7, 4096, maxLine, 2 * maxLine}).Draw(t, "chunk"))
		})
		var again []byte
		for _, l := range got {
			if len(l.Text) > maxLine && l.Partial || len(l.Text) > 2*maxLine {
				t.Fatalf("a piece of %d bytes", len(l.Text))
			}
			again = append(again, l.Text...)
			if !l.Partial {
				again = append(again, '\n')
			}
		}
		want := in
		if len(in) > 0 && in[len(in)-1] != '\n' {
			want = append(want, '\n')
		}
		if !bytes.Equal(again, want) {
			t.Fatalf("%d bytes became %d", len(want), len(again))
		}
	})
}

// A long line is not cut within a character.
func TestSplitCharacters(t *testing.T) {
	for _, char := range []string{"ä", "€", "𝄞"} {
		for shift := range 4 {
			in := []byte(strings.Repeat("x", shift) + strings.Repeat(char, maxLine))
			for _, l := range pieces(in, func(room int) int { return room }) {
				if !utf8.Valid(l.Text) {
					t.Fatalf("%q, shift %d: a piece of %d bytes is no text", char, shift, len(l.Text))
				}
			}
		}
	}
}

func TestBucket(t *testing.T) {
	now := time.Now()
	b := newBucket(10, 3, now)
	passed := func(n int) (ok int) {
		for range n {
			if b.take(now) {
				ok++
			}
		}
		return ok
	}
	if n := passed(5); n != 3 {
		t.Fatalf("%d at once, want the burst of 3", n)
	}
	now = now.Add(200 * time.Millisecond)
	if n := passed(5); n != 2 {
		t.Fatalf("%d after 200 ms, want 2", n)
	}
	now = now.Add(time.Hour)
	if n := passed(5); n != 3 {
		t.Fatalf("%d after an hour, want no more than the burst", n)
	}
	now = now.Add(-2 * time.Hour) // the clock goes back
	if n := passed(5); n != 0 {
		t.Fatalf("%d after the clock went back", n)
	}
	now = now.Add(100 * time.Millisecond)
	if n := passed(5); n != 1 {
		t.Fatalf("%d 100 ms later, want 1", n)
	}
	b = newBucket(-1, 1, now)
	if n := passed(1000); n != 1000 {
		t.Fatalf("%d without a limit", n)
	}
}

// The arguments that containerd makes of a URI give back what agentd meant.
func TestURI(t *testing.T) {
	for _, o := range []Options{
		{Daemon: "a", Sink: SinkJournald},
		{Daemon: "node-exporter", Sink: SinkFile, Path: "/var/lib/agentd/logs/node-exporter.log", MaxSize: 1 << 20, MaxFiles: 7, Rate: 5, Burst: 9},
		{Daemon: "a", Sink: SinkFile, Path: "/odd dir/ä&b=c?d#e%20+.log", Rate: -1},
		{Daemon: "a", Sink: SinkJournald, Socket: "/s"},
	} {
		uri, err := o.URI("/usr/libexec/agentd/agentd log")
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(uri)
		if err != nil || u.Path != "/usr/libexec/agentd/agentd log" || u.Scheme != "binary" {
			t.Fatalf("%s: %v", uri, err)
		}
		var args []string
		for k, v := range u.Query() { // in any order, as containerd does
			args = append(args, k, v[0])
		}
		env := map[string]string{"CONTAINER_ID": "a.next", "CONTAINER_NAMESPACE": "ns"}
		got, err := ParseArgs(args, func(k string) string { return env[k] })
		o.Container, o.Namespace = "a.next", "ns"
		if err != nil || got != o {
			t.Errorf("%s: got %+v, %v; want %+v", uri, got, err, o)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{
		{},
		{Daemon: "a", Sink: "syslog"},
		{Daemon: "a", Sink: SinkFile},
		{Daemon: "a", Sink: SinkFile, Path: "relative.log"},
		{Daemon: "a\nPRIORITY=0", Sink: SinkJournald},
	} {
		if _, err := o.URI("/p"); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if _, err := (Options{Daemon: "a", Sink: SinkJournald}).URI("relative"); err == nil {
		t.Error("a relative program was taken")
	}
	for _, args := range [][]string{{"daemon"}, {"daemon", "a", "sink", "file", "path", "/p", "max-size", "x"}, {"daemon", "a"}} {
		if _, err := ParseArgs(args, func(string) string { return "" }); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	// A newer agentd may say more than we know.
	if _, err := ParseArgs([]string{"daemon", "a", "sink", "journald", "compress", "yes"}, func(string) string { return "" }); err != nil {
		t.Errorf("a key of a newer agentd: %v", err)
	}
}

func TestRecord(t *testing.T) {
	want := []Line{
		{Time: time.Unix(1, 2), Stream: Stdout, Text: []byte("a")},
		{Time: time.Unix(3, 4), Stream: Stderr, Partial: true, Text: []byte{}},
		{Time: time.Unix(5, 6), Stream: Stderr, Text: bytes.Repeat([]byte("b"), maxLine)},
	}
	var b []byte
	for _, l := range want {
		b = appendRecord(b, l)
	}
	for _, w := range want {
		l, note, n := record(b)
		b = b[n:]
		if fmt.Sprint(l) != fmt.Sprint(w) || note {
			t.Errorf("got %v, want %v", l, w)
		}
	}
	if len(b) != 0 {
		t.Errorf("%d bytes left", len(b))
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.000000006Z stdout F hello"))
	f.Add([]byte("2026-01-02T03:04:05.000000006Z stderr P "))
	f.Add([]byte("2026-01-02T03:04:05Z stdout F"))
	f.Add([]byte("plain text"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, ok := ParseLine(b)
		if !ok {
			return
		}
		if l.Time.Year() < 0 || l.Time.Year() > 9999 {
			return // RFC 3339 has no such years, offsets lead there
		}
		again, ok := ParseLine(bytes.TrimSuffix(AppendLine(nil, l), []byte{'\n'}))
		if !ok || !again.Time.Equal(l.Time) || again.Stream != l.Stream || again.Partial != l.Partial || !bytes.Equal(again.Text, l.Text) {
			t.Fatalf("%q became %+v, and that %+v", b, l, again)
		}
	})
}
