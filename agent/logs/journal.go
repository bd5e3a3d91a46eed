package logs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Journal reads journald's entries through journalctl: the library for it
// needs cgo.
type Journal struct {
	// Namespace is containerd's, which tells the daemons of several agents on
	// one machine apart; "" takes all.
	Namespace string
	// Command is journalctl with arguments that come first; default: journalctl.
	Command []string
}

var _ Reader = Journal{}

// maxEntry bounds one entry in JSON. Bytes that are no text become numbers, of
// up to four characters each.
const maxEntry = 1 << 20

// Read implements Reader.
func (r Journal) Read(ctx context.Context, q Query, emit func(Entry) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	argv := append(r.command(), r.args(q)...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	var said limited
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	j := newJoiner(q, func(e Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return emit(e)
	})
	err = entries(out, j)
	if err == nil {
		err = j.end()
	}
	if err != nil {
		cancel(err) // so that Wait does not wait for a follower
	}
	werr := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(werr, &exit) && said.String() == "":
		return nil // some versions answer 1 when nothing matches
	case werr != nil:
		return fmt.Errorf("read the journal: %w: %s", werr, said.String())
	}
	return nil
}

func (r Journal) command() []string {
	if len(r.Command) == 0 {
		return []string{"journalctl"}
	}
	return append([]string(nil), r.Command...)
}

// args are those of journalctl(1).
func (r Journal) args(q Query) []string {
	args := []string{
		"--output=json", "--all", "--quiet", "--no-pager",
		"--output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE,_SOURCE_REALTIME_TIMESTAMP",
	}
	switch {
	case q.Tail > 0:
		args = append(args, "--lines="+strconv.Itoa(q.Tail))
	case q.Tail < 0:
		args = append(args, "--lines=0")
	default:
		args = append(args, "--lines=all")
	}
	if q.Follow {
		args = append(args, "--follow")
	}
	if !q.Since.IsZero() {
		// Whole seconds, which all versions read; the rest is left out by us.
		args = append(args, "--since=@"+strconv.FormatInt(q.Since.Unix(), 10))
	}
	// The loggers run as root; others may write these fields too.
	args = append(args, "_UID=0", "AGENTD_DAEMON="+q.Daemon)
	if r.Namespace != "" {
		args = append(args, "AGENTD_NAMESPACE="+r.Namespace)
	}
	return args
}

// entries decodes one entry per line. What cannot be decoded is left out.
func entries(r io.Reader, j *joiner) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, blockSize), maxEntry)
	for s.Scan() {
		e, partial, ok := decode(s.Bytes())
		if !ok {
			continue
		}
		if err := j.add(e.Time, e.Stream, []byte(e.Line), partial); err != nil {
			return err
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("read the journal: %w", err)
	}
	return nil // that the pipe was closed is told by Wait
}

// decode reads an entry as systemd.io/JOURNAL_EXPORT_FORMATS has it in JSON.
func decode(b []byte) (e Entry, partial, ok bool) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return Entry{}, false, false
	}
	text, ok := fieldText(fields["MESSAGE"])
	if !ok {
		return Entry{}, false, false
	}
	e = Entry{Stream: "stderr", Line: text}
	if p, _ := fieldText(fields["PRIORITY"]); p == "6" {
		e.Stream = "stdout"
	}
	// When the sender wrote it, or else when journald read it.
	for _, key := range []string{"_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"} {
		v, _ := fieldText(fields[key])
		if us, err := strconv.ParseInt(v, 10, 64); err == nil && us > 0 {
			e.Time = time.UnixMicro(us)
			break
		}
	}
	p, _ := fieldText(fields["CONTAINER_PARTIAL_MESSAGE"])
	return e, p == "true", true
}

// fieldText is a field's text: a string, an array of numbers for bytes that
// are no text, or an array of those when the field is there several times.
func fieldText(raw json.RawMessage) (string, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "", false
	}
	switch raw[0] {
	case '"':
		var s string
		return s, json.Unmarshal(raw, &s) == nil
	case '[':
		var parts []json.RawMessage
		if json.Unmarshal(raw, &parts) != nil {
			return "", false
		}
		if len(parts) > 0 {
			if c := bytes.TrimSpace(parts[0]); len(c) > 0 && (c[0] == '"' || c[0] == '[') {
				return fieldText(parts[0]) // two levels at most: numbers are next
			}
		}
		b := make([]byte, 0, len(parts))
		for _, p := range parts {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(p)), 10, 8)
			if err != nil {
				return "", false
			}
			b = append(b, byte(n))
		}
		return string(b), true
	}
	return "", false
}

// limited keeps the beginning of what is written to it.
type limited struct{ b strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if n := 4096 - l.b.Len(); n > 0 {
		l.b.Write(p[:min(n, len(p))])
	}
	return len(p), nil
}

func (l *limited) String() string { return strings.TrimSpace(l.b.String()) }
