package supervise

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// tainted is the test's node with taints.
func (r *rig) tainted(taints ...string) spec.Node {
	n := r.cfg.Node
	for _, s := range taints {
		taint, err := spec.ParseTaint(s)
		if err != nil {
			r.t.Fatal(err)
		}
		n.Taints = append(n.Taints, taint)
	}
	return n
}

// conformance: B5
func TestTaints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		tolerant := func(d *spec.Daemon) {
			d.Tolerations = []spec.Toleration{{Key: "dedicated", Operator: spec.TolerateExists}}
		}
		web, gpu := want("web", 1), want("gpu", 1, tolerant)
		r.set(web, gpu)
		before := r.is("web", Running)
		// NoSchedule keeps what runs, restarts it in place, and adds nothing.
		r.s.SetNode(r.tainted("dedicated=gpu:NoSchedule"), false, false)
		r.set(web, gpu, want("new", 1), want("new-gpu", 1, tolerant))
		r.after(time.Minute)
		if rep := r.is("web", Running); rep.PID != before.PID || !rep.Placed {
			t.Fatalf("report %+v", rep)
		}
		r.is("new-gpu", Running)
		if rep := r.is("new", Excluded); rep.Placed || rep.Reason != "taint dedicated=gpu:NoSchedule of this node is not tolerated" {
			t.Fatalf("report %+v", rep)
		}
		r.rt.Crash("web", 1)
		r.after(time.Second)
		r.is("web", Running)
		r.restart(web, gpu)
		r.s.SetNode(r.tainted("dedicated=gpu:NoSchedule"), false, false)
		r.after(time.Minute)
		r.is("web", Running)
		// NoExecute evicts what does not tolerate it.
		r.s.SetNode(r.tainted("dedicated=gpu:NoExecute"), false, false)
		r.after(time.Minute)
		if rep := r.is("web", Excluded); rep.Placed || rep.Container != "" || !strings.Contains(rep.Reason, "NoExecute") {
			t.Fatalf("report %+v", rep)
		}
		r.is("gpu", Running)
		r.s.SetNode(r.tainted(), false, false)
		r.after(time.Second)
		r.is("web", Running)
	})
}

// conformance: B6
func TestCordonAndDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1))
		before := r.is("web", Running)
		r.s.SetNode(r.cfg.Node, true, false)
		r.set(want("web", 2), want("new", 1))
		r.after(time.Minute)
		rep := r.is("web", Running)
		if rep.PID != before.PID || rep.Revision != 1 || !strings.Contains(rep.Reason, "revision 2 waits: this node is cordoned") ||
			!strings.Contains(rep.Reason, "revision 1 keeps running") {
			t.Fatalf("report %+v", rep)
		}
		r.is("new", Excluded)
		// What is here is kept alive, in the revision that it is.
		r.rt.Crash("web", 1)
		r.after(time.Second)
		if rep := r.is("web", Running); rep.Revision != 1 || rep.Restarts != 1 {
			t.Fatalf("report %+v", rep)
		}
		r.s.SetNode(r.cfg.Node, true, true)
		r.after(time.Second)
		if rep := r.is("web", Excluded); !strings.Contains(rep.Reason, "agentctl uncordon n1") || rep.Placed {
			t.Fatalf("report %+v", rep)
		}
		r.runs()
		r.set(want("web", 3), want("new", 1))
		r.after(time.Minute)
		r.runs()
		r.s.SetNode(r.cfg.Node, false, false)
		r.after(time.Second)
		r.runs("new", "web")
	})
}

// conformance: B3
func TestLabelChangeStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("web", 1, func(d *spec.Daemon) { d.Selector = map[string]string{"role": "edge"} }), want("other", 1))
		before := r.report("other")
		r.is("web", Running)
		n := r.cfg.Node
		n.Labels = map[string]string{"role": "db"}
		r.s.SetNode(n, false, false)
		r.after(time.Second)
		r.is("web", Excluded)
		if rep := r.is("other", Running); rep.PID != before.PID {
			t.Fatal("another daemon was touched")
		}
		r.s.SetNode(r.cfg.Node, false, false)
		r.after(time.Second)
		r.is("web", Running)
	})
}

// conformance: G1
// conformance: U4
// conformance: A8
func TestIsolation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		stops := func(d *spec.Daemon) {
			d.Isolation = spec.Isolation{Policy: spec.IsolationStop, After: spec.Duration(time.Hour)}
		}
		all := []Desired{want("keeps", 1), want("stops", 1, stops)}
		r.set(all...)
		before := r.is("keeps", Running)
		since := time.Now()
		r.s.SetIsolated(since)
		r.after(time.Hour - time.Second)
		r.is("stops", Running)
		r.after(time.Second)
		rep := r.is("stops", Stopped)
		if !rep.Placed || rep.Ready || !strings.Contains(rep.Reason, "isolation.policy is stop after 1h0m0s") {
			t.Fatalf("report %+v", rep)
		}
		r.runs("keeps")
		r.restart(all...)
		r.s.SetIsolated(since)
		r.after(time.Minute)
		r.s.SetIsolated(time.Time{})
		r.after(time.Second)
		r.runs("keeps", "stops")
		if rep := r.is("keeps", Running); rep.PID != before.PID {
			t.Fatalf("report %+v", rep)
		}
	})
}

// What runs here is the daemon as it is on this node; a value that the node
// does not have blocks it and stops nothing.
//
// conformance: U7
func TestRenderedPerNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		d := want("web", 1, func(d *spec.Daemon) {
			d.Env = map[string]string{"ROLE": "{{ node.labels.role }}", "NODE": "{{ node.name }}"}
			d.Overrides = []spec.Override{{Selector: map[string]string{"role": "edge"}, Args: []string{"--edge"}}}
		})
		r.set(d)
		rep := r.is("web", Running)
		s, _ := r.rt.Spec("web")
		if strings.Join(s.Env, " ") != "NODE=n1 ROLE=edge" || len(s.Args) != 1 || s.Args[0] != "--edge" {
			t.Fatalf("runs %v %v", s.Env, s.Args)
		}
		if rep.Digest != d.Digest || rep.Rendered == d.Digest || rep.Rendered == "" || len(rep.Origins) != 3 {
			t.Fatalf("report %+v", rep)
		}
		// An override for others restarts nothing here, and is taken over.
		other := want("web", 2, func(n *spec.Daemon) {
			*n = d.Daemon
			n.Overrides = append(n.Overrides, spec.Override{Selector: map[string]string{"role": "db"}, Args: []string{"--db"}})
		})
		r.set(other)
		r.after(time.Second)
		if now := r.is("web", Running); now.PID != rep.PID || now.Digest != other.Digest || now.Revision != 2 {
			t.Fatalf("report %+v", now)
		}
		// A label that others see changed here restarts what uses it.
		n := r.cfg.Node
		n.Labels = map[string]string{"role": "db"}
		r.s.SetNode(n, false, false)
		r.after(time.Second)
		if s, _ := r.rt.Spec("web"); len(s.Args) != 1 || s.Args[0] != "--db" || s.Env[1] != "ROLE=db" {
			t.Fatalf("runs %v %v", s.Env, s.Args)
		}
		now := r.is("web", Running)
		n.Labels = nil
		r.s.SetNode(n, false, false)
		r.after(time.Minute)
		rep = r.is("web", Blocked)
		if rep.PID != now.PID || !strings.Contains(rep.Reason, "cannot be rendered for this node") || !strings.Contains(rep.Reason, "role") {
			t.Fatalf("report %+v", rep)
		}
		// The current revision is known over a restart, as it was rendered.
		r.s.SetNode(r.cfg.Node, false, false)
		r.after(time.Second)
		now = r.is("web", Running)
		r.restart(other)
		r.after(time.Minute)
		if rep := r.is("web", Running); rep.PID != now.PID {
			t.Fatalf("report %+v", rep)
		}
	})
}

func needs(names ...string) func(*spec.Daemon) {
	return func(d *spec.Daemon) { d.DependsOn = names }
}

func TestDependenciesStartFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &clinic{}
		c.set("readiness", 1)
		r := newRig(t, c.machine())
		defer r.end()
		all := []Desired{want("web", 1, needs("api", "setup")), want("api", 1, needs("db")), want("db", 1, health(probe.Readiness))}
		r.set(all...)
		r.after(5 * time.Second)
		r.runs("db")
		if rep := r.is("api", Waiting); !rep.Placed || !strings.Contains(rep.Reason, "waits for db, which is not ready here: starting") {
			t.Fatalf("report %+v", rep)
		}
		if rep := r.is("web", Waiting); !strings.Contains(rep.Reason, "waits for api") || !strings.Contains(strings.Join(rep.Reasons, "\n"), "waits for setup, which is not ready here: no record of it here") {
			t.Fatalf("report %+v", rep)
		}
		c.set("readiness", 0)
		r.after(time.Second)
		r.runs("api", "db")
		// A dependency that comes later, and a job that is done when it is done.
		setup := want("setup", 1, asJob(0))
		r.set(append(all, setup)...)
		r.after(10 * time.Second)
		r.is("web", Waiting)
		r.rt.Crash("setup", 0)
		r.after(time.Second)
		r.runs("api", "db", "web")
		// What runs goes on when what it needs fails, and waits to start again.
		api := r.is("api", Running)
		c.set("readiness", 1)
		r.after(time.Minute)
		r.is("db", Unhealthy)
		if rep := r.is("api", Running); rep.PID != api.PID {
			t.Fatalf("report %+v", rep)
		}
		r.rt.Crash("api", 1)
		r.after(time.Minute)
		r.is("api", Waiting)
		c.set("readiness", 0)
		r.after(20 * time.Second)
		r.is("api", Running)
		// A reboot starts them in order again.
		r.end()
		for _, id := range []string{"web", "api", "db"} {
			r.rt.Lose(id)
		}
		c.set("readiness", 1)
		r.start()
		r.set(append(all, setup)...)
		r.after(30 * time.Second)
		r.runs("db")
		c.set("readiness", 0)
		r.after(20 * time.Second)
		r.runs("api", "db", "web")
	})
}

// conformance: U5
func TestDependenciesStopLast(t *testing.T) {
	order := func(r *rig) string {
		var ids []string
		for _, c := range r.rt.Calls(fake.OpStop) {
			ids = append(ids, c.ID)
		}
		return strings.Join(ids, " ")
	}
	all := []Desired{want("a-db", 1), want("b-api", 1, needs("a-db")), want("c-web", 1, needs("b-api")), want("d-other", 1)}
	for name, leave := range map[string]func(r *rig){
		"left": func(r *rig) {
			if err := r.s.StopAll(context.Background()); err != nil {
				t.Fatal(err)
			}
		},
		"drained": func(r *rig) { r.s.SetNode(r.cfg.Node, false, true) },
		"deleted": func(r *rig) { r.set(gone("a-db", 2), gone("b-api", 2), gone("c-web", 2), all[3]) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, fake.Config{StopLatency: 2 * time.Second})
				defer r.end()
				r.set(all...)
				r.after(time.Second)
				r.runs("a-db", "b-api", "c-web", "d-other")
				leave(r)
				r.after(time.Second)
				if name != "left" {
					if rep := r.is("a-db", Stopping); !strings.Contains(rep.Reason, "first b-api has to stop, which depends on it") {
						t.Fatalf("report %+v", rep)
					}
				}
				r.after(time.Minute)
				got := strings.ReplaceAll(order(r), "d-other", "")
				if strings.Join(strings.Fields(got), " ") != "c-web b-api a-db" {
					t.Fatalf("stopped in the order %q", order(r))
				}
			})
		})
	}
	t.Run("one that can't be stopped holds up the others for a time", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, fake.Config{})
			defer r.end()
			r.set(all...)
			r.after(time.Second)
			for range 100 {
				r.rt.FailNextOf(fake.OpStop, "c-web", context.DeadlineExceeded)
			}
			r.s.SetNode(r.cfg.Node, false, true)
			r.after(50 * time.Second)
			r.runs("a-db", "b-api", "c-web")
			r.after(3 * time.Minute)
			r.runs("c-web")
		})
	})
	t.Run("alone deleted, it does not wait", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, fake.Config{})
			defer r.end()
			r.set(all...)
			r.after(time.Second)
			r.set(gone("a-db", 2), all[1], all[2], all[3])
			r.after(time.Second)
			r.runs("b-api", "c-web", "d-other")
		})
	})
}

func TestCircleIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, fake.Config{})
		defer r.end()
		r.set(want("a", 1, needs("b")), want("b", 1, needs("c")), want("c", 1, needs("a")), want("d", 1, needs("a")), want("e", 1))
		r.after(time.Minute)
		r.runs("e")
		if rep := r.is("b", Blocked); !strings.Contains(rep.Reason, "depends_on goes in a circle: b needs c needs a needs b") {
			t.Fatalf("report %+v", rep)
		}
		r.is("d", Waiting)
		r.set(want("a", 1), want("b", 1, needs("c")), want("c", 1, needs("a")), want("d", 1, needs("a")), want("e", 1))
		r.after(time.Second)
		r.runs("a", "b", "c", "d", "e")
		// A circle stops nothing, and what leaves in one does leave.
		r.set(want("a", 1, needs("b")), want("b", 1, needs("c")), want("c", 1, needs("a")), want("d", 1, needs("a")), want("e", 1))
		r.after(time.Minute)
		r.runs("a", "b", "c", "d", "e")
		if err := r.s.StopAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
