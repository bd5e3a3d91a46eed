package machines

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// Machines that go off and come back.
func TestPower(t *testing.T) {
	r, seen := newRing(t, "n1", "n2", "n3")
	r.story("power cut", func(r ring) { powerCut(r, seen) })
	r.story("boot without network", func(r ring) { bootAlone(r, seen) })
	r.story("another address", func(r ring) { renumbered(r, seen) })
	r.story("order of boot and shutdown", func(r ring) { bootOrder(r, seen) })
}

// powerCut: a machine that lost its power starts its daemons when it is back;
// nothing happens on the others.
//
// conformance: F6
func powerCut(r ring, seen map[string]lab.Container) {
	m := r.Machine("n3")
	r.must(m.PowerCut())
	r.eventually("n1 misses n3", func(ctx context.Context) error {
		st, err := r.Machine("n1").Status(ctx)
		if err == nil && st.Ring.Nodes.Failed != 1 {
			err = fmt.Errorf("%+v", st.Ring.Nodes)
		}
		return err
	})
	r.must(m.Boot(r.ctx))
	r.agree("n1", "n2", "n3")
	seen["n3"] = r.one(m, exporter)
	r.serves(m)
	r.alone(m)
	r.same(seen, "n1", "n2", "n3")
}

// bootAlone: a machine that boots without a network starts what it last knew,
// and finds the ring when the network is back.
//
// conformance: F6 U4
func bootAlone(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	r.must(m.Shutdown(r.ctx))
	r.must(r.Net.Unplug(r.ctx, "n2"))
	r.must(m.Boot(r.ctx))
	seen["n2"] = r.one(m, exporter)
	r.serves(m)
	r.alone(m)
	if links := r.run(m, "ip", "-brief", "address", "show", "dev", "eth0"); strings.Contains(links, m.Address) {
		r.Fatalf("n2 has a network: %s", links)
	}
	r.must(r.Net.Replug(r.ctx, "n2"))
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
}

// renumbered: a machine whose address changes under a running agentd is found
// at the new one, with its containers as they were.
//
// conformance: G5
func renumbered(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	pid := r.agent(m, "")
	r.must(r.Net.Renumber(r.ctx, "n2", 22))
	// Others hold on to the old one for half a minute after n2 has failed there.
	err := lab.Within(r.ctx, 3*time.Minute, func(ctx context.Context) error {
		nodes, err := r.Machine("n1").Nodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes.Nodes {
			if n.Name == "n2" && n.State == "alive" && strings.HasPrefix(n.Address, "10.99.0.22:") {
				return nil
			}
		}
		return fmt.Errorf("%+v", nodes.Nodes)
	})
	r.must(err)
	r.agree("n1", "n2", "n3")
	if now := r.agent(m, ""); now != pid {
		r.Errorf("agentd was process %s and is %s", pid, now)
	}
	r.same(seen, "n1", "n2", "n3")
}

// A workload that depends on the daemons of its machine: it looks at the
// exporter when it is started and when it is stopped.
const workload = `[Unit]
Requires=agentd-ready.target
After=agentd-ready.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash -c 'exec 3<>/dev/tcp/127.0.0.1/9100 && s=ready || s=missing; echo "start $s" >>/root/workload; sync'
ExecStop=/bin/bash -c 'exec 3<>/dev/tcp/127.0.0.1/9100 && s=ready || s=missing; echo "stop $s" >>/root/workload; sync'
[Install]
WantedBy=multi-user.target
`

// bootOrder: what is ordered after agentd-ready.target starts when the daemons
// are ready, and stops while they still run.
//
// conformance: U5
func bootOrder(r ring, seen map[string]lab.Container) {
	m := r.Machine("n3")
	r.must(os.WriteFile(m.Path("/etc/systemd/system/workload.service"), []byte(workload), 0o644))
	r.run(m, "systemctl", "daemon-reload")
	r.run(m, "systemctl", "enable", "--now", "workload.service")
	r.must(m.Shutdown(r.ctx))
	r.must(m.Boot(r.ctx))
	r.eventually("the workload runs", func(ctx context.Context) error {
		state, err := m.Unit(ctx, "workload", "ActiveState")
		if err == nil && state != "active" {
			err = fmt.Errorf("it is %s", state)
		}
		return err
	})
	said, err := os.ReadFile(m.Path("/root/workload"))
	r.must(err)
	if got, want := strings.Split(strings.TrimSpace(string(said)), "\n"), []string{"start ready", "stop ready", "start ready"}; fmt.Sprint(got) != fmt.Sprint(want) {
		r.Errorf("the workload saw %q, want %q", got, want)
	}
	seen["n3"] = r.one(m, exporter)
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
	if failed := r.run(m, "systemctl", "--failed", "--no-legend", "--plain"); failed != "" {
		r.Errorf("after a boot, units have failed: %s", failed)
	}
}

// alone fails when more than one exporter runs on a machine, whoever runs it.
func (r ring) alone(m *Machine) {
	r.Helper()
	if n := strings.Count(r.run(m, "ps", "-eo", "args"), "prometheus-node-exporter"); n != 1 {
		r.Errorf("%d exporters run on %s, want 1", n, m.Name)
	}
}
