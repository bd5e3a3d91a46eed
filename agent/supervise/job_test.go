package supervise

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// asJob makes a job of at most n attempts.
func asJob(n int) func(*spec.Daemon) {
	return func(d *spec.Daemon) {
		d.Type, d.Restart.Attempts = spec.TypeJob, n
	}
}

// ending is a machine whose programs end after a second, with the code of the
// moment.
func ending(code *atomic.Uint32) fake.Config {
	return fake.Config{Program: func(runtime.Spec) fake.Program {
		return fake.Program{Exits: true, After: time.Second, Code: code.Load()}
	}}
}

// A job runs once per digest: not after an agent's restart, a reboot, an
// unchanged record or a drain, and not when its container was removed.
//
// conformance: C3
func TestJobRunsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var code atomic.Uint32
		r := newRig(t, ending(&code))
		defer r.end()
		d := want("job", 1, asJob(0))
		r.set(d)
		if rep := r.is("job", Running); rep.Ready {
			t.Fatalf("a job that runs is not ready: %+v", rep)
		}
		r.after(2 * time.Second)
		done := func() {
			t.Helper()
			rep := r.is("job", Completed)
			if !rep.Ready || rep.ExitCode == nil || *rep.ExitCode != 0 || !strings.Contains(rep.Reason, "the job is done: exited with code 0") {
				t.Fatalf("report %+v", rep)
			}
			if n := r.rt.Starts("job"); n != 1 {
				t.Fatalf("%d starts", n)
			}
		}
		done()
		d.Generation++
		r.set(d)
		r.after(time.Minute)
		done()
		r.restart(d)
		r.after(time.Minute)
		done()
		r.s.SetNode(r.cfg.Node, true, true)
		r.after(time.Minute)
		r.is("job", Excluded)
		r.s.SetNode(r.cfg.Node, false, false)
		r.after(time.Minute)
		done()
		r.end()
		if err := r.rt.Remove(t.Context(), "job"); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.set(d)
		r.after(time.Minute)
		done()
		// Another digest runs, and the first one is still remembered.
		r.set(want("job", 2, asJob(0)))
		r.after(time.Minute)
		r.is("job", Completed)
		r.set(d)
		r.after(time.Minute)
		if r.is("job", Completed); r.rt.Starts("job") != 2 {
			t.Fatalf("%d starts", r.rt.Starts("job"))
		}
	})
}

// conformance: C3
// conformance: C4
func TestJobAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var code atomic.Uint32
		code.Store(3)
		r := newRig(t, ending(&code))
		defer r.end()
		d := want("job", 1, asJob(4))
		r.set(d)
		r.after(1500 * time.Millisecond) // the second attempt runs
		r.restart(d)
		r.after(time.Minute)
		rep := r.is("job", Stopped)
		if rep.Ready || r.rt.Starts("job") != 4 || rep.ExitCode == nil || *rep.ExitCode != 3 ||
			!strings.Contains(rep.Reason, "the job failed: exited with code 3") || !strings.Contains(rep.Reason, "restart.attempts = 4 is used up") {
			t.Fatalf("%d starts, report %+v", r.rt.Starts("job"), rep)
		}
		r.restart(d)
		r.after(time.Hour)
		r.is("job", Stopped)
		if r.rt.Starts("job") != 4 {
			t.Fatalf("%d starts", r.rt.Starts("job"))
		}
		// Those of an older digest do not count.
		r.set(want("job", 2, asJob(2)))
		r.after(time.Minute)
		if r.is("job", Stopped); r.rt.Starts("job") != 6 {
			t.Fatalf("%d starts", r.rt.Starts("job"))
		}
		// A failure that passes is answered by another attempt.
		r.set(want("job", 3, asJob(3)))
		r.after(500 * time.Millisecond)
		code.Store(0)
		r.after(time.Minute)
		if rep := r.is("job", Completed); !strings.Contains(rep.Reason, "at attempt 2") {
			t.Fatalf("report %+v", rep)
		}
	})
}

// A job that can't be started at all ends too; one that was interrupted by us
// did not fail, and neither did one whose runtime was away.
//
// conformance: C7
func TestJobThatCannotStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{Program: func(runtime.Spec) fake.Program {
			return fake.Program{FailStart: errors.New("exec: \"/nope\": no such file")}
		}})
		defer r.end()
		r.set(want("job", 1, asJob(3)), want("web", 1))
		r.after(time.Hour)
		if rep := r.is("job", Stopped); !strings.Contains(rep.Reason, "cannot be started") || !strings.Contains(rep.Reason, "/nope") {
			t.Fatalf("report %+v", rep)
		}
		r.is("web", BackOff) // a daemon is never given up
	})
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		for range 5 {
			r.rt.FailNext(fake.OpEnsure, fmt.Errorf("create: %w", runtime.ErrUnavailable))
		}
		r.set(want("job", 1, asJob(1)))
		r.after(10 * time.Second)
		r.is("job", Running)
		r.s.SetNode(r.cfg.Node, false, true)
		r.after(time.Second)
		r.s.SetNode(r.cfg.Node, false, false)
		r.after(time.Second)
		if rep := r.is("job", Running); rep.Restarts != 0 {
			t.Fatalf("report %+v", rep)
		}
	})
}

// What is remembered of jobs is bounded, and a broken file is as good as none.
//
// conformance: E6
// conformance: F4
func TestJobFile(t *testing.T) {
	dir := t.TempDir()
	for i := range jobsKept + 5 {
		if _, err := writeJob(dir, "job", JobEnd{Digest: strings.Repeat("x", i+1), Good: true}); err != nil {
			t.Fatal(err)
		}
	}
	ends := readJobs(dir, "job")
	if len(ends) != jobsKept || jobEnd(ends, "xxxxx") != nil || jobEnd(ends, "xxxxxx") == nil {
		t.Fatalf("kept are %+v", ends)
	}
	if err := os.WriteFile(jobsPath(dir, "job"), []byte(`[{"digest":"x"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if ends := readJobs(dir, "job"); ends != nil {
		t.Fatalf("read %+v", ends)
	}
}

// What does not fit on the node is retried, and nothing that runs makes room
// for it.
//
// conformance: A6
func TestWhatDoesNotFitEvictsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{Program: func(s runtime.Spec) fake.Program {
			if s.ID == "big" {
				return fake.Program{FailStart: errors.New("runc create: cannot allocate memory")}
			}
			return fake.Program{}
		}})
		defer r.end()
		r.set(want("web", 1))
		before := r.is("web", Running)
		r.set(want("web", 1), want("big", 1))
		r.after(time.Hour)
		if rep := r.is("big", BackOff); !strings.Contains(rep.Reason, "cannot allocate memory") {
			t.Fatalf("report %+v", rep)
		}
		if rep := r.is("web", Running); rep.PID != before.PID || r.rt.Starts("web") != 1 {
			t.Fatalf("report %+v", rep)
		}
	})
}
