package supervise

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// bystander sees which containers run, whatever an agent says of it.
type bystander struct {
	mu      sync.Mutex
	running map[string]string // id: digest
	least   int               // that ran at once since begin
	most    int
}

func (b *bystander) watch(c fake.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running == nil {
		b.running = map[string]string{}
	}
	if c.What == fake.Started {
		b.running[c.Instance.ID] = c.Instance.Labels[runtime.LabelDigest]
	} else {
		delete(b.running, c.Instance.ID)
	}
	b.least, b.most = min(b.least, len(b.running)), max(b.most, len(b.running))
}

func (b *bystander) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.least, b.most = len(b.running), len(b.running)
}

// An agent that is killed anywhere in a surge is followed by one that goes on:
// there is never a moment without a container, nor one with three, and each is
// started once. The same where what was handed over is forgotten, where the
// surge is called off meanwhile, and after a power cut.
//
// conformance: D3
// conformance: F1
func TestSurgeOutlivesItsAgent(t *testing.T) {
	for _, way := range []string{"at once", "away for a while", "without its file", "called off", "power cut"} {
		t.Run(way, func(t *testing.T) {
			for at := time.Duration(0); at < 6*time.Second; at += 100 * time.Millisecond {
				bubble(t, func(t *testing.T) {
					if wrong := killed(t, way, at); wrong != "" {
						t.Fatalf("killed after %v: %s", at, wrong)
					}
				})
			}
		})
	}
}

// killed kills the agent so long after a surge began, and says what is wrong in
// the end.
func killed(t *testing.T, way string, at time.Duration) string {
	var b bystander
	machine := slow
	machine.Watch = b.watch
	r := newRig(t, machine, func(c *Config) { c.ShutdownWait = time.Nanosecond })
	defer r.end()
	rev := func(n int) Desired {
		return want("web", n, surge(2*time.Second), func(d *spec.Daemon) { d.Image = fmt.Sprintf("web:v%d", n) })
	}
	v1, v2 := rev(1), rev(2)
	r.set(v1)
	r.after(10 * time.Second)
	first := r.is("web", Running)
	b.begin()
	r.set(v2)
	r.after(at)
	r.end()
	handed := readCurrent(r.dir, "web").Digest == v2.Digest
	next := v2
	switch way {
	case "away for a while":
		r.after(20 * time.Second)
	case "without its file":
		if err := os.Remove(currentPath(r.dir, "web")); err != nil {
			t.Fatal(err)
		}
	case "called off":
		next = v1
	case "power cut":
		r.rt.PowerCut()
	}
	r.start()
	r.set(next)
	r.after(30 * time.Second)
	rep := r.is("web", Running)
	b.mu.Lock()
	defer b.mu.Unlock()
	starts := r.rt.Starts("web") + r.rt.Starts("web.next")
	switch {
	case len(b.running) != 1 || b.running[rep.Container] != next.Digest || rep.Digest != next.Digest || !rep.Ready:
		return fmt.Sprintf("running are %v; report %+v", b.running, rep)
	case b.most > 2:
		return fmt.Sprintf("%d at once", b.most)
	case way == "power cut":
		return ""
	case b.least < 1:
		return "for a moment, nothing ran"
	case way == "called off" && !handed && (rep.PID != first.PID || rep.Restarts != 0):
		return fmt.Sprintf("the old one was restarted: %+v", rep)
	case way != "called off" && starts != 2, rep.Restarts != 0:
		return fmt.Sprintf("%d starts; report %+v", starts, rep)
	}
	return ""
}

// However operators change their minds, however often new containers crash, and
// however often agents are killed meanwhile, something runs at every moment.
//
// conformance: D3
// conformance: D7
func TestSurgeLeavesNoGap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) event {
			return event{rapid.SampledFrom([]string{"revision", "revision", "kill", "crash", "sleep", "sleep"}).Draw(rt, "what"), rapid.IntRange(0, 4).Draw(rt, "n")}
		}), 1, 30).Draw(rt, "steps")
		farewell := time.Duration(rapid.SampledFrom([]int{0, 300, 20_000}).Draw(rt, "farewell")) * time.Millisecond
		wrong := ""
		synctest.Test(t, func(t *testing.T) { wrong = gap(t, farewell, steps) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func gap(t *testing.T, farewell time.Duration, steps []event) string {
	var b bystander
	machine := slow
	machine.Watch, machine.StopLatency = b.watch, farewell
	r := newRig(t, machine, func(c *Config) { c.ShutdownWait = time.Nanosecond })
	defer r.end()
	now := want("web", 1, surge(time.Second))
	r.set(now)
	r.after(10 * time.Second)
	b.begin()
	for _, s := range steps {
		switch s.what {
		case "revision":
			now = want("web", 1+s.n, surge(time.Second))
			r.s.Set([]Desired{now})
		case "kill":
			r.end()
			r.start()
			r.s.Set([]Desired{now})
		case "crash":
			r.after(0)
			if all := r.s.Reports(); len(all) > 0 && all[0].Beside != nil {
				r.rt.Crash(all[0].Beside.Container, 1)
			}
		case "sleep":
			r.after([]time.Duration{0, 100 * time.Millisecond, 550 * time.Millisecond, 2 * time.Second, 10 * time.Second}[s.n])
		}
	}
	r.after(5 * time.Minute)
	rep := r.report("web")
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.least < 1 || b.most > 2 || len(b.running) != 1 || b.running[rep.Container] != now.Digest || rep.State != string(Running) {
		return fmt.Sprintf("%d to %d ran at once, %v do now; report %+v", b.least, b.most, b.running, rep)
	}
	return ""
}
