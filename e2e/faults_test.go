package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A partition longer than memberlist remembers heals by itself; meanwhile both
// sides go on, and what they were told converges afterwards.
//
// conformance: G1 G3
func TestPartitionHeals(t *testing.T) {
	w := newRing(t, "n1", "n2", "n3")
	w.apply("n1", "web", "")
	w.apply("n1", "doomed", "")
	w.apply("n1", "both", "")
	seen := w.everywhere("web", "n1", "n2", "n3")
	w.everywhere("doomed", "n1", "n2", "n3")
	w.everywhere("both", "n1", "n2", "n3")

	w.must(w.Net.Partition(w.ctx, []string{"n3"}, []string{"n1", "n2"}))
	cut := time.Now()
	w.eventually("n1 notices", func(ctx context.Context) error {
		st, err := w.Node("n1").Status(ctx)
		if err == nil && (st.Ring.Nodes.Alive != 2 || st.Ring.Nodes.Failed != 1) {
			err = fmt.Errorf("it counts %+v", st.Ring.Nodes)
		}
		return err
	})
	// Both sides are told things, one of them in conflict.
	w.apply("n1", "major", "")
	w.ok("n1", "delete", "--yes", "doomed")
	w.apply("n3", "minor", "")
	w.apply("n2", "both", `env = { SIDE = "major" }`)
	w.apply("n3", "both", `env = { SIDE = "minor" }`)
	w.everywhere("major", "n1", "n2")
	w.one("n3", "minor")
	w.none("n1", "doomed")
	// A node that is cut off keeps what it has.
	w.one("n3", "doomed")
	w.untouched("web", seen, "n1", "n2", "n3")

	// Longer than memberlist's GossipToTheDeadTime of 30 s.
	w.pause(time.Until(cut.Add(40 * time.Second)))
	w.untouched("web", seen, "n1", "n2", "n3")
	w.must(w.Net.Heal(w.ctx))
	w.must(w.Agree(w.ctx, settle))

	w.everywhere("major", "n1", "n2", "n3")
	w.everywhere("minor", "n1", "n2", "n3")
	for _, n := range []string{"n1", "n2", "n3"} {
		w.none(n, "doomed") // not resurrected by the node that was away
		w.one(n, "both")
	}
	w.untouched("web", seen, "n1", "n2", "n3")
	w.eventually("status tells who wrote what", func(ctx context.Context) error {
		st, err := w.Node("n2").Status(ctx)
		if err != nil {
			return err
		}
		for _, d := range st.Daemons {
			if d.Name == "both" && d.Conflict == "" {
				return fmt.Errorf("no conflict in %+v", d)
			}
		}
		return nil
	})
	// One more apply settles it.
	w.apply("n1", "both", `env = { SIDE = "settled" }`)
	w.eventually("the conflict is over", func(ctx context.Context) error {
		st, err := w.Node("n3").Status(ctx)
		if err != nil {
			return err
		}
		for _, d := range st.Daemons {
			if d.Name == "both" && (d.Conflict != "" || d.Updated != 3) {
				return fmt.Errorf("%+v", d)
			}
		}
		return nil
	})
}

// With a third of all packets lost, an apply still gets everywhere.
func TestPacketLoss(t *testing.T) {
	w := newRing(t, "n1", "n2", "n3")
	w.must(w.Net.Lose(w.ctx, 20))
	w.apply("n1", "web", "")
	w.everywhere("web", "n1", "n2", "n3")
	w.must(w.Net.Heal(w.ctx))
	w.must(w.Agree(w.ctx, settle))
	w.ready("n2", "web", 3)
}

// A second node with a name that is taken is refused, and told how to go on;
// the ring goes on with the first.
//
// conformance: G2
func TestSecondNodeSameName(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1", "n2")
	twin, err := w.AddNode(w.ctx, "twin")
	w.must(err)
	token, err := w.Node("n1").Token(w.ctx)
	w.must(err)
	w.must(twin.Join(w.ctx, token, "--name", "n2"))
	w.must(twin.LaunchAgent())
	w.eventually("the twin gives up", func(context.Context) error {
		if twin.Agent.Running() {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	if code := twin.Agent.ExitCode(); code == 0 {
		t.Errorf("the twin exits with %d", code)
	}
	for _, word := range []string{"n2", "agentctl forget n2"} {
		if !strings.Contains(twin.Agent.Tail(), word) {
			t.Errorf("the twin's log lacks %q:\n%s", word, twin.Agent.Tail())
		}
	}
	w.untouched("web", seen, "n1", "n2")
	w.none("twin", "web")
	w.ready("n1", "web", 2)
}

// A node with another ring key gets nowhere, is told so, and does no harm.
//
// conformance: G4
func TestWrongRingKey(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1", "n2")
	// A ring of its own, told to join the first one's address.
	stranger, err := w.AddNode(w.ctx, "stranger")
	w.must(err)
	w.must(stranger.Init(w.ctx))
	stranger.Extra = "[ring]\njoin = [\"10.99.0.1:7946\"]\n"
	w.must(stranger.Configure())
	w.must(stranger.LaunchAgent())
	w.eventually("the stranger is told", func(context.Context) error {
		if log := stranger.Agent.Tail(); !strings.Contains(log, "ring key") {
			return fmt.Errorf("its log: %s", log)
		}
		return nil
	})
	w.pause(3 * time.Second)
	st, err := w.Node("n1").Status(w.ctx)
	w.must(err)
	if st.Ring.Nodes.Alive != 2 {
		t.Errorf("the ring counts %d alive, want 2", st.Ring.Nodes.Alive)
	}
	w.none("stranger", "web")
	w.untouched("web", seen, "n1", "n2")
}
