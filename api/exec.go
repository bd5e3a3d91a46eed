package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// postExec checks the request, then leaves HTTP and runs a session of frames on
// the connection. What goes wrong afterwards is a frame.
func (s *Server) postExec(w http.ResponseWriter, r *http.Request) error {
	var req ExecRequest
	if err := readRequest(w, r, &req); err != nil {
		return err
	}
	if err := req.check(); err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), execProtocol) {
		w.Header().Set("Upgrade", execProtocol)
		return &Problem{Status: http.StatusUpgradeRequired, Detail: "a command's streams need another protocol than HTTP",
			Hint: "send Connection: Upgrade and Upgrade: " + execProtocol + "; see docs/api.md"}
	}
	s.sessions.Add(1)
	defer s.sessions.Done()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take the connection over: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+execProtocol+"\r\n\r\n"); err != nil {
		return nil // nobody is there to be told
	}
	s.session(r.Context(), conn, buffered.Reader, r.PathValue("name"), req)
	return nil
}

// check refuses what no runtime could run.
func (r ExecRequest) check() error {
	bad := func(format string, args ...any) error {
		return &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
	}
	if len(r.Argv) == 0 || r.Argv[0] == "" {
		return bad("there is no command")
	}
	for _, text := range append(append([]string{r.Cwd}, r.Argv...), r.Env...) {
		if strings.ContainsRune(text, 0) {
			return bad("%q has a zero byte", text)
		}
	}
	for _, e := range r.Env {
		if i := strings.IndexByte(e, '='); i < 1 {
			return bad("%q is not KEY=VALUE", e)
		}
	}
	if r.Cwd != "" && r.Cwd[0] != '/' {
		return bad("the working directory %q is not absolute", r.Cwd)
	}
	if strings.Trim(r.User, "0123456789:") != "" || strings.Count(r.User, ":") > 1 || r.User != strings.Trim(r.User, ":") {
		return bad("the user %q is not UID or UID:GID", r.User)
	}
	return nil
}

// session runs the command and returns when it has ended and its exit code was
// sent, or when the caller is gone.
func (s *Server) session(ctx context.Context, conn net.Conn, in *bufio.Reader, name string, req ExecRequest) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Output that nobody takes must not hold up the end.
	defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now().Add(lastWriteTime)) })()
	out := &frameWriter{w: conn}
	input := newInput(func(n int) { _ = out.write(frameRoom, encodeRoom(n)) })
	resize := make(chan WinSize, 1)
	received := make(chan struct{})
	go func() {
		defer close(received)
		defer close(resize)
		// The caller says when its input ends; whatever else ends the
		// receiving means that it is gone, or not to be trusted any longer.
		err := receive(in, input, resize)
		input.end(fmt.Errorf("the caller's input broke off: %w", err))
		cancel()
	}()
	streams := ExecStreams{Stdout: out.stream(frameStdout), Stderr: out.stream(frameStderr), Resize: resize}
	if req.Stdin {
		streams.Stdin = input
	}
	code, err := s.exec(ctx, name, req, streams)
	if err = streamError(ctx, err); err != nil {
		if payload, encodeErr := json.Marshal(problemOf(err)); encodeErr == nil {
			_ = out.write(frameProblem, payload) // a caller that went away is no news
		}
	} else if payload, encodeErr := json.Marshal(exitFrame{code}); encodeErr == nil {
		_ = out.write(frameExit, payload)
	}
	_ = conn.SetReadDeadline(time.Now()) // ends the receiving
	<-received
}

// exec keeps agentd alive when the backend panics.
func (s *Server) exec(ctx context.Context, name string, req ExecRequest, streams ExecStreams) (code int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = s.panicked("exec", name, v)
		}
	}()
	return s.cfg.Backend.Exec(ctx, name, req, streams)
}

// receive takes the caller's frames until it fails; it never waits for the
// command.
func receive(in io.Reader, input *input, resize chan WinSize) error {
	for {
		f, err := readFrame(in)
		if err != nil {
			return err
		}
		switch f.kind {
		case frameInput:
			if !input.add(f.payload) {
				return errors.New("more input than there was room for")
			}
		case frameEnd:
			input.end(io.EOF)
		case frameResize:
			size, err := decodeSize(f.payload)
			if err != nil {
				return err
			}
			select {
			case <-resize: // an older size that nobody took
			default:
			}
			resize <- size // the only sender, with room for one
		default:
			return fmt.Errorf("a frame of kind %d", f.kind)
		}
	}
}

// input is what the caller has sent and the command has not read yet, at most
// inputWindow bytes.
type input struct {
	taken func(n int) // called after n bytes were read, without mu
	wake  chan struct{}

	mu   sync.Mutex
	data []byte // guarded by mu
	err  error  // guarded by mu: what comes after data
}

func newInput(taken func(int)) *input { return &input{taken: taken, wake: make(chan struct{}, 1)} }

// add reports false when there is no room.
func (i *input) add(p []byte) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.data)+len(p) > inputWindow {
		return false
	}
	if i.err == nil {
		i.data = append(i.data, p...)
	}
	i.poke()
	return true
}

// end makes Read return err after what is left; the first end counts.
func (i *input) end(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		i.err = err
	}
	i.poke()
}

func (i *input) poke() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// Read is for one reader.
func (i *input) Read(p []byte) (int, error) {
	for {
		i.mu.Lock()
		n := copy(p, i.data)
		i.data = i.data[n:]
		err := i.err
		i.mu.Unlock()
		switch {
		case n > 0:
			i.taken(n)
			return n, nil
		case err != nil:
			return 0, err
		case len(p) == 0:
			return 0, nil
		}
		<-i.wake
	}
}
