package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

type execFunc = func(context.Context, ExecRequest, ExecStreams) (int, error)

func execClient(t *testing.T, f execFunc) *Client {
	t.Helper()
	socket, _ := serve(t, ServerConfig{Backend: &stub{exec: f}})
	return NewClient(socket)
}

func TestExec(t *testing.T) {
	c := execClient(t, func(_ context.Context, req ExecRequest, s ExecStreams) (int, error) {
		if s.Stdin != nil {
			return 0, errors.New("there is input")
		}
		fmt.Fprintf(s.Stdout, "%q %q %s %s %t\n", req.Argv, req.Env, req.Cwd, req.User, req.TTY)
		fmt.Fprint(s.Stderr, "trouble")
		return 42, nil
	})
	var out, trouble bytes.Buffer
	code, err := c.Exec(t.Context(), "a", ExecRequest{Argv: []string{"ls", "-l"}, Env: []string{"A=b"}, Cwd: "/tmp", User: "1:2"},
		ExecStreams{Stdout: &out, Stderr: &trouble})
	if err != nil || code != 42 {
		t.Fatalf("code %d: %v", code, err)
	}
	if want := "[\"ls\" \"-l\"] [\"A=b\"] /tmp 1:2 false\n"; out.String() != want || trouble.String() != "trouble" {
		t.Errorf("stdout %q, stderr %q", &out, &trouble)
	}
}

// Much input goes through unharmed, and its end is seen.
func TestExecInput(t *testing.T) {
	c := execClient(t, func(_ context.Context, _ ExecRequest, s ExecStreams) (int, error) {
		_, err := io.Copy(s.Stdout, s.Stdin)
		return 0, err
	})
	sent := make([]byte, 3*inputWindow+17)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range sent {
		sent[i] = byte(rnd.Uint32())
	}
	var out bytes.Buffer
	if _, err := c.Exec(t.Context(), "a", ExecRequest{Argv: []string{"cat"}}, ExecStreams{Stdin: bytes.NewReader(sent), Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, out.Bytes()) {
		t.Errorf("sent %d bytes, got %d others", len(sent), out.Len())
	}
}

// endless is input that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A command that does not read its input, whose caller goes: agentd notices,
// though the pipe is full.
func TestExecCallerGoes(t *testing.T) {
	started, ended := make(chan struct{}), make(chan error, 1)
	c := execClient(t, func(ctx context.Context, _ ExecRequest, _ ExecStreams) (int, error) {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return 0, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, "a", ExecRequest{Argv: []string{"sleep"}}, ExecStreams{Stdin: endless{}, Stdout: io.Discard})
		done <- err
	}()
	<-started
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the command goes on without a caller")
	}
}

// A command that ends without reading its input ends the session.
func TestExecEndsBeforeItsInput(t *testing.T) {
	c := execClient(t, func(context.Context, ExecRequest, ExecStreams) (int, error) { return 7, nil })
	code, err := c.Exec(t.Context(), "a", ExecRequest{Argv: []string{"true"}}, ExecStreams{Stdin: endless{}, Stdout: io.Discard})
	if err != nil || code != 7 {
		t.Errorf("code %d: %v", code, err)
	}
}

func TestExecResize(t *testing.T) {
	c := execClient(t, func(_ context.Context, req ExecRequest, s ExecStreams) (int, error) {
		fmt.Fprintf(s.Stdout, "%dx%d", req.Size.Width, req.Size.Height)
		size := <-s.Resize
		fmt.Fprintf(s.Stdout, " %dx%d", size.Width, size.Height)
		return 0, nil
	})
	sizes := make(chan WinSize, 1)
	sizes <- WinSize{132, 50}
	var out bytes.Buffer
	if _, err := c.Exec(t.Context(), "a", ExecRequest{Argv: []string{"sh"}, TTY: true, Size: WinSize{80, 24}},
		ExecStreams{Stdout: &out, Resize: sizes}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "80x24 132x50" {
		t.Errorf("sizes %s", &out)
	}
}

func TestExecProblems(t *testing.T) {
	for name, c := range map[string]struct {
		f      execFunc
		status int
		text   string
	}{
		"refused by the backend": {func(context.Context, ExecRequest, ExecStreams) (int, error) {
			return 0, &Problem{Status: 404, Detail: "no container"}
		}, 404, "no container"},
		"any other error": {func(context.Context, ExecRequest, ExecStreams) (int, error) { return 0, errors.New("boom") }, 500, "boom"},
		"a panic":         {func(context.Context, ExecRequest, ExecStreams) (int, error) { panic("boom") }, 500, "agentd made an error"},
	} {
		_, err := execClient(t, c.f).Exec(t.Context(), "a", ExecRequest{Argv: []string{"ls"}}, ExecStreams{Stdout: io.Discard})
		var p *Problem
		if !errors.As(err, &p) || p.Status != c.status || !strings.Contains(p.Detail, c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := execClient(t, nil).Exec(t.Context(), "a", ExecRequest{}, ExecStreams{Stdout: io.Discard})
	var p *Problem
	if !errors.As(err, &p) || p.Status != 400 {
		t.Errorf("no command: %v", err)
	}
	if _, err := NewClient(t.TempDir()+"/none").Exec(t.Context(), "a", ExecRequest{Argv: []string{"ls"}}, ExecStreams{}); !errors.As(err, new(*UnreachableError)) {
		t.Errorf("nobody there: %v", err)
	}
}

// The caller's full disk is told, and ends the command.
func TestExecOutputFails(t *testing.T) {
	ended := make(chan struct{})
	c := execClient(t, func(_ context.Context, _ ExecRequest, s ExecStreams) (int, error) {
		defer close(ended)
		for {
			if _, err := s.Stdout.Write(make([]byte, 1000)); err != nil {
				return 0, err
			}
		}
	})
	full := errors.New("no space left on device")
	_, err := c.Exec(t.Context(), "a", ExecRequest{Argv: []string{"yes"}}, ExecStreams{Stdout: failing{full}})
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	<-ended
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A server that ends says so to those who run commands.
func TestExecEndsWithTheServer(t *testing.T) {
	started := make(chan struct{})
	socket, stop := serve(t, ServerConfig{Backend: &stub{exec: func(ctx context.Context, _ ExecRequest, _ ExecStreams) (int, error) {
		close(started)
		<-ctx.Done()
		return 137, nil // killed
	}}})
	done := make(chan error, 1)
	go func() {
		_, err := NewClient(socket).Exec(t.Context(), "a", ExecRequest{Argv: []string{"sleep"}}, ExecStreams{Stdout: io.Discard})
		done <- err
	}()
	<-started
	stop()
	if err := <-done; err == nil || err.Error() != "agentd is stopping" {
		t.Errorf("client: %v", err)
	}
}

// Whatever a caller sends, agentd neither panics nor keeps more than there is
// room for.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{frameInput, 0, 0, 0, 2, 'h', 'i', frameEnd, 0, 0, 0, 0})
	f.Add([]byte{frameResize, 0, 0, 0, 4, 0, 80, 0, 24})
	f.Add([]byte{frameInput, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, sent []byte) {
		in := newInput(func(int) {})
		if err := receive(bytes.NewReader(sent), in, make(chan WinSize, 1)); err == nil {
			t.Fatal("no end")
		}
		if len(in.data) > inputWindow {
			t.Fatalf("%d bytes kept", len(in.data))
		}
	})
}

// Whatever answers, the client's reading ends with a code or an error.
func FuzzReceiveOutput(f *testing.F) {
	f.Add([]byte("\x03\x00\x00\x00\x02hi\x06\x00\x00\x00\x0f{\"exit_code\":3}"))
	f.Add([]byte("\x07\x00\x00\x00\x0e{\"detail\":\"x\"}"))
	f.Add([]byte{frameRoom, 0, 0, 0, 4, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		_, _ = receiveOutput(bytes.NewReader(sent), ExecStreams{Stdout: io.Discard, Stderr: io.Discard}, make(chan int, 1))
	})
}
