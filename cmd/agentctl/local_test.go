package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/agentd/agentd/api"
)

func TestParseSince(t *testing.T) {
	local := func(text string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04:05", text, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for text, want := range map[string]time.Time{
		"":                            {},
		"0s":                          t0,
		"90s":                         t0.Add(-90 * time.Second),
		"1h30m":                       t0.Add(-90 * time.Minute),
		"2d":                          t0.Add(-48 * time.Hour),
		"2026-01-02T01:00:00Z":        time.Date(2026, 1, 2, 1, 0, 0, 0, time.UTC),
		"2026-01-02T01:00:00.5+02:00": time.Date(2026, 1, 1, 23, 0, 0, 5e8, time.UTC),
		"2026-01-02T01:02:03":         local("2026-01-02 01:02:03"),
		"2026-01-02 01:02":            local("2026-01-02 01:02:00"),
		"2026-01-02":                  local("2026-01-02 00:00:00"),
	} {
		got, err := parseSince(text, t0)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"-5m", "5", "yesterday", "-2d", "99999999d", "d", "2026-13-01", "10:30"} {
		if got, err := parseSince(text, t0); err == nil {
			t.Errorf("%q was taken as %v", text, got)
		}
	}
}

func TestBytesWord(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 1024*1024 - 1: "1MiB", 12884902: "12.3MiB", 200 << 20: "200MiB",
		3 << 30: "3GiB", 1<<64 - 1: "16EiB",
	} {
		if got := bytesWord(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestUsages(t *testing.T) {
	at := func(s float64) *time.Time {
		v := t0.Add(time.Duration(s * float64(time.Second)))
		return &v
	}
	look := func(d ...api.TopDaemon) api.Top { return api.Top{Daemons: d} }
	percent := func(p float64) *float64 { return &p }
	for _, c := range []struct {
		why           string
		first, second api.TopDaemon
		want          *float64
	}{
		{"half a core", api.TopDaemon{Name: "a", PID: 1, At: at(0), CPUSeconds: 10}, api.TopDaemon{Name: "a", PID: 1, At: at(2), CPUSeconds: 11}, percent(50)},
		{"two cores", api.TopDaemon{Name: "a", PID: 1, At: at(0)}, api.TopDaemon{Name: "a", PID: 1, At: at(0.5), CPUSeconds: 1}, percent(200)},
		{"idle", api.TopDaemon{Name: "a", PID: 1, At: at(0), CPUSeconds: 3}, api.TopDaemon{Name: "a", PID: 1, At: at(1), CPUSeconds: 3}, percent(0)},
		{"another instance", api.TopDaemon{Name: "a", PID: 1, At: at(0), CPUSeconds: 1}, api.TopDaemon{Name: "a", PID: 2, At: at(1), CPUSeconds: 2}, nil},
		{"another daemon", api.TopDaemon{Name: "b", PID: 1, At: at(0)}, api.TopDaemon{Name: "a", PID: 1, At: at(1), CPUSeconds: 2}, nil},
		{"not measured before", api.TopDaemon{Name: "a", PID: 1}, api.TopDaemon{Name: "a", PID: 1, At: at(1), CPUSeconds: 2}, nil},
		{"not measured now", api.TopDaemon{Name: "a", PID: 1, At: at(0)}, api.TopDaemon{Name: "a", PID: 1}, nil},
		{"the same look twice", api.TopDaemon{Name: "a", PID: 1, At: at(1)}, api.TopDaemon{Name: "a", PID: 1, At: at(1)}, nil},
		{"a counter that went back", api.TopDaemon{Name: "a", PID: 1, At: at(0), CPUSeconds: 9}, api.TopDaemon{Name: "a", PID: 1, At: at(1), CPUSeconds: 1}, nil},
	} {
		got := usages(look(c.first), look(c.second))
		if len(got) != 1 || fmt.Sprint(deref(got[0].CPUPercent)) != fmt.Sprint(deref(c.want)) {
			t.Errorf("%s: %v, want %v", c.why, deref(got[0].CPUPercent), deref(c.want))
		}
	}
	if got := usages(look(), look()); got == nil || len(got) != 0 {
		t.Errorf("nothing runs: %v", got)
	}
}

func deref(p *float64) any {
	if p == nil {
		return nil
	}
	return *p
}

func TestForScreen(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext":                "plain\ttext",
		"\x1b[1;31mred\x1b[0m":       "\x1b[1;31mred\x1b[0m",
		"\x1b[38:5:208mx\x1b[m":      "\x1b[38:5:208mx\x1b[m",
		"\x1b[2Jgone":                "?[2Jgone",
		"\x1b]0;title\a":             "?]0;title?",
		"\x1b[31":                    "?[31",
		"\x1b":                       "?",
		"back\b\b\b\r\nover":         "back???? over",
		"\u202eright to left":        "?right to left",
		"\x9b2J":                     "?2J",
		"\x1b[31;\x1b[0m":            "?[31;\x1b[0m",
		"\x1b[?25lhidden\x1b[0;0;0m": "?[?25lhidden\x1b[0;0;0m",
	} {
		if got := forScreen(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// Whatever a container prints, only colours drive the terminal.
func FuzzForScreen(f *testing.F) {
	f.Add("\x1b[1;31mred\x1b[0m\x1b[2J\xff\t")
	f.Fuzz(func(t *testing.T, s string) {
		out := forScreen(s)
		for rest := out; ; {
			i := strings.IndexByte(rest, '\x1b')
			if i < 0 {
				break
			}
			n := colorLength(rest[i:])
			if n == 0 {
				t.Fatalf("%q became %q", s, out)
			}
			rest = rest[i+n:]
		}
		if strings.ContainsFunc(out, func(r rune) bool { return r != '\t' && r != '\x1b' && !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", s, out)
		}
		if again := forScreen(out); again != out {
			t.Errorf("%q, then %q", out, again)
		}
	})
}

// A stream that broke goes on where it was: no line twice, none left out, not
// even among those of the same instant.
func TestLogsGoOn(t *testing.T) {
	a, stdout, _ := testApp(t)
	at := func(i int) time.Time { return t0.Add(time.Duration(i/3) * time.Second) }
	var all []api.LogLine
	for i := range 12 {
		all = append(all, api.LogLine{Time: at(i), Stream: api.Stdout, Line: fmt.Sprint(i)})
	}
	for cut := range all {
		stdout.Reset()
		w := logWriter{app: a}
		q := w.from(api.LogQuery{Daemon: "a", Follow: true, Tail: 9})
		for _, l := range all[3:max(cut, 3)] { // the newest nine, of which the last did not come
			if err := w.write(l); err != nil {
				t.Fatal(err)
			}
		}
		again := w.from(q)
		from := len(all) - again.Tail
		if again.Tail == api.AllLines {
			from = 0
		}
		for _, l := range all[from:] {
			if l.Time.Before(again.Since) {
				continue
			}
			if err := w.write(l); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(strings.Fields(stdout.String()), " "); got != "3 4 5 6 7 8 9 10 11" {
			t.Errorf("cut before %d: %s", cut, got)
		}
	}
	// Where nobody noted the time, what comes is all that can be asked for.
	w := logWriter{app: a}
	if err := w.write(api.LogLine{Line: "x"}); err != nil {
		t.Fatal(err)
	}
	if q := w.from(api.LogQuery{Tail: 10}); q.Tail != 0 || !q.Since.IsZero() {
		t.Errorf("asked for %+v", q)
	}
}
