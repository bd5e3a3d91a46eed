package supervise

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

func TestStopAllAndResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{StopLatency: 5 * time.Second})
		defer r.end()
		r.rt.Put(runtime.Spec{ID: "old", Labels: map[string]string{runtime.LabelDaemon: "old"}}, runtime.StateRunning)
		r.rt.PutForeign("theirs")
		all := []Desired{want("a", 1), want("b", 1), want("c", 1)}
		r.set(all...)
		r.runs("a", "b", "c", "old", "theirs")

		begin := time.Now()
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.s.StopAll(short); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "a, b, c") {
			t.Fatalf("error %v", err)
		}
		if err := r.s.StopAll(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 6*time.Second {
			t.Fatalf("stopping took %v: not in parallel", took)
		}
		r.runs("theirs")
		for _, rep := range r.s.Reports() {
			if rep.Container != "" || rep.State != string(Stopped) || !strings.Contains(rep.Reason, "left the ring") {
				t.Fatalf("report %+v", rep)
			}
		}
		r.set(all...)
		r.after(time.Hour)
		r.runs("theirs")

		// An agent that starts as left stops what it finds and starts nothing.
		r.end()
		r.cfg.Left = true
		r.rt.Put(runtime.Spec{ID: "a", Labels: stableLabels(all[0], "n1")}, runtime.StateRunning)
		r.start()
		r.set(all...)
		r.after(time.Minute)
		r.runs("theirs")
		r.s.Resume()
		r.after(time.Second)
		r.runs("a", "b", "c", "theirs")
	})
}

// StopAll in the middle of starts leaves nothing that starts behind its back.
func TestStopAllDuringStarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{StartLatency: 3 * time.Second})
		defer r.end()
		r.set(want("a", 1), want("b", 1))
		r.is("a", Starting)
		if err := r.s.StopAll(context.Background()); err != nil {
			t.Fatal(err)
		}
		r.runs()
		r.after(time.Minute)
		r.runs()
		if len(r.s.Reports()) != 2 {
			t.Fatalf("reports %+v", r.s.Reports())
		}
	})
}

// The end of Run stops no container and waits for a step under way, but not
// for ever.
func TestEndOfRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{StartLatency: 4 * time.Second})
		r.set(want("web", 1))
		r.is("web", Starting)
		begin := time.Now()
		r.end()
		if took := time.Since(begin); took != 4*time.Second {
			t.Fatalf("Run ended after %v", took)
		}
		r.runs("web")
		r.start()
		r.set(want("web", 1), want("slow", 1))
		r.end()
		r.start()
		r.set(want("web", 1), want("slow", 1))
		r.after(time.Minute)
		r.runs("slow", "web")
		r.end()
		if r.rt.Starts("web") != 1 || r.rt.Count("slow") != 1 {
			t.Fatal("restarted, or two at once")
		}
	})
}

func TestEndOfRunIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{StopLatency: time.Hour})
		r.set(want("web", 1, func(d *spec.Daemon) { d.Stop.Grace = spec.Duration(2 * time.Hour) }))
		r.is("web", Running)
		r.set(gone("web", 2))
		r.is("web", Stopping)
		begin := time.Now()
		r.end()
		if took := time.Since(begin); took != 10*time.Second {
			t.Fatalf("Run ended after %v, want ShutdownWait's default", took)
		}
		time.Sleep(2 * time.Hour) // for the fake's own goroutine
	})
}
