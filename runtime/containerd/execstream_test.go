package containerd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/runtimetest"
)

// shell makes id run with this machine's programs in it.
func (e *env) shell(t *testing.T, id string) {
	t.Helper()
	if _, err := e.r.Ensure(t.Context(), e.shellSpec(id)); err != nil {
		t.Fatal(err)
	}
}

func (e *env) shellSpec(id string) runtime.Spec {
	s := e.Spec(id, runtimetest.Program{})
	s.ID = id
	s.Env = append(s.Env, "PATH=/usr/bin")
	for target, source := range map[string]string{"/usr": "/usr", "/lib": "/usr/lib", "/lib64": "/usr/lib64"} {
		if _, err := os.Stat(source); err == nil {
			s.Mounts = append(s.Mounts, runtime.Mount{Type: "bind", Source: source, Target: target, Options: []string{"rbind", "ro"}})
		}
	}
	return s
}

// sh is a command for /bin/sh.
func sh(script string) []string { return []string{"/usr/bin/sh", "-c", script} }

func TestExecStream(t *testing.T) {
	e := newEnv(t)
	e.shell(t, "streams")
	for _, c := range []struct {
		name           string
		opts           runtime.ExecOptions
		stdin          string
		stdout, stderr string
		code           int
	}{
		{name: "streams are apart", opts: runtime.ExecOptions{Argv: sh("echo out; echo err >&2; exit 7")},
			stdout: "out\n", stderr: "err\n", code: 7},
		{name: "the input ends", opts: runtime.ExecOptions{Argv: sh("cat; echo done")},
			stdin: strings.Repeat("0123456789abcdef\n", 20_000), stdout: strings.Repeat("0123456789abcdef\n", 20_000) + "done\n"},
		{name: "an input that nobody reads", opts: runtime.ExecOptions{Argv: sh("exit 3")}, stdin: strings.Repeat("x", 1<<20), code: 3},
		{name: "environment, folder and user",
			opts:   runtime.ExecOptions{Argv: sh("echo $A $IMAGE_REVISION; pwd; id -u; id -g"), Env: []string{"A=b"}, Cwd: "/tmp", User: "65534:1234"},
			stdout: "b 1\n/tmp\n65534\n1234\n"},
		{name: "a signal's code", opts: runtime.ExecOptions{Argv: sh("kill -9 $$")}, code: 137},
		{name: "a terminal", opts: runtime.ExecOptions{Argv: sh("test -t 0 && test -t 1 && test -t 2 && echo $TERM; echo err >&2"), TTY: true},
			stdout: "xterm\r\nerr\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			c.opts.Stdout, c.opts.Stderr = &stdout, &stderr
			if c.stdin != "" {
				c.opts.Stdin = strings.NewReader(c.stdin)
			}
			code, err := e.r.ExecStream(t.Context(), "streams", c.opts)
			if err != nil || code != c.code {
				t.Fatalf("code %d, %v; want %d", code, err, c.code)
			}
			if stdout.String() != c.stdout || stderr.String() != c.stderr {
				t.Errorf("stdout %d bytes %.200q, stderr %.200q; want %d bytes %.200q, %.200q", stdout.Len(), stdout.String(), stderr.String(), len(c.stdout), c.stdout, c.stderr)
			}
		})
	}
	e.noExecs(t, "streams")
}

// noExecs checks that neither processes nor fifos are left.
func (e *env) noExecs(t *testing.T, id string) {
	t.Helper()
	e.await(t, "no exec left", func() bool {
		ids, err := e.r.execs(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		left, err := filepath.Glob(filepath.Join(e.r.fifoRoot(), e.r.fifoPrefix()+"*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(ids) == 0 && len(left) == 0
	})
}

// A program that could not be started is an error and leaves nothing.
func TestExecStreamNoProgram(t *testing.T) {
	e := newEnv(t)
	e.shell(t, "no-program")
	var out bytes.Buffer
	_, err := e.r.ExecStream(t.Context(), "no-program", runtime.ExecOptions{
		Argv: []string{"/no/such/program"}, Stdin: strings.NewReader("x"), Stdout: &out, Stderr: &out,
	})
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Fatalf("got %v", err)
	}
	if _, err := e.r.ExecStream(t.Context(), "absent", runtime.ExecOptions{Argv: sh("true")}); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
	e.noExecs(t, "no-program")
}

// What is typed at a terminal arrives, and so do its sizes, the first included.
func TestExecStreamResize(t *testing.T) {
	e := newEnv(t)
	e.shell(t, "tty")
	in, typed := io.Pipe()
	defer typed.Close()
	out := newScreen()
	sizes := make(chan runtime.WinSize, 1)
	sizes <- runtime.WinSize{Width: 101, Height: 33}
	done := make(chan error, 1)
	go func() {
		code, err := e.r.ExecStream(t.Context(), "tty", runtime.ExecOptions{
			Argv: []string{"/usr/bin/sh"}, TTY: true, Stdin: in, Stdout: out, Resize: sizes,
		})
		if err == nil && code != 9 {
			err = errors.New("another code than 9")
		}
		done <- err
	}()
	write := func(s string) {
		if _, err := io.WriteString(typed, s); err != nil {
			t.Error(err)
		}
	}
	// The size may be set a moment after the start: the shell asks until then.
	write("while [ \"$(stty size)\" != '33 101' ]; do :; done; echo sized-$((40+2))\n")
	out.await(t, "sized-42")
	sizes <- runtime.WinSize{Width: 55, Height: 22}
	write("while [ \"$(stty size)\" != '22 55' ]; do :; done; echo again-$((40+3))\n")
	out.await(t, "again-43")
	write("exit 9\n")
	if err := <-done; err != nil {
		t.Fatalf("%v; the screen shows %q", err, out.text())
	}
	e.noExecs(t, "tty")
}

// The end of the context kills the process, and the caller's streams are not
// used after the return.
func TestExecStreamCancelled(t *testing.T) {
	e := newEnv(t)
	e.shell(t, "cancelled")
	for _, tty := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		in, typed := io.Pipe()
		out := newScreen()
		done := make(chan error, 1)
		go func() {
			_, err := e.r.ExecStream(ctx, "cancelled", runtime.ExecOptions{
				Argv: sh("trap '' TERM HUP INT; echo up; while :; do echo more; done"), TTY: tty, Stdin: in, Stdout: out, Stderr: out,
			})
			done <- err
		}()
		out.await(t, "up")
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("tty %v: %v", tty, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("tty %v: it did not return", tty)
		}
		out.closed(t)
		_ = typed.Close()
		e.noExecs(t, "cancelled")
	}
	// containerd forgets the exec a moment before /proc does.
	e.await(t, "one process is left of the container", func() bool { return e.Copies(t, "cancelled") == 1 })
}

// A child in the background that holds the output open does not hold the caller.
func TestExecStreamBackground(t *testing.T) {
	e := newEnv(t)
	e.shell(t, "background")
	var out bytes.Buffer
	start := time.Now()
	code, err := e.r.ExecStream(t.Context(), "background", runtime.ExecOptions{Argv: sh("sleep 600 & echo here; exit 4"), Stdout: &out})
	if err != nil || code != 4 || out.String() != "here\n" {
		t.Fatalf("code %d, %v, output %q", code, err, out.String())
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}

// An agent that was killed leaves an exec; the next one ends it.
func TestExecStreamSwept(t *testing.T) {
	e := newEnv(t)
	e.shell(t, "swept")
	first := e.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := newScreen()
	done := make(chan error, 1)
	go func() {
		_, err := first.ExecStream(ctx, "swept", runtime.ExecOptions{Argv: sh("echo up; sleep 600"), Stdout: out})
		done <- err
	}()
	out.await(t, "up")
	next := e.open(t)
	if err := next.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, runtime.ErrNotFound) {
			t.Errorf("the first caller got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the exec of another connection was left running")
	}
	e.noExecs(t, "swept")
}

// screen is a writer that can be waited for.
type screen struct {
	mu   chan struct{} // capacity 1
	buf  bytes.Buffer  // guarded by mu
	news chan struct{} // capacity 1
	over bool          // guarded by mu: a Write is an error of the test
	late bool          // guarded by mu
}

func newScreen() *screen {
	return &screen{mu: make(chan struct{}, 1), news: make(chan struct{}, 1)}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu <- struct{}{}
	defer func() { <-s.mu }()
	s.late = s.late || s.over
	if s.buf.Len() < 1<<20 {
		s.buf.Write(p)
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *screen) text() string {
	s.mu <- struct{}{}
	defer func() { <-s.mu }()
	return s.buf.String()
}

func (s *screen) await(t *testing.T, want string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !strings.Contains(s.text(), want) {
		select {
		case <-s.news:
		case <-limit:
			t.Fatalf("%q never came; there is %.500q", want, s.text())
		}
	}
}

// closed checks that nothing is written from now on, for a moment.
func (s *screen) closed(t *testing.T) {
	t.Helper()
	s.mu <- struct{}{}
	s.over = true
	<-s.mu
	time.Sleep(100 * time.Millisecond)
	s.mu <- struct{}{}
	defer func() { <-s.mu }()
	if s.late {
		t.Error("written to after the return")
	}
}
