package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
)

// listener is a service manager that remembers what it was told.
type listener struct {
	mu   sync.Mutex
	all  []string
	fail error
}

func (l *listener) notify(state string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, state)
	return l.fail
}

// heard returns what was told since the last time.
func (l *listener) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.all
	l.all = nil
	return out
}

func TestSentence(t *testing.T) {
	well := standing{node: "web-1", ring: "prod", ready: 5, placed: 5, alive: 3}
	for _, c := range []struct {
		edit func(*standing)
		want string
	}{
		{func(*standing) {}, "node web-1 of ring prod: 5 of 5 daemons ready; 3 nodes alive"},
		{func(s *standing) { s.ready, s.placed, s.alive = 0, 1, 1 }, "node web-1 of ring prod: 0 of 1 daemon ready; 1 node alive"},
		{func(s *standing) { s.placed = 0 }, "node web-1 of ring prod: no daemon is meant for it; 3 nodes alive"},
		{func(s *standing) { s.alone, s.alive = true, 1 }, "node web-1 of ring prod: 5 of 5 daemons ready; no other node is reached"},
		{func(s *standing) { s.waiting = true }, "node web-1 of ring prod: asks the ring for news before it starts anything; 3 nodes alive"},
		{func(s *standing) { s.left = true }, "node web-1 left ring prod; agentctl join takes it back"},
		{func(s *standing) {
			s.trouble, s.notes = "containerd is away", []string{"[ring] bind changed: takes a restart"}
		},
			"node web-1 of ring prod: 5 of 5 daemons ready; 3 nodes alive; containerd is away; [ring] bind changed: takes a restart"},
	} {
		s := well
		c.edit(&s)
		if got := s.sentence(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestManagerIsToldInOrder(t *testing.T) {
	l := &listener{}
	m := &manager{notify: l.notify, log: slog.New(slog.DiscardHandler)}
	m.is("too early")
	m.reloads() // a hang-up before the agent is up makes it neither reloading nor ready
	if got := l.heard(); len(got) != 0 {
		t.Fatalf("told %q before READY", got)
	}
	m.isReady("all is well")
	m.is("all is well") // no news
	m.is("two lines\nof trouble")
	if got := l.heard(); !slices.Equal(got, []string{"READY=1\nSTATUS=all is well", "STATUS=two lines of trouble"}) {
		t.Errorf("told %q", got)
	}
	m.reloads()
	m.isReady("back")
	got := l.heard()
	if len(got) != 2 || !strings.HasPrefix(got[0], "RELOADING=1\nMONOTONIC_USEC=") || got[1] != "READY=1\nSTATUS=back" {
		t.Errorf("told %q", got)
	}
	m.stops()
	m.is("nothing is told after it")
	m.isReady("nothing is told after it")
	if got := l.heard(); len(got) != 1 || !strings.HasPrefix(got[0], "STOPPING=1\n") {
		t.Errorf("told %q", got)
	}
	// Without a service manager, or with one that went away, nothing happens.
	(&manager{log: slog.New(slog.DiscardHandler)}).isReady("x")
	l.fail = errors.New("gone")
	(&manager{notify: l.notify, log: slog.New(slog.DiscardHandler)}).isReady("x")
}

// The watchdog is fed for as long as every loop turns, starves when one hangs,
// and is fed again should it come back.
func TestWatchStarvesWhenALoopHangs(t *testing.T) {
	for _, wedged := range []string{"the agent's loop", "the supervisor's loop", "the ring"} {
		t.Run(wedged, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const patience = 40 * time.Second // more than latest twice
				l, log := &listener{}, &bytes.Buffer{}
				hang := make(chan struct{}) // while it is open, the wedged loop waits for it
				var hearts []heart
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				at := time.Minute
				for _, name := range []string{"the agent's loop", "the supervisor's loop", "the ring"} {
					m := &moment{}
					hearts = append(hearts, heart{name, m.at})
					wg.Go(func() {
						begin := time.Now()
						tick := time.NewTicker(5 * time.Second)
						defer tick.Stop()
						for {
							m.now()
							if name == wedged && time.Since(begin) >= at {
								<-hang
							}
							select {
							case <-ctx.Done():
								return
							case <-tick.C:
							}
						}
					})
				}
				hearts = append(hearts, heart{"one that never began", func() time.Time { return time.Time{} }})
				wg.Go(func() {
					watch(ctx, Service{Notify: l.notify, Watchdog: patience}, hearts, slog.New(slog.NewTextHandler(log, nil)))
				})
				time.Sleep(at)
				synctest.Wait()
				if fed := len(l.heard()); fed < int(2*at/patience) {
					t.Fatalf("fed %d times in %s", fed, at)
				}
				time.Sleep(patience/2 + patience/4 + time.Second)
				l.heard()
				time.Sleep(2 * patience) // enough for systemd to end it
				synctest.Wait()
				if got := l.heard(); len(got) != 0 {
					t.Errorf("fed %d times while %s hung", len(got), wedged)
				}
				if strings.Count(log.String(), "watchdog is not fed") != 1 || !strings.Contains(log.String(), wedged) {
					t.Errorf("log: %s", log)
				}
				close(hang)
				time.Sleep(patience)
				synctest.Wait()
				if got := l.heard(); len(got) == 0 || got[0] != "WATCHDOG=1" {
					t.Errorf("back at work, and told %q", got)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// Where systemd does not ask for it, nobody is fed.
func TestWatchWithoutWatchdog(t *testing.T) {
	l := &listener{}
	watch(t.Context(), Service{Notify: l.notify}, nil, nil)
	watch(t.Context(), Service{Watchdog: time.Second}, nil, nil)
	if got := l.heard(); len(got) != 0 {
		t.Errorf("told %q", got)
	}
}

// An impatient watchdog is fed by loops that turn as slowly as they may.
func TestImpatientWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := &listener{}, &moment{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			tick := time.NewTicker(5 * time.Second)
			defer tick.Stop()
			for {
				m.now()
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
		watch(ctx, Service{Notify: l.notify, Watchdog: 2 * time.Second}, []heart{{"slow", m.at}}, slog.New(slog.DiscardHandler))
		wg.Wait()
		if fed := len(l.heard()); fed < 119 {
			t.Errorf("fed %d times in a minute", fed)
		}
	})
}

// hung is a container runtime whose calls never come back, not even at their
// deadline.
type hung struct {
	runtime.Runtime
	over chan struct{}
}

func (h hung) Ready(context.Context) error {
	<-h.over
	return errors.New("it hung")
}

func (h hung) List(context.Context) ([]runtime.Instance, error) {
	<-h.over
	return nil, errors.New("it hung")
}

// A whole agent over a container runtime that hangs is up, answers and feeds the
// watchdog.
func TestHungRuntimeIsNoReasonToStarve(t *testing.T) {
	h := hung{fake.New(fake.Config{}), make(chan struct{})}
	n := startNode(t, h, "n1", config.NewRingKey(), "")
	defer close(h.over) // before the agent is stopped
	fed := 0
	n.until("food for the watchdog", func() bool {
		for _, s := range n.l.heard() {
			if s == "WATCHDOG=1" {
				fed++
			}
		}
		return fed >= 20
	})
	if _, err := n.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if hang := stalled(n.hearts(), time.Now(), latest); len(hang) != 0 {
		t.Errorf("hang: %q", hang)
	}
}
