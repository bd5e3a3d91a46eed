package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/runtime/fake"
)

func TestSkew(t *testing.T) {
	at := func(ms int) time.Time {
		return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
	}
	for _, c := range []struct {
		there time.Time
		want  float64
	}{
		{at(10), 0}, {at(0), 0}, {at(40), 0}, // somewhere on the way: nothing is known to differ
		{at(2540), 2.5}, {at(-1500), -1.5},
	} {
		if got := skew(at(0), at(40), c.there); got != c.want {
			t.Errorf("%s: %v, want %v", c.there, got, c.want)
		}
	}
}

// Two nodes try the ways between them, both of them, and looking leaves no trace
// that an operator would take for trouble.
func TestReach(t *testing.T) {
	key := config.NewRingKey()
	a := startNode(t, fake.New(fake.Config{}), "a", key, "")
	b := startNode(t, fake.New(fake.Config{}), "b", key, fmt.Sprintf("%q", a.cfg.Ring.Bind))
	if r, err := startLonely(t, fake.New(fake.Config{})).Reach(t.Context()); err != nil || len(r.Peers) != 0 {
		t.Errorf("alone: %+v, %v", r, err)
	}
	alive := func(n *lonely) bool { return n.ring.NumAlive() == 2 }
	a.until("the ring", func() bool { return alive(a) && alive(b) })
	for _, n := range []*lonely{a, b} {
		r, err := n.Reach(t.Context())
		if err != nil || len(r.Peers) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		p := r.Peers[0]
		want := api.ReachPeer{Node: p.Node, State: "alive", Address: p.Address, Known: true, Sees: string(gossip.Alive)}
		if p != want || p.Node == n.cfg.Node.Name {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
	for _, n := range []*lonely{a, b} {
		if notes := n.notes(); strings.Contains(notes, "another ring") || strings.Contains(notes, "encrypted") {
			t.Errorf("%s: %s", n.cfg.Node.Name, notes)
		}
	}
}
