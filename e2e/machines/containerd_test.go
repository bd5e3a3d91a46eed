package machines

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

// What can happen to containerd on machines that stay up.
func TestContainerd(t *testing.T) {
	r, seen := newRing(t, "n1", "n2", "n3")
	r.story("restarted and killed", func(r ring) { containerdEnds(r, seen) })
	r.story("out of memory", func(r ring) { outOfMemory(r, seen) })
	r.story("hung", func(r ring) { containerdHung(r, seen) })
}

// outOfMemory: the OOM killer's work is called so, the first time too.
//
// conformance: C6
func outOfMemory(r ring, seen map[string]lab.Container) {
	m := r.Machine("n1")
	r.must(m.Apply(r.ctx, testd("greedy", `args = ["--eat-memory=200"]
[resources]
memory = "32MiB"
[restart]
backoff = "1h"
backoff_max = "1h"`)))
	for _, name := range []string{"n1", "n2", "n3"} {
		m := r.Machine(name)
		got := r.daemon(m, "greedy", func(n api.NodeDaemon) bool { return n.State == api.StateBackoff })
		if !got.OOM || got.ExitCode == nil || *got.ExitCode != 137 || !strings.Contains(got.Reason, "memory") {
			r.Errorf("status on %s tells %+v, want oom and code 137", name, got)
		}
		if log := m.Journal(r.ctx, "agentd", 50); strings.Contains(log, "ended by SIGKILL") {
			r.Errorf("agentd on %s took the OOM killer for somebody else:\n%s", name, log)
		}
	}
	r.run(m, "agentctl", "delete", "--yes", "greedy")
	r.none(m, "greedy")
	r.same(seen, "n1", "n2", "n3")
}

// containerdEnds: however often, no container ends, and agentd goes on.
//
// conformance: F2
func containerdEnds(r ring, seen map[string]lab.Container) {
	m := r.Machine("n1")
	agent := r.agent(m, "")
	for i := range 5 {
		old, err := m.Unit(r.ctx, "containerd", "MainPID")
		r.must(err)
		if i%2 == 0 {
			r.run(m, "kill", "-KILL", old)
		} else {
			r.run(m, "systemctl", "restart", "containerd")
		}
		r.eventually("containerd.service is back", func(ctx context.Context) error {
			state, err := m.Unit(ctx, "containerd", "ActiveState")
			if err != nil {
				return err
			}
			if pid, err := m.Unit(ctx, "containerd", "MainPID"); err != nil || state != "active" || pid == old || pid == "0" {
				return fmt.Errorf("it is %s with process %s: %w", state, pid, err)
			}
			return nil
		})
	}
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
	if now := r.agent(m, ""); now != agent {
		r.Errorf("agentd was process %s and is %s", agent, now)
	}
	// agentd still steers: what is applied now starts.
	r.must(m.Apply(r.ctx, testd("later", "")))
	r.everywhere("later", "n1", "n2", "n3")
	r.run(m, "agentctl", "delete", "--yes", "later")
	r.none(m, "later")
}

// containerdHung: the watchdog is about agentd, which waits for a containerd
// that does not answer, and answers itself.
//
// conformance: F1 F2
func containerdHung(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	wait := r.watchdog(m)
	agent := r.agent(m, "")
	hung, err := m.Unit(r.ctx, "containerd", "MainPID")
	r.must(err)
	r.run(m, "kill", "-STOP", hung)
	r.pause(2*wait + 5*time.Second)
	if now := r.agent(m, ""); now != agent {
		r.Errorf("agentd was process %s and is %s", agent, now)
	}
	r.serves(m)
	r.run(m, "kill", "-CONT", hung)
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
	if now := r.agent(m, ""); now != agent {
		r.Errorf("agentd was process %s and is %s", agent, now)
	}
}
