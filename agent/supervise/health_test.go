package supervise

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// clinic is a machine on which every command in a container answers what the
// test says: a code by its name, "hang", or 0.
type clinic struct {
	mu    sync.Mutex
	codes map[string]int
	ran   []string
}

func (c *clinic) set(name string, code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.codes == nil {
		c.codes = map[string]int{}
	}
	c.codes[name] = code
}

func (c *clinic) count(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, r := range c.ran {
		if r == name {
			n++
		}
	}
	return n
}

const hangs = -1

func (c *clinic) machine() fake.Config {
	return fake.Config{StopLatency: 100 * time.Millisecond, Program: func(runtime.Spec) fake.Program {
		return fake.Program{Exec: func(ctx context.Context, argv []string) (int, error) {
			c.mu.Lock()
			c.ran = append(c.ran, argv[0])
			code := c.codes[argv[0]]
			c.mu.Unlock()
			if code == hangs {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return code, nil
		}}
	}}
}

func check(name string) *spec.Probe {
	return &spec.Probe{Exec: []string{name}, Interval: spec.Duration(10 * time.Second), Timeout: spec.Duration(time.Second), Successes: 1, Failures: 3}
}

// health gives a daemon probes of the named kinds, each a command of that name.
func health(kinds ...probe.Kind) func(*spec.Daemon) {
	return func(d *spec.Daemon) {
		for _, k := range kinds {
			switch k {
			case probe.Startup:
				d.Health.Startup = check("startup")
			case probe.Liveness:
				d.Health.Liveness = check("liveness")
			case probe.Readiness:
				d.Health.Readiness = check("readiness")
			}
		}
	}
}

func TestReadinessDecidesReady(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		c.set("readiness", 1)
		r := newRig(t, c.machine())
		defer r.end()
		d := want("web", 1, health(probe.Readiness))
		r.set(d)
		rep := r.is("web", Starting)
		if rep.Ready || !strings.Contains(rep.Reason, "readiness command readiness has not succeeded yet") {
			t.Fatalf("report %+v", rep)
		}
		r.after(31 * time.Second)
		rep = r.is("web", Unhealthy)
		if rep.Ready || rep.Restarts != 0 || rep.Reason != "readiness command readiness exited with code 1 3 times" {
			t.Fatalf("report %+v", rep)
		}
		c.set("readiness", 0)
		r.after(10 * time.Second)
		if rep := r.is("web", Running); !rep.Ready {
			t.Fatalf("report %+v", rep)
		}
		// An agent that takes over does not make it unready.
		before := r.report("web")
		r.restart(d)
		if rep := r.is("web", Running); !rep.Ready || rep.PID != before.PID {
			t.Fatalf("report %+v", rep)
		}
		c.set("readiness", 1)
		r.after(31 * time.Second)
		r.is("web", Unhealthy)
		r.restart(d)
		if rep := r.report("web"); rep.Ready {
			t.Fatalf("the new agent takes it for ready: %+v", rep)
		}
		if n := r.rt.Starts("web"); n != 1 {
			t.Fatalf("%d starts: readiness restarts nothing", n)
		}
	})
}

// conformance: C1
// conformance: C2
func TestLivenessRestartsWithTheReason(t *testing.T) {
	for _, code := range []int{1, hangs} {
		bubble(t, func(t *testing.T) {
			c := &clinic{}
			var events atomic.Int32
			r := newRig(t, c.machine(), func(cfg *Config) {
				cfg.Event = func(e Event) {
					if e.Type == EventProbe && strings.Contains(e.Reason, "liveness") {
						events.Add(1)
					}
				}
			})
			defer r.end()
			r.set(want("web", 1, health(probe.Liveness)))
			first := r.is("web", Running)
			if !first.Ready {
				t.Fatalf("report %+v", first)
			}
			r.after(5 * time.Minute) // of health
			c.set("liveness", code)
			r.after(24 * time.Second)
			if rep := r.report("web"); rep.PID != first.PID || !rep.Ready {
				t.Fatalf("report after two failures %+v", rep)
			}
			r.after(10 * time.Second)
			rep := r.report("web")
			if rep.Restarts != 1 || rep.PID == first.PID || r.rt.Count("web") != 1 {
				t.Fatalf("report %+v, %d at once", rep, r.rt.Count("web"))
			}
			if events.Load() != 1 {
				t.Fatalf("%d events of its failing", events.Load())
			}
			// It does not get well: the pauses between its lives grow, although
			// each of them is longer than reset_after.
			r.after(10 * time.Minute)
			rep = r.report("web")
			if rep.Restarts < 8 || rep.Restarts > 18 {
				t.Fatalf("report %+v", rep)
			}
			for rep.State != string(BackOff) {
				r.after(time.Second)
				rep = r.report("web")
			}
			if !strings.Contains(rep.Reason, "liveness command liveness") || !strings.Contains(rep.Reason, "3 times; stopped for that") {
				t.Fatalf("reason %q", rep.Reason)
			}
			c.set("liveness", 0)
			r.after(time.Minute)
			if rep := r.is("web", Running); !rep.Ready {
				t.Fatalf("report %+v", rep)
			}
		})
	}
}

func TestStartupHoldsBackTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		c.set("startup", 1)
		c.set("liveness", 1)
		r := newRig(t, c.machine())
		defer r.end()
		r.set(want("web", 1, health(probe.Startup, probe.Liveness, probe.Readiness)))
		r.after(25 * time.Second)
		if rep := r.is("web", Starting); rep.Ready || rep.Restarts != 0 || c.count("liveness")+c.count("readiness") != 0 {
			t.Fatalf("report %+v, ran %v", rep, c.ran)
		}
		r.after(10 * time.Second)
		if rep := r.report("web"); rep.Restarts != 1 || !strings.Contains(rep.Reason, "startup command startup") {
			t.Fatalf("report %+v", rep)
		}
		c.set("startup", 0)
		c.set("liveness", 0)
		r.after(time.Second)
		if rep := r.is("web", Running); !rep.Ready {
			t.Fatalf("report %+v", rep)
		}
	})
}

// A runtime that does not answer says nothing about health, and neither does a
// liveness probe while the daemon is held.
func TestProbesDoNotActInTheDark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		r := newRig(t, c.machine())
		defer r.end()
		d := want("web", 1, health(probe.Liveness))
		r.set(d)
		before := r.is("web", Running)
		r.after(time.Minute)
		r.rt.SetUnavailable(true)
		r.after(10 * time.Minute)
		r.rt.SetUnavailable(false)
		r.after(time.Minute)
		if rep := r.is("web", Running); rep.PID != before.PID || rep.Restarts != 0 {
			t.Fatalf("report %+v", rep)
		}
		held := d
		held.Hold = "conflict"
		r.set(held)
		c.set("liveness", 1)
		r.after(time.Minute)
		if rep := r.is("web", Blocked); rep.PID != before.PID || rep.Ready || !strings.Contains(rep.Reason, "liveness") {
			t.Fatalf("report %+v", rep)
		}
		c.set("liveness", 0)
		r.after(time.Minute)
		r.set(d)
		if rep := r.is("web", Running); rep.PID != before.PID || !rep.Ready {
			t.Fatalf("report %+v", rep)
		}
	})
}

// restart.policy counts an instance that was not well as failed, whatever it
// said when it was stopped.
//
// conformance: C3
func TestUnhealthyIsNoSuccess(t *testing.T) {
	for _, p := range []spec.RestartPolicy{spec.RestartOnFailure, spec.RestartNever} {
		bubble(t, func(t *testing.T) {
			c := &clinic{}
			r := newRig(t, c.machine())
			defer r.end()
			r.set(want("web", 1, health(probe.Liveness), restart(p)))
			r.is("web", Running)
			c.set("liveness", 1)
			r.after(31 * time.Second)
			c.set("liveness", 0)
			r.after(time.Minute)
			if p == spec.RestartOnFailure {
				r.is("web", Running)
				return
			}
			if rep := r.is("web", Stopped); !strings.Contains(rep.Reason, "liveness command liveness") {
				t.Fatalf("report %+v", rep)
			}
		})
	}
}

// The old revision is looked after while the new one can't be had.
func TestOldRevisionIsProbedWhileTheNewOneWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		machine := c.machine()
		machine.Images = map[string]string{"web:v1": "sha256:1"}
		r := newRig(t, machine)
		defer r.end()
		r.set(want("web", 1, health(probe.Liveness)))
		first := r.is("web", Running)
		r.after(time.Minute)
		r.set(want("web", 2, func(d *spec.Daemon) { d.Image = "web:v2" }))
		r.after(time.Minute)
		c.set("liveness", 1)
		r.after(35 * time.Second)
		c.set("liveness", 0)
		r.after(time.Minute)
		if rep := r.is("web", Running); rep.PID == first.PID || rep.Revision != 1 || rep.Restarts != 1 {
			t.Fatalf("report %+v", rep)
		}
	})
}

func hooks(d *spec.Daemon) {
	d.Hooks = spec.Hooks{PostStart: []string{"post_start"}, PreStop: []string{"pre_stop"}}
}

func TestHooks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		r := newRig(t, c.machine())
		defer r.end()
		d := want("web", 1, hooks)
		r.set(d)
		if rep := r.is("web", Running); !rep.Ready || c.count("post_start") != 1 {
			t.Fatalf("report %+v, ran %v", rep, c.ran)
		}
		// Once per instance, over an agent's restart too.
		r.restart(d)
		r.after(time.Minute)
		r.is("web", Running)
		if c.count("post_start") != 1 || c.count("pre_stop") != 0 {
			t.Fatalf("ran %v", c.ran)
		}
		r.rt.Crash("web", 1)
		r.after(time.Second)
		r.is("web", Running)
		if c.count("post_start") != 2 || c.count("pre_stop") != 0 {
			t.Fatalf("ran %v", c.ran)
		}
		// The hook of what runs, when its record is gone, and within its grace.
		c.set("pre_stop", hangs)
		begin := time.Now()
		r.set(gone("web", 2))
		r.after(time.Second)
		r.is("web", Stopping)
		r.runs("web")
		r.after(31 * time.Second)
		r.is("web", Stopped)
		if c.count("pre_stop") != 1 || time.Since(begin) > 33*time.Second {
			t.Fatalf("ran %v", c.ran)
		}
	})
}

// A failing post_start ends the instance, as a crash with its reason.
func TestFailingPostStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		c.set("post_start", 7)
		r := newRig(t, c.machine())
		defer r.end()
		r.set(want("web", 1, hooks))
		r.after(2 * time.Minute)
		rep := r.report("web")
		if rep.Ready || rep.Restarts < 5 || !strings.Contains(rep.Reason, "post_start exited with code 7") {
			t.Fatalf("report %+v", rep)
		}
		if n := c.count("post_start"); n < 5 || n > 12 || r.rt.Count("web") != 1 {
			t.Fatalf("%d attempts", n)
		}
		c.set("post_start", 0)
		r.after(time.Minute)
		if rep := r.is("web", Running); !rep.Ready {
			t.Fatalf("report %+v", rep)
		}
	})
}
