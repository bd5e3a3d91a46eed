package e2e

import (
	"strings"
	"testing"

	"github.com/agentd/agentd/api"
)

// Taints that an operator signs: NoSchedule keeps what runs, NoExecute evicts
// it, what tolerates them stays, and without them all is as before.
//
// conformance: B5 U2
func TestStoryTaints(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	w.apply("n1", "tough", `tolerations = [{ key = "maintenance", operator = "Exists" }]`)
	web, tough := w.everywhere("web", "n1", "n2"), w.everywhere("tough", "n1", "n2")

	w.ok("n1", "taint", "n2", "maintenance=soon:NoSchedule")
	w.apply("n1", "late", "")
	w.one("n1", "late")
	w.state("n2", "late", api.StateExcluded, func(d api.NodeDaemon) bool { return strings.Contains(d.Reason, "maintenance") })
	w.none("n2", "late")
	w.untouched("web", web, "n1", "n2")

	w.ok("n1", "taint", "n2", "maintenance=now:NoExecute")
	w.none("n2", "web")
	if out := w.ctl("n2", "why", "web", "n2").Stdout; !strings.Contains(out, "maintenance") {
		t.Errorf("why does not name the taint: %s", out)
	}
	w.untouched("tough", tough, "n1", "n2")
	w.untouched("web", web, "n1")

	// The agent that starts anew still knows, before anybody tells it.
	w.must(w.Node("n2").KillAgent())
	w.must(w.Node("n2").StartAgent(w.ctx))
	w.state("n2", "tough", api.StateRunning, nil)
	w.none("n2", "web")

	w.ok("n1", "taint", "n2", "maintenance-")
	w.one("n2", "web")
	w.one("n2", "late")
	w.ready("n1", "web", 2)
	w.untouched("tough", tough, "n1", "n2")
	w.untouched("web", web, "n1")
}

// A label that an operator changes moves a daemon from one node to the other.
//
// conformance: B1 B3
func TestStoryLabels(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "all", "")
	all := w.everywhere("all", "n1", "n2")
	w.apply("n1", "edge", `selector = { role = "edge" }`)
	w.ok("n2", "label", "n1", "role=edge")
	w.one("n1", "edge")
	w.none("n2", "edge")
	w.ok("n2", "label", "n1", "role-")
	w.ok("n2", "label", "n2", "role=edge")
	w.one("n2", "edge")
	w.none("n1", "edge")
	w.ready("n1", "edge", 1)
	w.ok("n1", "label", "n2", "role=core")
	w.none("n2", "edge")
	w.untouched("all", all, "n1", "n2")
}

// Cordoning lets nothing new onto a node and keeps what runs, draining stops
// all, uncordoning brings it back.
//
// conformance: B6
func TestStoryDrain(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	web := w.everywhere("web", "n1", "n2")
	w.ok("n1", "cordon", "n2")
	w.apply("n1", "late", "")
	w.one("n1", "late")
	w.state("n2", "late", api.StateExcluded, func(d api.NodeDaemon) bool { return strings.Contains(d.Reason, "cordon") })
	w.none("n2", "late")
	w.untouched("web", web, "n1", "n2")

	w.ok("n1", "drain", "n2", "--yes", "--wait=1m")
	w.none("n2", "web")
	w.untouched("web", web, "n1")
	// A new revision starts nothing there.
	w.apply("n1", "late", `env = { REV = "2" }`)
	w.state("n1", "late", api.StateRunning, func(d api.NodeDaemon) bool { return d.Revision == 2 })
	w.none("n2", "late")

	w.ok("n1", "uncordon", "n2")
	w.one("n2", "web")
	w.one("n2", "late")
	w.ready("n1", "web", 2)
	w.untouched("web", web, "n1")
}
