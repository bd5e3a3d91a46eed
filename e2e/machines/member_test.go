package machines

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

// Five machines, whose network parts, and whose membership changes.
func TestMembership(t *testing.T) {
	r, seen := newRing(t, "n1", "n2", "n3", "n4", "n5")
	r.story("partition", func(r ring) { partition(r, seen) })
	r.boot("other")
	r.story("duplicate name", func(r ring) { duplicateName(r, seen) })
	r.story("foreign ring key", func(r ring) { foreignKey(r, seen) })
	r.story("leave and join", func(r ring) { leaveAndJoin(r, seen) })
	r.story("same address, new name", func(r ring) { newName(r, seen) })
}

// partition: two minutes apart, both sides keep what they have and do as they
// are told; then the ring heals by itself and all converge.
//
// conformance: G1 G3
func partition(r ring, seen map[string]lab.Container) {
	n1, n5 := r.Machine("n1"), r.Machine("n5")
	r.must(n1.Apply(r.ctx, testd("doomed", "")))
	doomed := r.everywhere("doomed", "n1", "n2", "n3", "n4", "n5")
	r.must(r.Net.Partition(r.ctx, []string{"n4", "n5"}, []string{"n1", "n2", "n3"}))
	healed := time.Now().Add(2 * time.Minute)
	r.eventually("n1 misses two", func(ctx context.Context) error {
		st, err := n1.Status(ctx)
		if err == nil && (st.Ring.Nodes.Alive != 3 || st.Ring.Nodes.Failed != 2) {
			err = fmt.Errorf("%+v", st.Ring.Nodes)
		}
		return err
	})
	r.must(n1.Apply(r.ctx, testd("major", "")))
	r.run(n1, "agentctl", "delete", "--yes", "doomed")
	r.everywhere("major", "n1", "n2", "n3")
	r.none(r.Machine("n2"), "doomed")
	r.pause(time.Until(healed))
	r.same(seen, "n1", "n2", "n3", "n4", "n5")
	r.same(doomed, "n4", "n5")
	r.none(n5, "major")

	r.must(r.Net.Heal(r.ctx))
	r.agree("n1", "n2", "n3", "n4", "n5")
	r.everywhere("major", "n4", "n5")
	r.none(r.Machine("n4"), "doomed")
	r.none(n5, "doomed")
	r.same(seen, "n1", "n2", "n3", "n4", "n5")
}

// duplicateName: a second machine of a name is refused and told how to go on,
// and the ring's nodes tell of it.
//
// conformance: G2
func duplicateName(r ring, seen map[string]lab.Container) {
	m := r.Machine("other")
	said, err := m.Join(r.ctx, r.Machine("n1"), "--name", "n2")
	if err == nil {
		r.Errorf("join as n2 is a success: %s", said)
	}
	log := r.run(m, "journalctl", "-q", "-u", "agentd", "-o", "cat")
	if all := said + log; !strings.Contains(all, "agentctl forget n2") {
		r.Errorf("neither agentctl nor the journal says what to do about n2; agentctl: %s\njournal: %s", said, log)
	}
	r.eventually("the ring tells of it", func(ctx context.Context) error {
		for _, name := range []string{"n1", "n2", "n3"} {
			st, err := r.Machine(name).Status(ctx)
			if err != nil {
				return err
			}
			if strings.Contains(strings.Join(st.Ring.Notes, "\n"), "n2") {
				return nil
			}
			if strings.Contains(r.Machine(name).Journal(ctx, "agentd", 50), "n2 is taken") {
				return nil
			}
		}
		return fmt.Errorf("no note on n1, n2 or n3")
	})
	r.none(m, exporter)
	r.reset(m)
	r.agree("n1", "n2", "n3", "n4", "n5")
	r.same(seen, "n1", "n2", "n3", "n4", "n5")
}

// foreignKey: a machine of another ring that is told to join this one gets
// nowhere, is told so in clear words, and does no harm.
//
// conformance: G4
func foreignKey(r ring, seen map[string]lab.Container) {
	m := r.Machine("other")
	r.run(m, "agentctl", "init", "--ring", "other", "--advertise", m.Address)
	r.must(os.MkdirAll(m.Path("/etc/agentd/agentd.d"), 0o755))
	r.must(os.WriteFile(m.Path("/etc/agentd/agentd.d/50-e2e.toml"), []byte("[ring]\njoin = [\""+r.Machine("n1").Address+"\"]\n"), 0o644))
	_, err := m.Exec(r.ctx, "systemctl", "restart", "agentd") // refused at once, or soon
	r.must(err)
	r.eventually("the journal tells of the key", func(ctx context.Context) error {
		if log := m.Journal(ctx, "agentd", 50); !strings.Contains(log, "ring key") {
			return fmt.Errorf("it ends:\n%s", log)
		}
		return nil
	})
	r.agree("n1", "n2", "n3", "n4", "n5")
	r.none(m, exporter)
	r.reset(m)
	r.same(seen, "n1", "n2", "n3", "n4", "n5")
}

// leaveAndJoin: a node that left stops its daemons, stays away over a reboot,
// and comes back when it is asked to join.
//
// conformance: G5 A3
func leaveAndJoin(r ring, seen map[string]lab.Container) {
	m := r.Machine("n5")
	r.run(m, "agentctl", "leave", "--yes")
	r.none(m, exporter)
	r.none(m, "major")
	r.agree("n1", "n2", "n3", "n4")
	r.must(m.Shutdown(r.ctx))
	r.must(m.Boot(r.ctx))
	r.agent(m, "")
	r.pause(5 * time.Second)
	r.none(m, exporter)
	r.agree("n1", "n2", "n3", "n4")
	r.run(m, "agentctl", "join")
	r.agree("n1", "n2", "n3", "n4", "n5")
	seen["n5"] = r.one(m, exporter)
	r.one(m, "major")
	r.same(seen, "n1", "n2", "n3", "n4", "n5")
}

// newName: a machine that left, was wiped and set up under another name is a
// new node at an old address.
//
// conformance: G5
func newName(r ring, seen map[string]lab.Container) {
	m := r.Machine("n5")
	r.run(m, "agentctl", "leave", "--yes")
	r.none(m, exporter)
	r.reset(m)
	_, err := m.Join(r.ctx, r.Machine("n1"), "--name", "n6")
	r.must(err)
	r.agree("n1", "n2", "n3", "n4", "n5")
	r.one(m, exporter)
	r.serves(m)
	nodes, err := r.Machine("n2").Nodes(r.ctx)
	r.must(err)
	states := map[string]string{}
	for _, n := range nodes.Nodes {
		states[n.Name] = n.State
	}
	if states["n6"] != "alive" || states["n5"] != "" && states["n5"] != "left" {
		r.Errorf("nodes are %v, want n6 alive and n5 left or gone", states)
	}
	r.eventually("status counts five", func(ctx context.Context) error {
		st, err := r.Machine("n2").Status(ctx)
		if err != nil {
			return err
		}
		for _, d := range st.Daemons {
			if d.Name == exporter && (d.Ready != 5 || d.Desired != 5 || d.State != api.DaemonOK) {
				return fmt.Errorf("%+v", d)
			}
		}
		return nil
	})
	r.same(seen, "n1", "n2", "n3", "n4")
}

// reset makes a machine one that was never set up.
func (r ring) reset(m *Machine) {
	r.Helper()
	r.run(m, "systemctl", "disable", "--now", "agentd")
	r.run(m, "sh", "-c", "rm -rf /etc/agentd/* /var/lib/agentd/*; mkdir -p /etc/agentd/trust.d")
}
