package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/agent/config"
)

// journald is a socket that takes entries.
type journald struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newJournald(t *testing.T) *journald {
	j := &journald{t: t, path: filepath.Join(t.TempDir(), "socket")}
	j.listen()
	return j
}

func (j *journald) listen() {
	j.t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: j.path, Net: "unixgram"})
	if err != nil {
		j.t.Fatal(err)
	}
	j.conn = conn
	j.t.Cleanup(func() { conn.Close() })
}

// entry reads one, by the protocol's rules.
func (j *journald) entry() map[string]string {
	j.t.Helper()
	b := make([]byte, 1<<18)
	n, err := j.conn.Read(b)
	if err != nil {
		j.t.Fatal(err)
	}
	b = b[:n]
	out := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			j.t.Fatalf("an entry ends in %q", b)
		}
		if name, value, plain := strings.Cut(string(line), "="); plain {
			out[name], b = value, rest
			continue
		}
		size := binary.LittleEndian.Uint64(rest)
		out[string(line)] = string(rest[8 : 8+size])
		b = rest[8+size+1:]
	}
	return out
}

func testJournal(t *testing.T, format string, level slog.Level) (*journald, *slog.Logger, *bytes.Buffer) {
	cfg := config.Default()
	cfg.Node.Name, cfg.Ring.Name, cfg.Log.Format = "web-1", "prod", format
	j, stderr := newJournald(t), &bytes.Buffer{}
	h := newJournalHandler(cfg, level, stderr)
	h.sink.addr = j.path
	return j, slog.New(h), stderr
}

func TestJournalEntries(t *testing.T) {
	j, log, stderr := testJournal(t, "text", slog.LevelInfo)
	log.Debug("not this one")
	log.With("daemon", "web").Warn("container ended", "revision", 7, "reason", "out of memory", "err", errors.New("exit\n137"))
	got := j.entry()
	want := map[string]string{
		"MESSAGE":           `container ended daemon=web revision=7 reason="out of memory" err="exit\n137"`,
		"PRIORITY":          "4",
		"SYSLOG_IDENTIFIER": "agentd",
		"NODE":              "web-1", "RING": "prod", "DAEMON": "web", "REVISION": "7", "REASON": "out of memory", "ERR": "exit\n137",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("entry %q", got)
	}
	for level, priority := range map[slog.Level]string{slog.LevelInfo: "6", slog.LevelError: "3"} {
		log.Log(t.Context(), level, "done")
		if got := j.entry(); got["PRIORITY"] != priority || got["MESSAGE"] != "done" {
			t.Errorf("level %s: %q", level, got)
		}
	}
	log.WithGroup("pull").With("ref", "a").Info("one", slog.Group("at", "ms", 3), "_hidden", "x", "1st", "y", "", "z")
	got = j.entry()
	if got["PULL_REF"] != "a" || got["PULL_AT_MS"] != "3" || got["PULL__HIDDEN"] != "x" || got["MESSAGE"] == "" {
		t.Errorf("groups: %q", got)
	}
	if stderr.Len() != 0 {
		t.Errorf("stderr: %s", stderr)
	}
}

// [log] format holds for the message; fields are there in both.
func TestJournalJSON(t *testing.T) {
	j, log, _ := testJournal(t, "json", slog.LevelDebug)
	log.Debug("turned", "daemon", "web")
	if got := j.entry(); got["MESSAGE"] != `{"msg":"turned","daemon":"web"}` || got["DAEMON"] != "web" || got["PRIORITY"] != "7" {
		t.Errorf("entry %q", got)
	}
}

// journald is restarted, is away, and is sent more than it takes.
func TestJournaldComesAndGoes(t *testing.T) {
	j, log, stderr := testJournal(t, "text", slog.LevelInfo)
	log.Info("one")
	j.entry()
	j.conn.Close()
	os.Remove(j.path)
	log.Info("nobody reads the socket")
	if got := stderr.String(); got != "nobody reads the socket\n" {
		t.Errorf("stderr: %q", got)
	}
	j.listen()
	log.Info("two")
	if got := j.entry(); got["MESSAGE"] != "two" {
		t.Errorf("after its restart: %q", got)
	}
	log.Error("much", "stack", strings.Repeat("x", 3*maxEntry))
	if got := j.entry(); !strings.HasPrefix(got["MESSAGE"], "much stack=xxx") || got["SYSLOG_IDENTIFIER"] != "agentd" {
		t.Errorf("a large entry begins %.80q", got["MESSAGE"])
	}
}

// A journald that does not read holds nobody up, nor is the line written to
// stderr, which it would not read either.
func TestJournaldHangs(t *testing.T) {
	_, log, stderr := testJournal(t, "text", slog.LevelInfo)
	for range 2000 { // more than a socket's queue holds
		log.Info("x")
		if stderr.Len() > 0 {
			break
		}
		if err := log.Handler().(*journalHandler).sink.send(appendField(nil, "MESSAGE", "x"), "x"); err != nil {
			if !isTimeout(err) {
				t.Error(err)
			}
			return
		}
	}
	t.Errorf("it never was full; stderr: %q", stderr)
}

func TestFieldName(t *testing.T) {
	for key, want := range map[string]string{
		"daemon": "DAEMON", "exit-code": "EXIT_CODE", "_PID": "PID", "9lives": "LIVES", "": "", "ünicode": "NICODE",
		strings.Repeat("a", 100): strings.Repeat("A", 64),
	} {
		if got := fieldName(key); got != want {
			t.Errorf("%q is %q, want %q", key, got, want)
		}
	}
}
