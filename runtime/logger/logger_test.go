package logger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a sink whose health a test decides.
type memory struct {
	mu    sync.Mutex
	lines []string
	err   error         // what write answers, unless nil
	hang  chan struct{} // write waits for it, unless nil
	slow  time.Duration // how long one line takes
	most  int           // lines of one write; 0: all
}

func (m *memory) write(batch []byte) (int, error) {
	m.mu.Lock()
	hang, err, slow, most := m.hang, m.err, m.slow, m.most
	m.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for i := 0; n < len(batch) && (most == 0 || i < most); i++ {
		l, note, size := record(batch[n:])
		text := l.Stream.String() + " " + string(l.Text)
		if note {
			text = "note " + string(l.Text)
		}
		if l.Partial {
			text += " ..."
		}
		time.Sleep(slow)
		m.mu.Lock()
		m.lines = append(m.lines, text)
		m.mu.Unlock()
		n += size
	}
	if n < len(batch) {
		return n, errors.New("only some")
	}
	return n, nil
}

func (m *memory) close() {}

func (m *memory) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.lines...)
}

// under runs a logger in a bubble on two pipes; the test gets their ends.
type under struct {
	sink     *memory
	out, err *io.PipeWriter
	released chan struct{}
	done     chan error
}

func start(o Options, m *memory) *under {
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	u := &under{sink: m, out: outW, err: errW, released: make(chan struct{}, 1), done: make(chan error, 1)}
	o.Daemon, o.Sink = "d", SinkJournald
	go func() {
		u.done <- run(Config{Stdout: outR, Stderr: errR, Released: u.released}, o.filled(), m)
	}()
	return u
}

func (u *under) print(format string, a ...any) { fmt.Fprintf(u.out, format, a...) }

func (u *under) end(t *testing.T) {
	t.Helper()
	u.out.Close()
	u.err.Close()
	select {
	case <-u.done:
	case <-time.After(time.Minute):
		t.Fatal("the logger did not end")
	}
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got  %.600q\nwant %.600q", got, want)
	}
}

// free is an Options without a rate.
var free = Options{Rate: -1}

func TestDrainsToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := start(free, &memory{slow: time.Millisecond})
		var want []string
		for i := range 100 {
			u.print("line %d\n", i)
			want = append(want, fmt.Sprintf("stdout line %d", i))
		}
		u.print("no newline")
		u.end(t)
		expect(t, u.sink.all(), append(want, "stdout no newline")...)
	})
}

func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := start(free, &memory{})
		u.print("a\n\n")
		synctest.Wait()
		fmt.Fprint(u.err, "b\n")
		synctest.Wait()
		u.print("%s\n", strings.Repeat("c", maxLine+1))
		u.end(t)
		expect(t, u.sink.all(), "stdout a", "stdout ", "stderr b", "stdout "+strings.Repeat("c", maxLine)+" ...", "stdout c")
	})
}

// What the rate does not let through is counted, once in a while and at the end.
func TestSuppressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := start(Options{Rate: 10, Burst: 5}, &memory{})
		for i := range 30 {
			u.print("%d\n", i)
		}
		synctest.Wait()
		expect(t, u.sink.all(), "stdout 0", "stdout 1", "stdout 2", "stdout 3", "stdout 4")
		time.Sleep(noteEvery + time.Millisecond)
		synctest.Wait()
		got := u.sink.all()
		expect(t, got[5:], "note agentd-log: suppressed 25 lines: more than 10 per second")
		for range 6 {
			u.print("more\n")
		}
		u.end(t)
		expect(t, u.sink.all()[11:], "note agentd-log: suppressed 1 line: more than 10 per second")
	})
}

// Whatever the sink does, writing to the pipes takes no time worth mentioning.
func TestNeverBlocks(t *testing.T) {
	for name, injure := range map[string]func(m *memory){
		"fails": func(m *memory) { m.err = errors.New("no space left on device") },
		"hangs": func(m *memory) { m.hang = make(chan struct{}) },
		"slow":  func(m *memory) { m.slow = 100 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{}
				injure(m)
				u := start(free, m)
				line := strings.Repeat("x", 999) + "\n"
				begin := time.Now()
				const lines = 20_000 // 20 MB, many times what is buffered
				for range lines {
					u.print("%s", line)
				}
				if took := time.Since(begin); took > 3*waitMost {
					t.Errorf("writing took %v", took)
				}
				time.Sleep(time.Second)
				m.set(func() {
					m.err, m.slow = nil, 0
					if m.hang != nil {
						close(m.hang)
						m.hang = nil
					}
				})
				time.Sleep(time.Minute)
				u.print("healthy again\n")
				u.end(t)
				// Every line was either written or counted.
				written, lost := 0, 0
				for _, l := range m.all() {
					var n int
					if _, err := fmt.Sscanf(l, "note agentd-log: lost %d lines", &n); err == nil {
						lost += n
						if name == "fails" && !strings.Contains(l, "no space left") {
							t.Errorf("the cause is not told: %q", l)
						}
						continue
					}
					written++
				}
				if written+lost != lines+1 || lost == 0 {
					t.Errorf("%d written and %d lost of %d", written, lost, lines+1)
				}
				if all := m.all(); all[len(all)-1] != "stdout healthy again" {
					t.Errorf("the last line is %q", all[len(all)-1])
				}
			})
		})
	}
}

// A sink that takes part of a batch is given the rest.
func TestPartOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := start(free, &memory{most: 3})
		var want []string
		for i := range 10 {
			u.print("%d\n", i)
			want = append(want, fmt.Sprintf("stdout %d", i))
		}
		time.Sleep(time.Minute)
		u.end(t)
		expect(t, u.sink.all(), want...)
	})
}

// A sink that panics costs its batch, not the container.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outR, outW := io.Pipe()
		errR, errW := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- run(Config{Stdout: outR, Stderr: errR}, free.filled(), broken{}) }()
		for range 10 {
			io.WriteString(outW, "x\n")
		}
		outW.Close()
		errW.Close()
		<-done
	})
}

type broken struct{}

func (broken) write([]byte) (int, error) { panic("broken") }
func (broken) close()                    {}

// At the end a sink has its time, and not more: the container's removal waits.
func TestEnd(t *testing.T) {
	for name, c := range map[string]struct {
		m    *memory
		most time.Duration
	}{
		"fails": {&memory{err: errors.New("gone")}, endFailing + endFailing},
		"hangs": {&memory{hang: make(chan struct{})}, endLimit + endFailing},
		"well":  {&memory{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.m.hang != nil {
					c.m.hang = make(chan struct{}) // of this bubble
				}
				u := start(free, c.m)
				u.print("x\n")
				time.Sleep(time.Second)
				begin := time.Now()
				u.end(t)
				if took := time.Since(begin); took > c.most {
					t.Errorf("the end took %v, want at most %v", took, c.most)
				}
				if c.m.hang != nil {
					close(c.m.hang)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// A SIGTERM while containerd holds the pipes is not passed on; when it has let
// go, processes that outlived the container have a moment.
func TestReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := start(free, &memory{})
		u.print("before\n")
		u.released <- struct{}{}
		time.Sleep(strayLimit / 2)
		u.print("a stray's\n")
		begin := time.Now()
		<-u.done
		if took := time.Since(begin); took > strayLimit {
			t.Errorf("it ended after %v more", took)
		}
		expect(t, u.sink.all(), "stdout before", "stdout a stray's")
		if _, err := u.out.Write([]byte("x")); err == nil {
			t.Error("the pipe is still read")
		}
	})
}

// Of a long line whose rest did not pass, nothing runs into the next line.
func TestTornLine(t *testing.T) {
	now := time.Now()
	q := newIntake(newBucket(1, 1, now))
	q.put(Line{Time: now, Stream: Stdout, Partial: true, Text: []byte("begin")})
	q.put(Line{Time: now, Stream: Stdout, Text: []byte("the rest, over the rate")})
	q.put(Line{Time: now.Add(time.Minute), Stream: Stdout, Text: []byte("next")})
	var got []string
	for b := q.take(nil); len(b) > 0; {
		l, _, n := record(b)
		b = b[n:]
		got = append(got, fmt.Sprint(string(l.Text), " ", l.Partial))
	}
	expect(t, got, "begin true", " false", "next false")
}

// Nonsense as options must not leave the pipes unread.
func TestUnusable(t *testing.T) {
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	ready := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- Run(Config{Options: Options{Sink: "nonsense"}, Stdout: outR, Stderr: errR, Ready: func() { close(ready) }})
	}()
	<-ready
	if _, err := io.Copy(outW, bytes.NewReader(make([]byte, 10<<20))); err != nil {
		t.Fatal(err)
	}
	outW.Close()
	errW.Close()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}
