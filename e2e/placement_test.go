package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd/agentd/api"
)

// state waits until a node's own status says this of a daemon, and ok agrees.
func (w *world) state(node, daemon, state string, ok func(api.NodeDaemon) bool) api.NodeDaemon {
	w.t.Helper()
	var last api.NodeDaemon
	w.eventually(fmt.Sprintf("%s on %s is %s", daemon, node, state), func(ctx context.Context) error {
		d, err := w.nodeDaemon(ctx, node, daemon)
		if err != nil {
			return err
		}
		if last = d; d.State != state || ok != nil && !ok(d) {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	return last
}

// What does not fit fails by itself: nothing that runs gives way to it.
//
// conformance: A6
func TestTooLittleRoom(t *testing.T) {
	w := newRing(t, "n1")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1")
	// More memory than it may have, and a limit that no kernel grants.
	w.apply("n1", "hungry", "args = [\"--eat-memory=200\"]\n[resources]\nmemory = \"20MiB\"\n[restart]\nbackoff = \"200ms\"")
	w.apply("n1", "greedy", "[resources]\nmemory = \"20MiB\"\npids = 1")
	w.state("n1", "hungry", api.StateBackoff, func(d api.NodeDaemon) bool { return d.OOM && d.Restarts >= 3 })
	w.eventually("greedy does not run well", func(ctx context.Context) error {
		d, err := w.nodeDaemon(ctx, "n1", "greedy")
		if err == nil && (d.State != api.StateBackoff || d.Reason == "") {
			err = fmt.Errorf("%+v", d)
		}
		return err
	})
	w.untouched("web", seen, "n1")
	w.state("n1", "web", api.StateRunning, func(d api.NodeDaemon) bool { return d.Ready && d.Restarts == 0 })
}

// Our own old instance gives its port to the new one; of two daemons that want
// one port the first keeps it, and the other says why it does not run.
//
// conformance: A7
func TestPortTaken(t *testing.T) {
	w := newRing(t, "n1")
	listen := `args = ["--listen=:8123"]`
	w.apply("n1", "web", listen)
	first := w.one("n1", "web")
	w.apply("n1", "web", listen+"\nenv = { REV = \"2\" }")
	w.state("n1", "web", api.StateRunning, func(d api.NodeDaemon) bool { return d.Ready && d.Revision == 2 && d.Restarts == 0 })
	second := w.one("n1", "web")
	if second.Same(first) {
		t.Error("the new revision did not replace the old one")
	}
	w.apply("n1", "late", listen+"\n[restart]\nbackoff = \"200ms\"\nbackoff_max = \"1s\"")
	late := w.state("n1", "late", api.StateBackoff, func(d api.NodeDaemon) bool { return d.Restarts >= 2 && d.ExitCode != nil })
	if *late.ExitCode != 1 || !strings.Contains(late.Reason, "code 1") {
		t.Errorf("of the second at the port is told %+v", late)
	}
	if c, err := w.Node("n1").Container(w.ctx, "web"); err != nil || !c.Same(second) {
		t.Errorf("the first at the port is %+v, %v; it was %+v", c, err, second)
	}
	// The port comes free, and the other has it without anybody's doing.
	w.ok("n1", "delete", "--yes", "web")
	w.none("n1", "web")
	w.state("n1", "late", api.StateRunning, nil)
}

// A node that nobody reaches, that reaches nobody and whose own state is bad in
// the others' eyes runs its daemons and restarts them.
//
// conformance: A8 G1
func TestUnreachableNodeRuns(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1", "n2")
	w.ready("n2", "web", 2)
	w.must(w.Net.Partition(w.ctx, []string{"n2"}, []string{"n1"}))
	w.eventually("n1 gives n2 up", func(ctx context.Context) error {
		st, err := w.Node("n1").Status(ctx)
		if err == nil && st.Ring.Nodes.Failed != 1 {
			err = fmt.Errorf("it counts %+v", st.Ring.Nodes)
		}
		return err
	})
	w.must(syscall.Kill(seen["n2"].PID, syscall.SIGKILL))
	w.eventually("web on n2 is back", func(ctx context.Context) error {
		c, err := w.Node("n2").Container(ctx, "web")
		if err == nil && (!c.Running() || c.Same(seen["n2"])) {
			err = fmt.Errorf("%+v", c)
		}
		return err
	})
	// The agent's restart in that state starts no second one, and stops none.
	again := w.one("n2", "web")
	w.must(w.Node("n2").KillAgent())
	w.must(w.Node("n2").StartAgent(w.ctx))
	w.state("n2", "web", api.StateRunning, nil)
	if c := w.one("n2", "web"); !c.Same(again) {
		t.Errorf("web on n2 was %+v and is %+v", again, c)
	}
	w.untouched("web", seen, "n1")
}

// A start that may succeed later is tried again by itself; one that the node
// forbids waits for a change, and both say which it is.
//
// conformance: C7 U2
func TestFatalOrNot(t *testing.T) {
	w := newRing(t, "n1")
	w.apply("n1", "typo", "command = [\"/no-such-program\"]\n[restart]\nbackoff = \"200ms\"\nbackoff_max = \"1s\"")
	w.apply("n1", "denied", "privileged = true")
	w.state("n1", "typo", api.StateBackoff, func(d api.NodeDaemon) bool { return strings.Contains(d.Reason, "no such file") })
	d := w.state("n1", "denied", api.StateBlocked, func(d api.NodeDaemon) bool { return strings.Contains(d.Reason, "policy") })
	if d.Restarts != 0 || d.PID != 0 {
		t.Errorf("what is denied was tried: %+v", d)
	}
	// Both run as soon as what was wrong is right.
	w.apply("n1", "typo", "")
	w.apply("n1", "denied", "")
	w.one("n1", "typo")
	w.one("n1", "denied")
}
