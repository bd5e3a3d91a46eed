package probe

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/spec"
)

// every is a probe that is asked every d.
func every(d, timeout time.Duration, failures int) *spec.Probe {
	return &spec.Probe{TCP: "x", Interval: spec.Duration(d), Timeout: spec.Duration(timeout), Successes: 1, Failures: failures}
}

// Attempts come one after the other, at their interval, and none that was
// missed is made up for.
func TestAttemptsNeverPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under, most, n atomic.Int32
		var starts []time.Duration
		begin := time.Now()
		w := Watch(t.Context(), Config{Health: spec.Health{Liveness: every(time.Second, 3500*time.Millisecond, 100)},
			Ask: func(ctx context.Context, _ spec.Probe) Outcome {
				most.Store(max(most.Load(), under.Add(1)))
				defer under.Add(-1)
				starts = append(starts, time.Since(begin))
				if n.Add(1) == 2 {
					<-ctx.Done() // hangs until its timeout
				}
				return Outcome{Result: Passed}
			}})
		time.Sleep(10*time.Second + time.Millisecond)
		w.Stop()
		want := []time.Duration{0, 1000, 4500, 5500, 6500, 7500, 8500, 9500}
		if most.Load() != 1 || len(starts) != len(want) {
			t.Fatalf("%d at once, begun at %v", most.Load(), starts)
		}
		for i, at := range want {
			if starts[i] != at*time.Millisecond {
				t.Fatalf("begun at %v, want %v ms", starts, want)
			}
		}
	})
}

func TestWatcherVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var well atomic.Bool
		var changes atomic.Int32
		var mu sync.Mutex
		told := map[Kind]int{}
		begin := time.Now()
		w := Watch(t.Context(), Config{
			Health: spec.Health{Startup: every(10*time.Second, time.Second, 3), Liveness: every(10*time.Second, time.Second, 3), Readiness: every(10*time.Second, time.Second, 2)},
			Ask: func(context.Context, spec.Probe) Outcome {
				if well.Load() {
					return Outcome{Result: Passed}
				}
				return Outcome{Failed, "refused"}
			},
			Changed: func() { changes.Add(1) },
			Told: func(k Kind, _ string, n int) {
				mu.Lock()
				defer mu.Unlock()
				told[k] = max(told[k], n)
			},
		})
		defer w.Stop()
		is := func(at time.Duration, good, dead bool) {
			t.Helper()
			time.Sleep(time.Until(begin.Add(at)))
			synctest.Wait()
			if v := w.Verdict(); v.Good() != good || v.Dead != dead {
				t.Fatalf("at %v: %+v", at, v)
			}
		}
		is(time.Millisecond, false, false)
		is(9*time.Second, false, false) // the first interval forgives
		well.Store(true)
		is(9600*time.Millisecond, true, false) // and is not waited for
		if n := changes.Load(); n < 2 || n > 3 {
			t.Fatalf("%d changes were told", n)
		}
		well.Store(false)
		is(30*time.Second, false, false) // two of readiness
		is(40*time.Second, false, true)  // three of liveness
		well.Store(true)
		is(51*time.Second, true, false)
		c := w.Counts()
		if c[Liveness].Failed < 3 || c[Readiness].Passed < 2 || c[Startup].Passed != 1 || told[Startup] != 0 || told[Liveness] != 3 {
			t.Fatalf("counts %+v, told %v", c, told)
		}
	})
}

func TestDelayCountsFromTheStart(t *testing.T) {
	tests := []struct {
		name        string
		age         time.Duration
		first, calm time.Duration
	}{
		{"just started", 0, 5 * time.Second, 15 * time.Second},
		{"adopted in its delay", 3 * time.Second, 2 * time.Second, 12 * time.Second},
		{"adopted long after", time.Hour, 0, 0},
		{"started in the future, by a clock that was set back", -time.Hour, 5 * time.Second, 15 * time.Second},
	}
	for _, tt := range tests {
		now := time.Now()
		first, calm := schedule(now, tt.age, 5*time.Second, 10*time.Second)
		if first.Sub(now) != tt.first || calm.Sub(now) != tt.calm {
			t.Errorf("%s: first after %v, calm after %v", tt.name, first.Sub(now), calm.Sub(now))
		}
	}
}

// A panic of an attempt says nothing about the daemon.
func TestPanicIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch(t.Context(), Config{Health: spec.Health{Liveness: every(time.Second, time.Second, 1)},
			Ask: func(context.Context, spec.Probe) Outcome { panic("nil map") }})
		time.Sleep(time.Minute)
		synctest.Wait()
		if v := w.Verdict(); !v.Good() || w.Counts()[Liveness].Unknown == 0 {
			t.Fatalf("%+v, %+v", v, w.Counts())
		}
		w.Stop()
	})
}

// Stop joins everything, in the middle of an attempt too; the bubble fails when
// a goroutine is left.
func TestStopJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, h := range []spec.Health{{}, {Startup: every(1, 1, 1)}, {Liveness: every(1, time.Hour, 1)},
			{Startup: every(1, time.Hour, 1), Readiness: every(1, 1, 1)}} {
			w := Watch(context.Background(), Config{Health: h, Ask: func(ctx context.Context, _ spec.Probe) Outcome {
				<-ctx.Done()
				return Outcome{Result: Failed}
			}})
			synctest.Wait()
			w.Stop()
		}
	})
}
