package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxLine bounds one document of a stream; a log line is a few KiB.
const maxLine = 4 << 20

// Restart stops a daemon's container on this node and has it started again.
func (c *Client) Restart(ctx context.Context, name string) (Restarted, error) {
	return call[Restarted](ctx, c, http.MethodPost, "/v1/restart/"+url.PathEscape(name), nil, nil, leaveTime)
}

// Top returns what the containers of this node use.
func (c *Client) Top(ctx context.Context) (Top, error) { return get[Top](ctx, c, "/v1/top", nil) }

// Volumes lists the volumes of this node.
func (c *Client) Volumes(ctx context.Context) (Volumes, error) {
	return get[Volumes](ctx, c, "/v1/volumes", nil)
}

// PruneVolumes removes volumes that no daemon uses: those named, or all.
func (c *Client) PruneVolumes(ctx context.Context, names []string) (Pruned, error) {
	body, err := json.Marshal(PruneRequest{Names: names})
	if err != nil {
		return Pruned{}, err
	}
	return call[Pruned](ctx, c, http.MethodPost, "/v1/volumes/prune", nil, body, pruneTime)
}

// Logs emits the lines of a daemon's container on this node, oldest first. With
// q.Follow it returns only when ctx ends (context.Canceled), when the
// connection breaks (*UnreachableError), on a *Problem, or with emit's error.
func (c *Client) Logs(ctx context.Context, q LogQuery, emit func(LogLine) error) error {
	v := url.Values{}
	if q.Follow {
		v.Set("follow", "1")
	}
	if q.Tail >= 0 {
		v.Set("tail", strconv.Itoa(q.Tail))
	}
	setTime(v, "since", q.Since)
	return stream(ctx, c, "/v1/logs/"+url.PathEscape(q.Daemon), v, emit)
}

// Events emits what happened on this node since then, oldest first, and with
// follow what happens; see Logs for its end.
func (c *Client) Events(ctx context.Context, since time.Time, follow bool, emit func(Event) error) error {
	v := url.Values{}
	if follow {
		v.Set("follow", "1")
	}
	setTime(v, "since", since)
	return stream(ctx, c, "/v1/events", v, emit)
}

func setTime(v url.Values, name string, t time.Time) {
	if !t.IsZero() {
		v.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

// stream reads documents, one per line, until they end.
func stream[T any](ctx context.Context, c *Client, path string, query url.Values, emit func(T) error) error {
	req, err := newRequest(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return readProblem(resp)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		var last lastLine
		var doc T
		if err := errors.Join(json.Unmarshal(in.Bytes(), &doc), json.Unmarshal(in.Bytes(), &last)); err != nil {
			return fmt.Errorf("read agentd's answer to GET %s: %w", path, err)
		}
		if last.Problem != nil {
			return last.Problem
		}
		if err := emit(doc); err != nil {
			return err
		}
	}
	switch err := in.Err(); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return c.unreachable(ctx.Err())
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("read agentd's answer to GET %s: a line is longer than %d bytes", path, maxLine)
	default:
		return c.unreachable(err)
	}
}

// readProblem reads an answer that is not a success.
func readProblem(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read agentd's answer: %w", err)
	}
	return decodeProblem(resp.StatusCode, resp.Header.Get("Content-Type"), body)
}

// Exec runs a command in a daemon's container and returns its exit code. The
// streams are the caller's: a nil Stdin is no input. A Stdin whose Read does
// not end keeps a goroutine after Exec has returned, until that Read ends; what
// it read is lost. When ctx ends, agentd kills the command.
func (c *Client) Exec(ctx context.Context, name string, req ExecRequest, streams ExecStreams) (int, error) {
	req.Stdin = streams.Stdin != nil
	body, err := json.Marshal(req)
	if err != nil {
		return 0, err
	}
	conn, err := c.upgrade(ctx, "/v1/exec/"+url.PathEscape(name), body)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	out := &frameWriter{w: conn}
	room := make(chan int, 1) // what the command has read since it was last looked at
	if streams.Stdin != nil {
		go sendInput(ctx, streams.Stdin, out, room)
	}
	resized := make(chan struct{})
	go func() {
		defer close(resized)
		sendSizes(ctx, streams.Resize, out)
	}()
	code, err := receiveOutput(bufio.NewReaderSize(conn, chunk), streams, room)
	parent := ctx.Err()
	cancel()
	<-resized
	var problem *Problem
	switch {
	case err == nil, errors.As(err, &problem), errors.As(err, new(*outputError)):
		return code, err
	case parent != nil:
		return 0, c.unreachable(parent)
	}
	return 0, c.unreachable(err)
}

// upgrade makes a request and returns its connection, taken over from HTTP.
func (c *Client) upgrade(ctx context.Context, path string, body []byte) (io.ReadWriteCloser, error) {
	// Only the answer has a deadline; the session is as long as the command.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(readTime+headerTime, func() { cancel(context.DeadlineExceeded) })
	defer limit.Stop()
	req, err := newRequest(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", execProtocol)
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			err = context.DeadlineExceeded
		}
		return nil, c.unreachable(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, readProblem(resp)
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || !strings.EqualFold(resp.Header.Get("Upgrade"), execProtocol) {
		resp.Body.Close()
		return nil, fmt.Errorf("agentd answered to POST %s with protocol %.40q", path, resp.Header.Get("Upgrade"))
	}
	return conn, nil
}

// outputError is a stream of the caller that can't be written.
type outputError struct{ err error }

func (e *outputError) Error() string { return "write the command's output: " + e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

// receiveOutput writes what comes until the exit code does.
func receiveOutput(in io.Reader, streams ExecStreams, room chan int) (int, error) {
	for {
		f, err := readFrame(in)
		if err != nil {
			return 0, err
		}
		switch f.kind {
		case frameStdout, frameStderr:
			w := streams.Stdout
			if f.kind == frameStderr {
				w = streams.Stderr
			}
			if w == nil {
				continue
			}
			if _, err := w.Write(f.payload); err != nil {
				return 0, &outputError{err}
			}
		case frameRoom:
			n, err := decodeRoom(f.payload)
			if err != nil {
				return 0, err
			}
			select {
			case have := <-room:
				n += have
			default:
			}
			room <- n // the only sender, with room for one
		case frameExit:
			var exit exitFrame
			if err := json.Unmarshal(f.payload, &exit); err != nil {
				return 0, fmt.Errorf("read the exit code: %w", err)
			}
			return exit.ExitCode, nil
		case frameProblem:
			p := &Problem{}
			if err := json.Unmarshal(f.payload, p); err != nil {
				return 0, fmt.Errorf("read why the command ended: %w", err)
			}
			return 0, p
		}
		// Kinds that a newer agentd may send are of no importance to us.
	}
}

// sendInput sends r until it ends, never more than the command has room for.
func sendInput(ctx context.Context, r io.Reader, out *frameWriter, room <-chan int) {
	have := inputWindow
	buf := make([]byte, chunk)
	for {
		for have == 0 {
			select {
			case n := <-room:
				have += n
			case <-ctx.Done():
				return
			}
		}
		n, err := r.Read(buf[:min(len(buf), have)])
		if n > 0 {
			have -= n
			if out.write(frameInput, buf[:n]) != nil {
				return // the receiving side says why
			}
		}
		if err != nil {
			_ = out.write(frameEnd, nil)
			return
		}
		select {
		case n := <-room:
			have += n
		case <-ctx.Done():
			return
		default:
		}
	}
}

func sendSizes(ctx context.Context, sizes <-chan WinSize, out *frameWriter) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok || out.write(frameResize, encodeSize(size)) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
