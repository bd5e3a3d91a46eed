package machines

import (
	"testing"

	"github.com/agentd/agentd/e2e/lab"
)

// What can happen to agentd and containerd on machines that stay up.
func TestAgentAndContainerd(t *testing.T) {
	r, seen := newRing(t, "n1", "n2", "n3")
	r.story("agent killed", func(r ring) { agentKilled(r, seen) })
}

// agentKilled: systemd brings agentd back, and it takes over what runs.
//
// conformance: F1
func agentKilled(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	old := r.agent(m, "")
	r.run(m, "kill", "-KILL", old)
	r.agent(m, old)
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
}
