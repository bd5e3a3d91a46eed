package supervise

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{StopLatency: time.Second, StartLatency: time.Second})
		defer r.end()
		r.set(want("web", 1))
		r.after(2 * time.Second)
		before := r.is("web", Running)
		begin := time.Now()
		if err := r.s.Restart(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Fatalf("took %v", took)
		}
		synctest.Wait()
		after := r.is("web", Running)
		if after.PID == before.PID || after.Restarts != 0 || r.rt.Count("web") != 1 {
			t.Fatalf("report %+v", after)
		}
		// Out of a long back-off: at once.
		for range 8 {
			r.rt.Crash("web", 1)
			r.after(5 * time.Second)
		}
		r.is("web", BackOff)
		begin = time.Now()
		if err := r.s.Restart(t.Context(), "web"); err != nil || time.Since(begin) > 2*time.Second {
			t.Fatalf("error %v after %v", err, time.Since(begin))
		}
		// What can't be started again is not stopped.
		r.rt.FailNext(fake.OpEnsure, errors.New("no space left on device"))
		if err := r.s.Restart(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Fatalf("error %v", err)
		}
		r.after(time.Minute)
		r.is("web", Running)
		if err := r.s.Restart(t.Context(), "none"); err == nil || !strings.Contains(err.Error(), "no such daemon here") {
			t.Fatalf("error %v", err)
		}
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := r.s.Restart(short, "web"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v", err)
		}
		r.after(time.Minute) // it goes on
		r.is("web", Running)
	})
}

func TestRestartIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{}, func(c *Config) { c.Policy = policyOf(t, func(p *config.Policy) {}) })
		defer r.end()
		held := want("held", 2)
		r.set(want("held", 1), want("denied", 1), want("elsewhere", 1, func(d *spec.Daemon) { d.Nodes = []string{"n2"} }), want("job", 1, asJob(0)), want("needy", 1))
		r.after(time.Second)
		r.rt.Crash("job", 0)
		held.Hold = "two operators wrote it at once"
		r.set(held, want("denied", 2, func(d *spec.Daemon) { d.Privileged = true }), want("elsewhere", 1, func(d *spec.Daemon) { d.Nodes = []string{"n2"} }),
			want("job", 1, asJob(0)), want("needy", 1, needs("none")))
		r.after(time.Second)
		running := strings.Join(r.rt.Running(), " ")
		for name, words := range map[string]string{
			"held": "two operators", "denied": "policy.privileged", "elsewhere": "pinned to n2", "job": "agentctl rollout restart", "needy": "none, which it depends on",
		} {
			if err := r.s.Restart(t.Context(), name); err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: error %v, want one with %q", name, err, words)
			}
		}
		r.after(time.Minute)
		if now := strings.Join(r.rt.Running(), " "); now != running {
			t.Fatalf("running are %s, were %s", now, running)
		}
		r.rt.SetUnavailable(true)
		r.after(10 * time.Second)
		if err := r.s.Restart(t.Context(), "needy"); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Fatalf("error %v", err)
		}
	})
}

// What happened is told, with its reason.
//
// conformance: C6
func TestEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []Event
		r := newRig(t, fake.Config{}, func(c *Config) {
			c.Event = func(e Event) { mu.Lock(); defer mu.Unlock(); got = append(got, e) }
		})
		defer r.end()
		r.rt.FailNext(fake.OpPull, errors.New("no route to host"))
		r.set(want("web", 1))
		r.after(time.Minute)
		r.rt.OOM("web")
		synctest.Wait()
		r.set(gone("web", 2))
		r.after(time.Second)
		var lines []string
		mu.Lock()
		for _, e := range got {
			if e.Daemon != "web" || e.Time.IsZero() || e.Reason == "" {
				t.Errorf("event %+v", e)
			}
			line := e.Type
			if e.Type == EventState {
				line = e.From + ">" + e.To
			}
			if e.ExitCode != nil {
				line += " code"
			}
			if e.OOM {
				line += " oom"
			}
			lines = append(lines, line)
		}
		mu.Unlock()
		all := strings.Join(lines, ", ")
		const wanted = ">pulling, pull, pulling>backoff, backoff>pulling, pull, pulling>starting, starting>running, " +
			"exit code oom, running>starting, starting>running, running>stopping, exit code, stopping>stopped"
		if all != wanted {
			t.Fatalf("events %s", all)
		}
		if rep := r.report("web"); rep.Totals.Starts != 2 || rep.Totals.Exits != 2 || rep.Totals.OOMs != 1 || rep.Totals.Restarts != 1 || rep.Totals.Pulls != 1 || rep.Totals.Failures != 1 {
			t.Fatalf("totals %+v", rep.Totals)
		}
	})
}
