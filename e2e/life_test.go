package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
)

// The whole life of a daemon on a ring, counted by containerd and /proc.
//
// conformance: A1 A2 A3 C1 E1 E5 H1
func TestRingRunsOneEverywhere(t *testing.T) {
	w := newRing(t, "n1", "n2", "n3")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1", "n2", "n3")
	w.ready("n2", "web", 3)

	// Applying the same once more changes nothing.
	if out := w.ok("n2", "apply", "-f", w.Dir+"/web.toml"); !strings.Contains(out, "unchanged") {
		t.Errorf("second apply says %q, want unchanged", out)
	}
	w.untouched("web", seen, "n1", "n2", "n3")

	// A fourth node gets its daemon by itself, nothing else changes.
	four, err := w.AddNode(w.ctx, "n4")
	w.must(err)
	w.must(w.Enter(w.ctx, four))
	seen["n4"] = w.one("n4", "web")
	w.untouched("web", seen, "n1", "n2", "n3")
	w.ready("n1", "web", 4)

	// One leaves: its container goes, the others are untouched.
	w.ok("n2", "leave", "--yes")
	w.none("n2", "web")
	w.untouched("web", seen, "n1", "n3", "n4")
	w.ready("n1", "web", 3)

	// Killed: back, once.
	w.must(syscall.Kill(seen["n3"].PID, syscall.SIGKILL))
	w.eventually("web on n3 comes back", func(ctx context.Context) error {
		c, err := w.Node("n3").Container(ctx, "web")
		if err == nil && (!c.Running() || c.Same(seen["n3"])) {
			err = fmt.Errorf("containerd tells %+v", c)
		}
		return err
	})
	seen["n3"] = w.one("n3", "web")
	w.untouched("web", seen, "n1", "n4")

	// Deleted: gone everywhere; applied again: back, but not where it left.
	w.ok("n4", "delete", "--yes", "web")
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		w.none(n, "web")
	}
	w.apply("n3", "web", "")
	w.everywhere("web", "n1", "n3", "n4")
	w.none("n2", "web")

	// What left stays away over a restart of its agent, until it joins again.
	w.must(w.Node("n2").StopAgent())
	w.must(w.Node("n2").StartAgent(w.ctx))
	w.ready("n1", "web", 3)
	w.none("n2", "web")
	w.ok("n2", "join", "--config-dir", w.Node("n2").ConfigDir())
	w.one("n2", "web")
	w.ready("n1", "web", 4)
}

// Selectors and pins decide who runs it, with a reason for everybody else.
//
// conformance: B1 B2 B4 A4 U2
func TestSelection(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"n1", "n2"} {
		n, err := w.AddNode(w.ctx, name)
		w.must(err)
		if name == "n2" {
			n.Extra = "[node.labels]\nrole = \"edge\"\n"
		}
		w.must(w.Enter(w.ctx, n))
	}
	w.must(w.Agree(w.ctx, settle))
	w.apply("n1", "pinned", `nodes = ["n1"]`)
	w.apply("n1", "edge", `selector = { role = "edge" }`)
	w.apply("n1", "nowhere", `selector = { role = "none" }`)
	w.one("n1", "pinned")
	edge := w.one("n2", "edge")
	w.none("n2", "pinned")
	w.none("n1", "edge")
	w.none("n1", "nowhere")
	if out := w.ctl("n1", "why", "edge", "n1").Stdout; !strings.Contains(out, "role") {
		t.Errorf("why tells no reason that names the label: %q", out)
	}
	// An empty selector is refused, not taken for "everywhere".
	w.refused(1, "n1", []string{"apply", "-f", w.write("empty.toml", daemon("empty", "selector = {}"))}, "selector", "empty.toml:4")

	// A changed selector moves it; the digest is the same, so who keeps it is untouched.
	w.apply("n1", "edge", "")
	w.one("n1", "edge")
	if now := w.one("n2", "edge"); !now.Same(edge) {
		t.Error("a wider selector restarted the container on a node that had it already")
	}
	w.apply("n1", "pinned", `nodes = ["n2"]`)
	w.one("n2", "pinned")
	w.none("n1", "pinned")
}

// An agent that is killed, stopped or upgraded leaves its containers alone and
// finds them again; what happened meanwhile is made good.
//
// conformance: F1 F3 F5 E3
func TestAgentRestart(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	w.apply("n1", "old", "")
	seen, old := w.everywhere("web", "n1", "n2"), w.everywhere("old", "n1", "n2")
	n2 := w.Node("n2")

	// A second agent on the same state refuses to start.
	first := n2.Agent
	w.must(n2.LaunchAgent())
	w.eventually("a second agent ends", func(context.Context) error {
		if n2.Agent.Running() {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	if n2.Agent.ExitCode() == 0 || !strings.Contains(n2.Agent.Tail(), "agentd:") {
		t.Errorf("a second agent exits %d and says:\n%s", n2.Agent.ExitCode(), n2.Agent.Tail())
	}
	n2.Agent = first

	for _, end := range []func() error{n2.KillAgent, n2.StopAgent} {
		w.must(end())
		w.untouched("web", seen, "n2")
		w.must(n2.StartAgent(w.ctx))
		w.ready("n2", "web", 2)
		w.untouched("web", seen, "n1", "n2")
		w.untouched("old", old, "n1", "n2")
	}

	// While it is down, one daemon is deleted and the other dies.
	w.must(n2.KillAgent())
	w.ok("n1", "delete", "--yes", "old")
	w.none("n1", "old")
	w.must(syscall.Kill(seen["n2"].PID, syscall.SIGKILL))
	w.must(n2.StartAgent(w.ctx))
	w.none("n2", "old")
	if back := w.one("n2", "web"); back.Same(seen["n2"]) {
		t.Error("web on n2 was not restarted")
	}
	w.untouched("web", seen, "n1")
}

// A machine that boots alone starts its daemons from what it last knew.
//
// conformance: F6 U4
func TestBootWithoutRing(t *testing.T) {
	w := newRing(t, "n1", "n2", "n3")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1", "n2", "n3")
	w.ready("n3", "web", 3)
	for _, n := range w.Nodes {
		w.must(n.StopAgent())
	}
	// Power loss: agent and containerd are gone, and the container with them.
	n3 := w.Node("n3")
	w.must(n3.Containerd.Kill())
	w.must(syscall.Kill(seen["n3"].PID, syscall.SIGKILL))
	w.must(n3.Containerd.Start(w.ctx))
	w.must(n3.StartAgent(w.ctx))
	if back := w.one("n3", "web"); back.Same(seen["n3"]) {
		t.Error("it should be another process")
	}
	st, err := n3.Status(w.ctx)
	w.must(err)
	for _, d := range st.Daemons[0].Nodes {
		// conformance: H3
		if d.Node != "n3" && (d.Ready || d.State != api.StateUnknown) {
			t.Errorf("%s is down and shown as %s, ready %t", d.Node, d.State, d.Ready)
		}
	}
	w.untouched("web", seen, "n1", "n2")
}

// containerd that dies, hangs or is restarted terminates nothing, and the
// agent says what is wrong.
//
// conformance: F2
func TestContainerdGone(t *testing.T) {
	w := newRing(t, "n1")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1")
	n1 := w.Node("n1")
	for range 2 {
		w.must(n1.Containerd.Kill())
		w.pause(time.Second)
		w.must(n1.Containerd.Start(w.ctx))
		w.ready("n1", "web", 1)
		w.untouched("web", seen, "n1")
	}
	// With containerd down the agent starts all the same, and status says why.
	w.must(n1.StopAgent())
	w.must(n1.Containerd.Terminate())
	w.must(n1.StartAgent(w.ctx))
	w.eventually("status tells of containerd", func(context.Context) error {
		res := w.ctl("n1", "status", "web")
		if res.Code != 3 || !strings.Contains(res.Stdout+res.Stderr, "containerd") {
			return fmt.Errorf("exit %d: %s", res.Code, res.Output())
		}
		return nil
	})
	w.must(n1.Containerd.Start(w.ctx))
	w.ready("n1", "web", 1)
	w.untouched("web", seen, "n1")

	// Hanging is not stopped.
	w.must(n1.Containerd.Freeze())
	w.pause(3 * time.Second)
	w.must(n1.Containerd.Thaw())
	w.ready("n1", "web", 1)
	w.untouched("web", seen, "n1")
}

// Containers of others are never touched, in our namespace either.
//
// conformance: E4
func TestForeignContainers(t *testing.T) {
	w := newRing(t, "n1")
	n1 := w.Node("n1")
	for _, id := range []string{"theirs", "clash"} {
		w.must(n1.Containerd.Run(w.ctx, n1.Namespace, "agentd.test/testd:2", id))
	}
	theirs, clash := w.one("n1", "theirs"), w.one("n1", "clash")
	w.apply("n1", "web", "")
	w.apply("n1", "clash", "")
	w.one("n1", "web")
	w.eventually("why tells of the clash", func(context.Context) error {
		res := w.ctl("n1", "why", "clash")
		if res.Code != 3 || !strings.Contains(res.Stdout, "belongs to somebody else") {
			return fmt.Errorf("exit %d: %s", res.Code, res.Output())
		}
		return nil
	})
	w.ok("n1", "delete", "--yes", "web", "clash")
	w.none("n1", "web")
	w.must(n1.StopAgent())
	w.must(n1.StartAgent(w.ctx))
	if !w.one("n1", "theirs").Same(theirs) || !w.one("n1", "clash").Same(clash) {
		t.Error("a container of somebody else was touched")
	}
	w.must(n1.Containerd.Remove(w.ctx, n1.Namespace, "theirs"))
	w.must(n1.Containerd.Remove(w.ctx, n1.Namespace, "clash"))
}
