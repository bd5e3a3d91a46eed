package machines

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

// Rolling updates over machines that lose their power.
func TestRollout(t *testing.T) {
	r, seen := newRing(t, "n1", "n2", "n3")
	r.story("machine off before", func(r ring) { offBefore(r, seen) })
	r.story("machine off meanwhile", func(r ring) { offMeanwhile(r, seen) })
}

// offBefore: a machine that is off does not hold up the others, and starts with
// the new revision when it is back.
//
// conformance: U1
func offBefore(r ring, seen map[string]lab.Container) {
	n1, n3 := r.Machine("n1"), r.Machine("n3")
	r.must(n3.PowerCut())
	r.eventually("n1 misses n3", func(ctx context.Context) error {
		st, err := n1.Status(ctx)
		if err == nil && st.Ring.Nodes.Failed != 1 {
			err = fmt.Errorf("%+v", st.Ring.Nodes)
		}
		return err
	})
	r.must(n1.Apply(r.ctx, exporterToml(`env = { ROUND = "2" }`)))
	for _, name := range []string{"n1", "n2"} {
		r.daemon(r.Machine(name), exporter, func(n api.NodeDaemon) bool { return n.Ready && n.Revision == 2 })
		r.serves(r.Machine(name))
	}
	r.must(n3.Boot(r.ctx))
	r.daemon(n3, exporter, func(n api.NodeDaemon) bool { return n.Ready && n.Revision == 2 })
	if log := r.run(n3, "journalctl", "-q", "-b", "-u", "agentd", "-o", "cat"); strings.Contains(log, `reason="runs revision 1`) {
		r.Errorf("n3 started the old revision first:\n%s", log)
	}
	r.agree("n1", "n2", "n3")
	for _, name := range []string{"n1", "n2", "n3"} {
		seen[name] = r.one(r.Machine(name), exporter)
		r.alone(r.Machine(name))
	}
}

// offMeanwhile: a machine that loses its power while it has its turn pauses the
// rollout, since the new revision may be why; told to go on, it ends.
//
// conformance: U1 D6
func offMeanwhile(r ring, seen map[string]lab.Container) {
	n1 := r.Machine("n1")
	names := []string{"n1", "n2", "n3"}
	// min_ready keeps the turn long enough to be hit in it.
	toml := func(round string) string {
		return exporterToml("env = { ROUND = \"" + round + "\" }\n[update]\nmin_ready = \"8s\"\n")
	}
	// The one to hit must not be n1, which is asked: the lanes' order is chance,
	// and what has gone before the other two have is not known before.
	round := 3
	r.must(n1.Apply(r.ctx, toml(fmt.Sprint(round))))
	var hit *Machine
	r.eventually("n2 or n3 has its turn", func(ctx context.Context) error {
		for _, name := range names[1:] {
			c, err := r.Machine(name).Containerd().Container(ctx, Namespace, exporter)
			if err != nil {
				return err
			}
			if c.Running() && !c.Same(seen[name]) {
				hit = r.Machine(name)
				return nil
			}
		}
		return fmt.Errorf("both run what they ran")
	})
	r.must(hit.PowerCut())
	r.must(hit.Boot(r.ctx))
	r.eventually("the rollout is paused", func(ctx context.Context) error {
		st, err := n1.Status(ctx)
		if err != nil {
			return err
		}
		for _, d := range st.Daemons {
			if d.Name == exporter && d.State == api.DaemonPaused && strings.Contains(d.Reason, hit.Name) {
				return nil
			}
		}
		return fmt.Errorf("%+v", st.Daemons)
	})
	r.run(n1, "agentctl", "rollout", "resume", exporter)
	for _, name := range names {
		r.daemon(r.Machine(name), exporter, func(n api.NodeDaemon) bool { return n.Ready && n.Revision == round })
		r.alone(r.Machine(name))
	}
	r.eventually("the rollout is through", func(ctx context.Context) error {
		st, err := n1.Status(ctx)
		if err != nil {
			return err
		}
		for _, d := range st.Daemons {
			if d.Name == exporter && (d.State != api.DaemonOK || d.Updated != 3 || d.Available != 3) {
				return fmt.Errorf("%+v", d)
			}
		}
		return nil
	})
}
