package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/agentd/agentd/agent/config"
)

const (
	// journalWait is how long an entry may wait for journald: one that hangs must
	// not hold up supervision. go-systemd's Send would wait for ever.
	journalWait = 100 * time.Millisecond
	// maxEntry keeps an entry within one datagram, in bytes; see unix(7) and
	// net.core.wmem_default.
	maxEntry = 64 << 10
)

// journalHandler writes records to journald: the line that a reader sees, and
// each of its parts as a field (DAEMON=, REVISION=, REASON=, …). A Handler may be
// used from any goroutine.
type journalHandler struct {
	sink *journalSink
	// line formats the message, with what was added by WithAttrs.
	line   slog.Handler
	text   *lineBuffer
	level  slog.Leveler
	prefix string // of fields: the groups that are open
	fields []byte // that every entry has
}

// journalSink is what all handlers of one log share.
type journalSink struct {
	addr     string
	fallback io.Writer // for what journald does not take

	mu   sync.Mutex
	conn *net.UnixConn // guarded by mu; nil: to be opened
}

// lineBuffer is where line formats to.
type lineBuffer struct {
	mu sync.Mutex // held from formatting to reading
	b  bytes.Buffer
}

func (l *lineBuffer) Write(p []byte) (int, error) { return l.b.Write(p) }

func newJournalHandler(cfg config.Config, level slog.Leveler, fallback io.Writer) *journalHandler {
	h := &journalHandler{
		sink: &journalSink{addr: config.JournalSocket, fallback: fallback}, text: &lineBuffer{}, level: level,
	}
	h.fields = appendField(h.fields, "SYSLOG_IDENTIFIER", "agentd")
	h.fields = appendField(h.fields, "NODE", cfg.Node.Name)
	h.fields = appendField(h.fields, "RING", cfg.Ring.Name)
	h.line = messages(cfg.Log, h.text)
	return h
}

// messages writes what is left of a line when time and level are told apart.
func messages(c config.Log, w io.Writer) slog.Handler {
	return lines(c, w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}})
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.fields = bytes.Clone(h.fields)
	for _, a := range attrs {
		out.fields = appendAttr(out.fields, h.prefix, a)
	}
	out.line = h.line.WithAttrs(attrs)
	return &out
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	out := *h
	if name != "" {
		out.prefix = h.prefix + name + "_"
	}
	out.line = h.line.WithGroup(name)
	return &out
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	text, err := h.message(ctx, r)
	if err != nil {
		return err
	}
	entry := appendField(nil, "MESSAGE", text)
	entry = appendField(entry, "PRIORITY", strconv.Itoa(int(priority(r.Level))))
	entry = append(entry, h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		entry = appendAttr(entry, h.prefix, a)
		return true
	})
	return h.sink.send(entry, text)
}

// message is what a reader of the journal sees: "image pulled daemon=web", or
// the same as JSON.
func (h *journalHandler) message(ctx context.Context, r slog.Record) (string, error) {
	h.text.mu.Lock()
	defer h.text.mu.Unlock()
	h.text.b.Reset()
	if err := h.line.Handle(ctx, r); err != nil {
		return "", err
	}
	return readable(strings.TrimSuffix(h.text.b.String(), "\n"), r.Message), nil
}

// readable takes the quotes and the key off the message of a text line.
func readable(line, msg string) string {
	for _, head := range []string{"msg=" + strconv.Quote(msg), "msg=" + msg} {
		if rest, ok := strings.CutPrefix(line, head); ok && (rest == "" || rest[0] == ' ') {
			return msg + rest
		}
	}
	return line
}

// priority is syslog's for a level.
func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// appendAttr adds an attribute as a field, a group as one for each of its own.
func appendAttr(entry []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		return appendField(entry, fieldName(prefix+a.Key), v.String())
	}
	if a.Key != "" {
		prefix += a.Key + "_"
	}
	for _, one := range v.Group() {
		entry = appendAttr(entry, prefix, one)
	}
	return entry
}

// fieldName makes a field's name of a key: A-Z, 0-9 and _, at most 64, neither
// beginning with what journald keeps for itself nor with a digit.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, key)
	name = strings.TrimLeft(name, "_0123456789")
	return name[:min(len(name), 64)]
}

// appendField adds a field in journald's native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL); one without a name is left out.
func appendField(entry []byte, name, value string) []byte {
	if name == "" {
		return entry
	}
	entry = append(entry, name...)
	if !strings.Contains(value, "\n") {
		entry = append(append(entry, '='), value...)
		return append(entry, '\n')
	}
	entry = binary.LittleEndian.AppendUint64(append(entry, '\n'), uint64(len(value)))
	return append(append(entry, value...), '\n')
}

// send sends an entry, or writes its text where journald does not take it.
func (s *journalSink) send(entry []byte, text string) error {
	if len(entry) > maxEntry { // the fields are what is too long
		entry = appendField(nil, "MESSAGE", text[:min(len(text), maxEntry-1024)])
		entry = appendField(entry, "SYSLOG_IDENTIFIER", "agentd")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for range 2 { // journald may have been restarted since
		if s.conn == nil {
			if s.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.addr, Net: "unixgram"}); err != nil {
				s.conn = nil
				break
			}
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(journalWait)) // only a closed one refuses
		if _, err = s.conn.Write(entry); err == nil {
			return nil
		}
		_ = s.conn.Close()
		s.conn = nil
	}
	// stderr is the journal's too, and may be as stuck: only lines that journald
	// would not take are worth that.
	if isTimeout(err) {
		return err
	}
	_, werr := io.WriteString(s.fallback, text+"\n")
	return werr
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
