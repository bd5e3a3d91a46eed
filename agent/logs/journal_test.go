package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime/logger"
)

func TestDecode(t *testing.T) {
	when := time.UnixMicro(1795174736315040)
	for _, c := range []struct {
		name, in string
		want     Entry
		partial  bool
		bad      bool
	}{
		{name: "stdout", in: `{"MESSAGE":"hi","PRIORITY":"6","_SOURCE_REALTIME_TIMESTAMP":"1795174736315040","__REALTIME_TIMESTAMP":"1795174736999999"}`,
			want: Entry{Time: when, Stream: "stdout", Line: "hi"}},
		{name: "without the sender's time", in: `{"MESSAGE":"hi","PRIORITY":"3","__REALTIME_TIMESTAMP":"1795174736315040"}`,
			want: Entry{Time: when, Stream: "stderr", Line: "hi"}},
		{name: "a note of the logger", in: `{"MESSAGE":"suppressed","PRIORITY":"4"}`, want: Entry{Stream: "stderr", Line: "suppressed"}},
		{name: "bytes", in: `{"MESSAGE":[104,0,255],"PRIORITY":"6"}`, want: Entry{Stream: "stdout", Line: "h\x00\xff"}},
		{name: "a field that is there twice", in: `{"MESSAGE":["a","b"],"PRIORITY":["6","3"]}`, want: Entry{Stream: "stdout", Line: "a"}},
		{name: "bytes, twice", in: `{"MESSAGE":[[104,105],"b"],"PRIORITY":"6"}`, want: Entry{Stream: "stdout", Line: "hi"}},
		{name: "a piece", in: `{"MESSAGE":"","PRIORITY":"6","CONTAINER_PARTIAL_MESSAGE":"true"}`, want: Entry{Stream: "stdout"}, partial: true},
		{name: "too large for journalctl", in: `{"MESSAGE":null}`, bad: true},
		{name: "no message", in: `{"PRIORITY":"6"}`, bad: true},
		{name: "no bytes", in: `{"MESSAGE":[256]}`, bad: true},
		{name: "no JSON", in: `-- No entries --`, bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, partial, ok := decode([]byte(c.in))
			if ok == c.bad || !got.Time.Equal(c.want.Time) || got.Stream != c.want.Stream || got.Line != c.want.Line || partial != c.partial {
				if !c.bad || ok {
					t.Errorf("got %+v, %v, %v; want %+v, %v", got, partial, ok, c.want, c.partial)
				}
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"MESSAGE":[[104,105],"b"],"PRIORITY":"6","__REALTIME_TIMESTAMP":"1"}`))
	f.Add([]byte(`{"MESSAGE":"x","CONTAINER_PARTIAL_MESSAGE":"true"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, _, ok := decode(b)
		if ok && e.Stream != "stdout" && e.Stream != "stderr" {
			t.Fatalf("stream %q", e.Stream)
		}
	})
}

// A journalctl that fails, or is not there, is told in its own words.
func TestJournalctlFails(t *testing.T) {
	read := func(ctx context.Context, argv ...string) error {
		return Journal{Command: argv}.Read(ctx, Query{Daemon: "d"}, func(Entry) error { return nil })
	}
	if err := read(t.Context(), "sh", "-c", "echo no permission >&2; exit 1"); err == nil || !strings.Contains(err.Error(), "no permission") {
		t.Errorf("got %v", err)
	}
	if err := read(t.Context(), "/no/such/journalctl"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := read(t.Context(), "sh", "-c", "exit 1"); err != nil {
		t.Errorf("nothing matches: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := read(ctx, "sh", "-c", "sleep 60 & sleep 60"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 10*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begin))
	}
}

// journald starts a real one in a mount namespace of its own.
func journald(t *testing.T) (socket string, journal Journal) {
	t.Helper()
	lab.Require(t, "root")
	const daemon = "/lib/systemd/systemd-journald"
	for _, p := range []string{daemon, "/usr/bin/journalctl", "/usr/bin/unshare"} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("needs %s", p)
		}
	}
	dir := t.TempDir()
	run, logs := filepath.Join(dir, "run"), filepath.Join(dir, "logs")
	for _, d := range []string{run, logs} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
mount --bind %q /run/systemd/journal
mount --bind %q /run/log/journal
exec %s`, run, logs, daemon)
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	socket = filepath.Join(run, "socket")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		select {
		case <-ended:
			t.Fatalf("journald ended: %s", said.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatal("journald makes no socket")
		}
	}
	return socket, Journal{Namespace: "ns", Command: []string{"journalctl", "--directory=" + logs}}
}

// logTo runs a logger into journald, and returns where its container writes.
func logTo(t *testing.T, socket, daemon, namespace string) (out, err io.Writer, end func()) {
	t.Helper()
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- logger.Run(logger.Config{
			Options: logger.Options{Daemon: daemon, Sink: logger.SinkJournald, Socket: socket, Container: daemon, Namespace: namespace},
			Stdout:  outR, Stderr: errR,
		})
	}()
	return outW, errW, func() {
		outW.Close()
		errW.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What a logger writes to a real journald comes back.
func TestJournald(t *testing.T) {
	socket, journal := journald(t)
	out, errs, end := logTo(t, socket, "d", "ns")
	other, _, endOther := logTo(t, socket, "d", "another-agent")
	long := strings.Repeat("long ", 10_000)
	fmt.Fprintln(other, "not ours")
	fmt.Fprintln(out, "first")
	time.Sleep(20 * time.Millisecond) // the two streams have no order else
	fmt.Fprintln(errs, "second")
	time.Sleep(20 * time.Millisecond)
	fmt.Fprint(out, long+"\nbytes \xff\x00\n\nlast")
	end()
	endOther()
	want := []string{"stdout first", "stderr second", "stdout " + long, "stdout bytes \xff\x00", "stdout ", "stdout last"}
	texts := func(q Query) (all []string) {
		for _, e := range readAll(t, journal, q) {
			if d := time.Since(e.Time); d < 0 || d > time.Minute {
				t.Errorf("time %v", e.Time)
			}
			all = append(all, e.Stream+" "+e.Line)
		}
		return all
	}
	var got []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got = texts(Query{}); len(got) == len(want) {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %.500q", got)
	}
	if got := texts(Query{Tail: 2}); fmt.Sprint(got) != fmt.Sprint(want[4:]) {
		t.Errorf("the last two are %.300q", got)
	}
	if got := texts(Query{Tail: -1}); len(got) != 0 {
		t.Errorf("none are %.300q", got)
	}
	if got := texts(Query{Since: time.Now().Add(time.Hour)}); len(got) != 0 {
		t.Errorf("of the future: %.300q", got)
	}
	if got := texts(Query{Since: time.Now().Add(-time.Hour)}); len(got) != len(want) {
		t.Errorf("of the last hour: %.300q", got)
	}
	// As users read it.
	b, err := exec.CommandContext(t.Context(), journal.Command[0], append(journal.Command[1:], "-t", "d", "-o", "cat", "-q")...).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(b), "not ours\nfirst\nsecond\n") && !strings.HasPrefix(string(b), "first\n") {
		t.Errorf("journalctl -t d: %v, %.200q", err, b)
	}
}

func TestJournaldFollow(t *testing.T) {
	socket, journal := journald(t)
	out, _, end := logTo(t, socket, "d", "ns")
	fmt.Fprintln(out, "before")
	for limit := time.Now().Add(20 * time.Second); len(readAll(t, journal, Query{})) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("nothing was written")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lines, done := make(chan string, 100), make(chan error, 1)
	go func() {
		done <- journal.Read(ctx, Query{Daemon: "d", Tail: 1, Follow: true}, func(e Entry) error { lines <- e.Line; return nil })
	}()
	if l := <-lines; l != "before" {
		t.Fatalf("got %q", l)
	}
	fmt.Fprintln(out, "after")
	select {
	case l := <-lines:
		if l != "after" {
			t.Fatalf("got %q", l)
		}
	case err := <-done:
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	end()
}
