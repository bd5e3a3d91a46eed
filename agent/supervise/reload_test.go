package supervise

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
)

// hung is a runtime whose calls never come back, not even at their deadline.
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

// However long the container runtime takes, the loop turns: what watches over
// agentd must not end it for containerd's sake.
func TestAHungRuntimeDoesNotHoldUpTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hung{fake.New(fake.Config{}), make(chan struct{})}
		s := New(Config{Runtime: h, DataDir: t.TempDir()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for range 12 {
			time.Sleep(10 * time.Second)
			if old := time.Since(s.Turned()); old > pulseEvery {
				t.Fatalf("the loop did not turn for %s", old)
			}
		}
		close(h.over)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A lock that is never given back stops the turning: no deadline helps there.
func TestAWedgeStopsTheLoop(t *testing.T) {
	s := New(Config{Runtime: fake.New(fake.Config{}), DataDir: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for s.Turned().IsZero() {
		poke(s.wake)
		time.Sleep(time.Millisecond)
	}
	s.mu.Lock()
	for range 3 { // the first may be on its way
		poke(s.wake)
		time.Sleep(5 * time.Millisecond)
	}
	at := s.Turned()
	for range 5 {
		poke(s.wake)
		time.Sleep(5 * time.Millisecond)
	}
	if turned := s.Turned(); turned.After(at) {
		t.Errorf("turned at %s, with the lock held since before %s", turned, at)
	}
	s.mu.Unlock()
	for !s.Turned().After(at) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A policy that gets stricter stops nothing and starts nothing; one that gets
// more liberal lets what it had blocked start.
func TestSetPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strict := policyOf(t, func(p *config.Policy) { p.Images = []string{"example.org/**"} })
		liberal := policyOf(t, func(p *config.Policy) { p.Images = []string{"**"} })
		r := newRig(t, fake.Config{}, func(c *Config) { c.Policy = strict })
		defer r.end()
		r.s.Set([]Desired{want("web", 1)})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.s.Reports()[0]; got.State != string(Blocked) {
			t.Fatalf("%s: %s", got.State, got.Reason)
		}
		r.s.SetPolicy(liberal)
		time.Sleep(time.Minute)
		synctest.Wait()
		started := r.s.Reports()[0]
		if started.State != string(Running) {
			t.Fatalf("permitted by now: %s: %s", started.State, started.Reason)
		}
		r.s.SetPolicy(strict)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.s.Reports()[0]; got.PID != started.PID || !strings.Contains(got.Reason, "keeps running") {
			t.Errorf("after the policy got stricter: pid %d, was %d; %s: %s", got.PID, started.PID, got.State, got.Reason)
		}
		r.s.SetPolicy(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.s.Reports()[0]; got.State != string(Running) || got.PID != started.PID {
			t.Errorf("permitted again: %s: %s", got.State, got.Reason)
		}
	})
}
