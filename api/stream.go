package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// linesType is the media type of a stream of JSON documents, one per line.
const linesType = "application/x-ndjson"

// errStopping ends streams when the server ends.
var errStopping = &Problem{Status: http.StatusServiceUnavailable, Detail: "agentd is stopping",
	Hint: "containers go on; try again when it is back"}

// runKey finds the context of Server.Run in a request's: streams end with it,
// while short requests are answered first.
type runKey struct{}

// streamContext ends with the caller's connection, and, for errStopping, with
// the server's Run.
func streamContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() bool { return true }
	if run, ok := ctx.Value(runKey{}).(context.Context); ok {
		stop = context.AfterFunc(run, func() { cancel(errStopping) })
	}
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// streamError says why a stream ended: what the backend makes of the end of its
// context is not the reason.
func streamError(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStopping) {
		return errStopping
	}
	return err
}

// lines serves what read emits, each document on a line of its own. An error
// before the first is an answer of its own; later it is the last line,
// {"problem": …}. With follow each line is sent at once. A caller that reads
// slowly, such as a pager, holds up the backend and nobody else.
func lines[T any](w http.ResponseWriter, r *http.Request, follow bool, read func(context.Context, func(T) error) error) error {
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(time.Time{})
	defer context.AfterFunc(r.Context(), func() { _ = out.SetWriteDeadline(time.Now().Add(lastWriteTime)) })()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	begun := false
	send := func(v any) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", linesType)
		}
		buf.Reset()
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
		if _, err := w.Write(buf.Bytes()); err != nil {
			return err
		}
		if follow {
			return out.Flush()
		}
		return nil
	}
	err := streamError(r.Context(), read(r.Context(), func(v T) error { return send(v) }))
	switch {
	case err == nil && !begun:
		w.Header().Set("Content-Type", linesType)
	case err != nil && !begun:
		return err
	case err != nil:
		_ = send(lastLine{problemOf(err)}) // a caller that went away is no news
	}
	return nil
}

// lastLine ends a stream that could not go on.
type lastLine struct {
	Problem *Problem `json:"problem"`
}

func (s *Server) getLogs(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	q := LogQuery{Daemon: r.PathValue("name"), Tail: AllLines}
	var err error
	if q.Follow, err = flagOf(v, "follow"); err != nil {
		return err
	}
	if q.Since, err = timeOf(v, "since"); err != nil {
		return err
	}
	if tail := v.Get("tail"); tail != "" {
		if q.Tail, err = strconv.Atoi(tail); err != nil || q.Tail < 0 {
			return &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("tail is %q", tail), Hint: "use a number of lines: tail=100"}
		}
	}
	return lines(w, r, q.Follow, func(ctx context.Context, emit func(LogLine) error) error {
		return s.cfg.Backend.Logs(ctx, q, emit)
	})
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	follow, err := flagOf(v, "follow")
	if err != nil {
		return err
	}
	since, err := timeOf(v, "since")
	if err != nil {
		return err
	}
	return lines(w, r, follow, func(ctx context.Context, emit func(Event) error) error {
		return s.cfg.Backend.Events(ctx, since, follow, emit)
	})
}

// flagOf reads a parameter that is 1 or 0.
func flagOf(v url.Values, name string) (bool, error) {
	switch text := v.Get(name); text {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%s is %q", name, text), Hint: "use " + name + "=1"}
	}
}

// timeOf reads a parameter that is a time; the zero time when it is not there.
func timeOf(v url.Values, name string) (time.Time, error) {
	text := v.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%s is %q", name, text),
			Hint: "use a time as in " + name + "=2006-01-02T15:04:05Z"}
	}
	return t, nil
}
