package api

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func (s *stub) Logs(ctx context.Context, q LogQuery, emit func(LogLine) error) error {
	if s.logs != nil {
		return s.logs(ctx, q, emit)
	}
	if s.err != nil {
		return s.err
	}
	return emit(LogLine{Stream: Stdout, Line: q.Daemon})
}

func (s *stub) Exec(ctx context.Context, _ string, req ExecRequest, streams ExecStreams) (int, error) {
	if s.exec != nil {
		return s.exec(ctx, req, streams)
	}
	return 0, s.err
}

func (s *stub) Restart(_ context.Context, name string) error {
	s.names = []string{name}
	return s.err
}

func (s *stub) Events(ctx context.Context, since time.Time, follow bool, emit func(Event) error) error {
	if s.events != nil {
		return s.events(ctx, since, follow, emit)
	}
	if s.err != nil {
		return s.err
	}
	return emit(Event{Seq: 1, Reason: "started"})
}

func (s *stub) Top(context.Context) (Top, error)         { return Top{Schema: Schema}, s.err }
func (s *stub) Volumes(context.Context) (Volumes, error) { return Volumes{Schema: Schema}, s.err }

func (s *stub) PruneVolumes(_ context.Context, names []string) (Pruned, error) {
	s.names = names
	return Pruned{Schema: Schema}, s.err
}

func TestClientOfTheNode(t *testing.T) {
	b := &stub{}
	socket, _ := serve(t, ServerConfig{Backend: b})
	c, ctx := NewClient(socket), t.Context()
	if r, err := c.Restart(ctx, "a"); err != nil || r.Daemon != "a" || r.Node != "web-1" {
		t.Errorf("restart %+v: %v", r, err)
	}
	if _, err := c.Top(ctx); err != nil {
		t.Error(err)
	}
	if _, err := c.Volumes(ctx); err != nil {
		t.Error(err)
	}
	if _, err := c.PruneVolumes(ctx, []string{"data"}); err != nil || len(b.names) != 1 || b.names[0] != "data" {
		t.Errorf("pruned %q: %v", b.names, err)
	}
	if _, err := c.PruneVolumes(ctx, nil); err != nil || len(b.names) != 0 {
		t.Errorf("pruned %q: %v", b.names, err)
	}
}

func TestLogQueryReachesBackend(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for _, want := range []LogQuery{
		{Daemon: "a", Tail: AllLines},
		{Daemon: "a", Tail: 0, Follow: true}, // only what is new
		{Daemon: "node-exporter", Tail: 100, Since: since},
	} {
		var got LogQuery
		b := &stub{logs: func(_ context.Context, q LogQuery, _ func(LogLine) error) error {
			got = q
			return nil
		}}
		socket, _ := serve(t, ServerConfig{Backend: b})
		if err := NewClient(socket).Logs(t.Context(), want, nil); err != nil {
			t.Fatal(err)
		}
		if !got.Since.Equal(want.Since) || got.Tail != want.Tail || got.Follow != want.Follow || got.Daemon != want.Daemon {
			t.Errorf("asked for %+v, backend got %+v", want, got)
		}
	}
}

// With follow, a line arrives while the stream goes on; the caller's end ends
// the backend's work.
func TestFollow(t *testing.T) {
	next, ended := make(chan string), make(chan error, 1)
	b := &stub{logs: func(ctx context.Context, _ LogQuery, emit func(LogLine) error) error {
		for {
			select {
			case line := <-next:
				if err := emit(LogLine{Line: line}); err != nil {
					ended <- err
					return err
				}
			case <-ctx.Done():
				ended <- ctx.Err()
				return ctx.Err()
			}
		}
	}}
	socket, _ := serve(t, ServerConfig{Backend: b})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string)
	done := make(chan error, 1)
	go func() {
		done <- NewClient(socket).Logs(ctx, LogQuery{Daemon: "a", Follow: true}, func(l LogLine) error {
			got <- l.Line
			return nil
		})
	}()
	for _, line := range []string{"one", "two <&>", "\x1b[2J\xff"} {
		next <- line
		if back := <-got; back != strings.ToValidUTF8(line, "\uFFFD") {
			t.Errorf("sent %q, got %q", line, back)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the backend's work went on")
	}
}

// An error before the first line is an answer; after it, it is the last line.
func TestStreamErrors(t *testing.T) {
	for _, before := range []int{0, 3} {
		b := &stub{events: func(_ context.Context, _ time.Time, _ bool, emit func(Event) error) error {
			for i := range before {
				if err := emit(Event{Seq: uint64(i)}); err != nil {
					return err
				}
			}
			return fmt.Errorf("read events: %w", &Problem{Status: 409, Detail: "not now", Hint: "later"})
		}}
		socket, _ := serve(t, ServerConfig{Backend: b})
		n := 0
		err := NewClient(socket).Events(t.Context(), time.Time{}, false, func(Event) error { n++; return nil })
		var p *Problem
		if !errors.As(err, &p) || p.Status != 409 || p.Hint != "later" || n != before {
			t.Errorf("after %d of %d: %v", n, before, err)
		}
	}
	socket, _ := serve(t, ServerConfig{Backend: &stub{}})
	enough := errors.New("enough")
	if err := NewClient(socket).Events(t.Context(), time.Time{}, true, func(Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the caller's own error became %v", err)
	}
}

// A server that ends does not wait for streams, and says why they end.
func TestStreamsEndWithTheServer(t *testing.T) {
	begun := make(chan struct{})
	b := &stub{events: func(ctx context.Context, _ time.Time, _ bool, emit func(Event) error) error {
		if err := emit(Event{Seq: 1}); err != nil {
			return err
		}
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}}
	socket, stop := serve(t, ServerConfig{Backend: b})
	done := make(chan error, 1)
	go func() {
		done <- NewClient(socket).Events(t.Context(), time.Time{}, true, func(Event) error { return nil })
	}()
	<-begun
	began := time.Now()
	stop()
	if took := time.Since(began); took > shutdownTime/2 {
		t.Errorf("stopping took %s", took)
	}
	if err := <-done; err == nil || err.Error() != "agentd is stopping" {
		t.Errorf("client: %v", err)
	}
}

// Streams that go on leave room for short requests, and are limited themselves.
func TestTooManyStreams(t *testing.T) {
	b := &stub{events: func(ctx context.Context, _ time.Time, _ bool, _ func(Event) error) error {
		<-ctx.Done()
		return nil
	}}
	srv := NewServer(ServerConfig{Backend: b})
	h := srv.handler(testGID)
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), callerKey{}, asMember))
	done := make(chan struct{})
	for range maxStreams {
		go func() {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/events?follow=1", nil).WithContext(ctx))
			done <- struct{}{}
		}()
	}
	for len(srv.streaming) < maxStreams {
		pause(t)
	}
	if w := ask(t, srv, asMember, "GET", "/v1/events", ""); w.Code != 503 {
		t.Errorf("one too many: %d", w.Code)
	}
	if w := ask(t, srv, asMember, "GET", "/v1/info", ""); w.Code != 200 {
		t.Errorf("a short request: %d", w.Code)
	}
	cancel()
	for range maxStreams {
		<-done
	}
}

// A reader that stands still does not hold up the end of the server.
func TestSlowReader(t *testing.T) {
	b := &stub{logs: func(_ context.Context, _ LogQuery, emit func(LogLine) error) error {
		for {
			if err := emit(LogLine{Line: strings.Repeat("x", 1000)}); err != nil {
				return err
			}
		}
	}}
	socket, stop := serve(t, ServerConfig{Backend: b})
	reading, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		done <- NewClient(socket).Logs(t.Context(), LogQuery{Daemon: "a", Follow: true}, func(LogLine) error {
			if first {
				first = false
				close(reading)
				<-release
			}
			return nil
		})
	}()
	<-reading
	began := time.Now()
	stop()
	if took := time.Since(began); took > 2*lastWriteTime {
		t.Errorf("stopping took %s", took)
	}
	close(release)
	if err := <-done; err == nil {
		t.Error("a stream that was cut looks whole")
	}
}
