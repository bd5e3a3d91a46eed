package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// conformance: F1
func TestAgentRestartAdopts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		r.rt.Crash("web", 1)
		r.after(time.Minute)
		r.rt.Crash("web", 4)
		r.after(time.Minute)
		before := r.is("web", Running)
		r.restart(d)
		r.after(time.Minute)
		after := r.is("web", Running)
		if after.PID != before.PID || after.Restarts != 2 || after.ExitCode == nil || *after.ExitCode != 4 || !after.StartedAt.Equal(before.StartedAt) {
			t.Fatalf("before %+v, after %+v", before, after)
		}
		if n := r.rt.Starts("web"); n != 3 {
			t.Fatalf("%d starts, want 3", n)
		}
	})
}

// conformance: F3
// conformance: C4
func TestExitWhileAgentWasAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		for range 5 { // up to a back-off of 4 s
			r.rt.Crash("web", 1)
			r.after(10 * time.Second)
		}
		r.is("web", Running)
		r.end()
		r.after(time.Second)
		r.rt.Crash("web", 9)
		r.after(time.Second)
		r.start()
		r.set(d)
		rep := r.is("web", BackOff) // the streak survived, and so did the time that has passed
		if !strings.Contains(rep.Reason, "exited with code 9 while agentd was away") || !strings.Contains(rep.Reason, "6 restarts") {
			t.Fatalf("reason %q", rep.Reason)
		}
		r.after(7 * time.Second) // of 8 s one has passed
		if rep := r.is("web", Running); rep.Restarts != 6 {
			t.Fatalf("report %+v", rep)
		}
	})
}

// A reboot loses tasks and exit codes; what ran starts at once.
//
// conformance: F6
// conformance: U4
func TestBootStartsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		for range 5 {
			r.rt.Crash("web", 1)
			r.after(10 * time.Second)
		}
		inst, _ := r.rt.Instance("web")
		r.end()
		r.rt.Put(runtime.Spec{ID: "web", Labels: inst.Labels}, runtime.StateCreated)
		r.start()
		r.set(d)
		rep := r.is("web", Running)
		if rep.Restarts != 6 {
			t.Fatalf("report %+v", rep)
		}
	})
}

// conformance: A5
func TestExtraContainersAreReducedToOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		labels := stableLabels(d, "n1")
		r.rt.Put(runtime.Spec{ID: "web.next", Labels: labels}, runtime.StateRunning)
		r.rt.Put(runtime.Spec{ID: "web", Labels: map[string]string{runtime.LabelDaemon: "web", runtime.LabelDigest: "old"}}, runtime.StateRunning)
		r.after(time.Second) // so that it was seen
		r.set(d)
		r.after(10 * time.Second)
		r.runs("web.next") // the wanted digest runs there: it is not restarted for its name
		if rep := r.is("web", Running); rep.Container != "web.next" || r.rt.Starts("web.next") != 0 {
			t.Fatalf("report %+v", rep)
		}
		r.rt.Crash("web.next", 1)
		r.after(time.Second)
		r.runs("web.next")
	})
}

func TestHalfStatesConverge(t *testing.T) {
	for _, state := range []runtime.State{runtime.StateCreated, runtime.StateRunning, runtime.StatePaused, runtime.StateStopped, runtime.StateBroken} {
		for _, digest := range []string{"same", "other"} {
			t.Run(fmt.Sprintf("%s of the %s digest", state, digest), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					r := newRig(t, fake.Config{})
					defer r.end()
					d := want("web", 1)
					labels := stableLabels(d, "n1")
					if digest == "other" {
						labels[runtime.LabelDigest] = "x"
					}
					r.rt.Put(runtime.Spec{ID: "web", Labels: labels}, state)
					r.after(time.Second)
					r.set(d)
					r.after(10 * time.Second)
					rep := r.is("web", Running)
					if rep.Digest != d.Digest || r.rt.Count("web") != 1 {
						t.Fatalf("report %+v, %d at once", rep, r.rt.Count("web"))
					}
					// And from the same state to nothing.
					r.end()
					r.rt.Put(runtime.Spec{ID: "web", Labels: labels}, state)
					r.start()
					r.set(gone("web", 2))
					r.after(10 * time.Second)
					r.runs()
					r.is("web", Stopped)
				})
			})
		}
	}
}

// conformance: F2
func TestRuntimeOutageFreezesDecisions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1), want("db", 1))
		before := r.is("web", Running)
		for range 3 {
			r.rt.SetUnavailable(true)
			r.after(10 * time.Second)
			rep := r.is("web", Running)
			if !strings.Contains(rep.Reason, "does not answer since") || !strings.Contains(rep.Reason, "last known: runs revision 1") {
				t.Fatalf("reason %q", rep.Reason)
			}
			calls := len(r.rt.Calls(fake.OpEnsure))
			r.s.Set([]Desired{want("web", 1), gone("db", 2), want("new", 1)})
			r.after(time.Minute)
			if n := len(r.rt.Calls(fake.OpEnsure)); n != calls {
				t.Fatal("it acted in the dark")
			}
			r.is("new", Waiting)
			r.s.Set([]Desired{want("web", 1), want("db", 1)})
			r.rt.SetUnavailable(false)
			r.after(2 * time.Second)
		}
		after := r.is("web", Running)
		if after.PID != before.PID || after.Restarts != 0 || strings.Contains(after.Reason, "answer") {
			t.Fatalf("after the outage: %+v", after)
		}
		r.runs("db", "web")
		if r.rt.Starts("web") != 1 || r.rt.Starts("db") != 1 {
			t.Fatal("something was restarted")
		}
		// What ended during an outage is accounted for after it.
		r.rt.SetUnavailable(true)
		r.after(2 * time.Second)
		r.rt.Kill("web")
		r.after(10 * time.Second)
		r.rt.SetUnavailable(false)
		r.after(2 * time.Second)
		if rep := r.is("web", Running); rep.Restarts != 1 || rep.PID == before.PID {
			t.Fatalf("after an exit in the dark: %+v", rep)
		}
	})
}

// A step that gets no answer is no failure of the daemon.
func TestUnavailableStepIsNotCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		for range 3 {
			r.rt.FailNext(fake.OpEnsure, fmt.Errorf("create: %w", runtime.ErrUnavailable))
		}
		r.set(want("web", 1))
		if n := len(r.rt.Calls(fake.OpEnsure)); n != 1 {
			t.Fatalf("%d attempts at once", n)
		}
		r.after(4 * time.Second) // a second apart, not in a circle
		rep := r.is("web", Running)
		if rep.Restarts != 0 || len(r.rt.Calls(fake.OpEnsure)) != 4 {
			t.Fatalf("report %+v, %d calls", rep, len(r.rt.Calls(fake.OpEnsure)))
		}
	})
}

func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1)
		r.set(d)
		before := r.is("web", Running)
		d2 := want("web", 2)
		d2.Hold = "two operators wrote it at once"
		none := want("none", 1)
		none.Hold = d2.Hold
		r.set(d2, none)
		r.after(time.Minute)
		rep := r.is("web", Blocked)
		if rep.PID != before.PID || !rep.Ready || !strings.Contains(rep.Reason, d2.Hold) || !strings.Contains(rep.Reason, "revision 1 keeps running") {
			t.Fatalf("report %+v", rep)
		}
		if rep := r.is("none", Blocked); rep.Ready || !rep.Placed {
			t.Fatalf("report %+v", rep)
		}
		d2.Hold, none.Hold = "", ""
		r.set(d2, none)
		r.after(time.Second)
		r.is("none", Running)
		if rep := r.is("web", Running); rep.Revision != 2 {
			t.Fatalf("report %+v", rep)
		}
	})
}

func TestPolicyBlocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		strict := func(c *Config) { c.Policy = permissive(t, func(p *policyConfig) {}) }
		r := newRig(t, fake.Config{}, strict)
		defer r.end()
		privileged := func(d *spec.Daemon) { d.Privileged = true }
		r.set(want("root", 1, privileged), want("web", 1))
		rep := r.is("root", Blocked)
		if rep.Ready || !rep.Placed || !strings.Contains(rep.Reason, "policy.privileged") {
			t.Fatalf("report %+v", rep)
		}
		before := r.is("web", Running)
		// A new revision that is denied leaves the old one running.
		r.set(want("root", 1, privileged), want("web", 2, privileged))
		r.after(time.Minute)
		rep = r.is("web", Blocked)
		if rep.PID != before.PID || !rep.Ready || !strings.Contains(rep.Reason, "revision 1 keeps running") {
			t.Fatalf("report %+v", rep)
		}
		if len(r.rt.Calls(fake.OpPull)) != 1 {
			t.Fatal("a denied image was pulled")
		}
		// A policy that got stricter leaves what runs, and never starts it again.
		r.set(want("web", 1))
		r.after(time.Second)
		r.end()
		r.cfg.Policy = permissive(t, func(p *policyConfig) { p.Images = []string{"quay.io/**"} })
		r.start()
		r.set(want("web", 1))
		r.after(time.Minute)
		rep = r.is("web", Blocked)
		if rep.PID != before.PID || !strings.Contains(rep.Reason, "policy.images") {
			t.Fatalf("report %+v", rep)
		}
		r.rt.Crash("web", 1)
		r.after(time.Minute)
		if rep = r.is("web", Blocked); rep.Ready || !strings.Contains(rep.Reason, "not started again") {
			t.Fatalf("report %+v", rep)
		}
		r.runs()
	})
}

// rough is a runtime with calls of its own.
type rough struct {
	runtime.Runtime
	ensure func(context.Context, runtime.Spec) (runtime.Instance, error)
}

func (r *rough) Ensure(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
	return r.ensure(ctx, s)
}

func TestOneDaemonsHangStarvesNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var rg *rough
		r := newRig(t, fake.Config{}, func(c *Config) {
			rg = &rough{Runtime: c.Runtime}
			rg.ensure = func(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
				if s.ID == "stuck" {
					<-ctx.Done()
					return runtime.Instance{}, ctx.Err()
				}
				return rg.Runtime.Ensure(ctx, s)
			}
			c.Runtime = rg
		})
		defer r.end()
		r.set(want("stuck", 1), want("web", 1))
		r.is("web", Running)
		r.is("stuck", Starting)
		r.rt.Kill("web")
		synctest.Wait()
		r.is("web", Running)
		r.after(4 * time.Minute) // past the limit of a step
		r.is("web", Running)
		if len(r.rt.Calls(fake.OpEnsure)) != 2 {
			t.Fatal("unexpected calls")
		}
	})
}

// Pulls that hang let others through.
func TestHangingPullsLetOthersThrough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{PullLatency: 10 * time.Minute})
		defer r.end()
		var all []Desired
		for i := range pullSlots + 1 {
			all = append(all, want(fmt.Sprintf("d%d", i), 1))
		}
		r.set(all...)
		r.after(pullPatience + 10*time.Minute + time.Second)
		r.is("d0", Running)
		r.is(fmt.Sprintf("d%d", pullSlots), Running)
	})
}

func TestPanicsAreIsolatedAndQuarantined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var rg *rough
		var panics atomic.Int32
		r := newRig(t, fake.Config{}, func(c *Config) {
			rg = &rough{Runtime: c.Runtime}
			rg.ensure = func(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
				if s.Env[0] == "REV=1" && s.ID == "bad" {
					panics.Add(1)
					panic("nil map")
				}
				return rg.Runtime.Ensure(ctx, s)
			}
			c.Runtime = rg
		})
		defer r.end()
		r.set(want("bad", 1), want("web", 1))
		r.after(time.Millisecond)
		if rep := r.is("bad", BackOff); !strings.Contains(rep.Reason, "agentd itself failed") {
			t.Fatalf("reason %q", rep.Reason)
		}
		r.is("web", Running)
		r.restart(want("bad", 1), want("web", 1)) // does not forgive
		r.after(time.Hour)
		rep := r.is("bad", Blocked)
		if panics.Load() != quarantineAfter || !strings.Contains(rep.Reason, "quarantined") || !strings.Contains(rep.Reason, "nil map") {
			t.Fatalf("%d panics, report %+v", panics.Load(), rep)
		}
		r.is("web", Running)
		r.restart(want("bad", 1))
		r.after(time.Minute)
		r.is("bad", Blocked)
		r.set(want("bad", 2)) // another digest has its own chance
		r.after(time.Second)
		r.is("bad", Running)
		if panics.Load() != quarantineAfter {
			t.Fatalf("%d panics", panics.Load())
		}
	})
}

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

func TestFilesAndVolumes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		withFile := func(content string) func(*spec.Daemon) {
			return func(d *spec.Daemon) {
				d.Files = []spec.File{{Target: "/etc/app.conf", Content: content, Mode: "0440"}}
				d.Mounts = []spec.Mount{{Volume: "data", Target: "/data"}}
				d.User = "65534:65533"
			}
		}
		r.set(want("web", 1, withFile("one")))
		r.is("web", Running)
		s, _ := r.rt.Spec("web")
		var file, volume string
		for _, m := range s.Mounts {
			switch m.Target {
			case "/etc/app.conf":
				file = m.Source
			case "/data":
				volume = m.Source
			}
		}
		check := func(content string) {
			t.Helper()
			b, err := os.ReadFile(file)
			info, _ := os.Stat(file)
			if err != nil || string(b) != content || info.Mode().Perm() != 0o440 {
				t.Fatalf("file holds %q, %v, %v", b, err, info)
			}
		}
		check("one")
		if volume != filepath.Join(r.dir, "volumes", "data") {
			t.Fatalf("volume at %q", volume)
		}
		if err := os.WriteFile(filepath.Join(volume, "precious"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		old := file
		r.set(want("web", 2, withFile("two")))
		r.after(time.Second)
		s, _ = r.rt.Spec("web")
		file = s.Mounts[1].Source
		check("two")
		if _, err := os.Stat(old); err == nil || file == old {
			t.Fatalf("the old revision's file is left at %s", old)
		}
		r.set(gone("web", 3))
		r.after(time.Second)
		if left, _ := filepath.Glob(filepath.Join(r.dir, "files", "*")); len(left) != 0 {
			t.Fatalf("left are %v", left)
		}
		if _, err := os.Stat(filepath.Join(volume, "precious")); err != nil {
			t.Fatal("a volume was removed with its daemon")
		}
	})
}

// A source that is not there is found before the old container is stopped.
func TestMissingMountSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1))
		before := r.is("web", Running)
		src := filepath.Join(r.dir, "later")
		r.set(want("web", 2, func(d *spec.Daemon) { d.Mounts = []spec.Mount{{Source: src, Target: "/x"}} }))
		r.after(time.Second / 2)
		rep := r.is("web", Running)
		if rep.PID != before.PID || !strings.Contains(rep.Reason, "does not exist on this node") {
			t.Fatalf("report %+v", rep)
		}
		if err := os.Mkdir(src, 0o755); err != nil {
			t.Fatal(err)
		}
		r.after(time.Minute)
		if rep := r.is("web", Running); rep.Revision != 2 {
			t.Fatalf("report %+v", rep)
		}
	})
}

// The image's tag was resolved by whoever accepted the record; where that
// digest can't be had, the tag's own is better than nothing, and said.
func TestImageHint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{Images: map[string]string{"web:v1": "sha256:here"}})
		defer r.end()
		d := want("web", 1)
		d.ImageDigest = "sha256:elsewhere"
		r.set(d)
		r.after(time.Second)
		rep := r.is("web", Running)
		if rep.ImageDigest != "sha256:here" || !strings.Contains(strings.Join(rep.Reasons, "; "), "the ring expects") {
			t.Fatalf("report %+v", rep)
		}
	})
}

func TestLogFilesAreRotated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		r := newRig(t, fake.Config{}, func(c *Config) {
			c.LogMaxSize, c.LogMaxFiles = 10, 3
			c.Rotate = func(path string, size int64, files int) error {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(filepath.Base(path), size, files))
				return nil
			}
		})
		defer r.end()
		r.set(want("web", 1), want("none", 1, func(d *spec.Daemon) { d.Nodes = []string{"n2"} }))
		r.after(rotateEvery + time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 1 || got[0] != "web.log10 3" {
			t.Fatalf("rotated %q", got)
		}
	})
}

// What this agent stopped itself, for a revision that was taken back before it
// could start, is no crash.
func TestOwnStopIsNoCrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{StopLatency: 2 * time.Second})
		defer r.end()
		r.set(want("web", 1))
		r.is("web", Running)
		r.set(want("web", 2))
		r.is("web", Stopping)
		r.after(time.Second)
		r.set(want("web", 1))
		r.after(2 * time.Second)
		if rep := r.is("web", Running); rep.Restarts != 0 || rep.ExitCode != nil || rep.Revision != 1 {
			t.Fatalf("report %+v", rep)
		}
		if n := r.rt.Starts("web"); n != 2 {
			t.Fatalf("%d starts", n)
		}
	})
}
