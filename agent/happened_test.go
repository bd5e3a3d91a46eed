package agent

import (
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
)

func TestNewsOfMembers(t *testing.T) {
	m := func(name string, s gossip.MemberState) gossip.Member {
		return gossip.Member{Name: name, State: s, Addr: name + ":1"}
	}
	cases := []struct {
		name          string
		before, after []gossip.Member
		want          string // of the only event; "" for none
	}{
		{"somebody joins", nil, []gossip.Member{m("b", gossip.Alive)}, "joined the ring at b:1"},
		{"somebody fails", []gossip.Member{m("b", gossip.Alive)}, []gossip.Member{m("b", gossip.Failed)}, "can't be reached; its daemons run on as far as the ring knows"},
		{"somebody returns", []gossip.Member{m("b", gossip.Failed)}, []gossip.Member{m("b", gossip.Alive)}, "is back"},
		{"somebody leaves", []gossip.Member{m("b", gossip.Alive)}, []gossip.Member{m("b", gossip.Left)}, "left the ring"},
		{"a suspicion", []gossip.Member{m("b", gossip.Alive)}, []gossip.Member{m("b", gossip.Suspect)}, ""},
		{"a suspicion that came to nothing", []gossip.Member{m("b", gossip.Suspect)}, []gossip.Member{m("b", gossip.Alive)}, ""},
		{"nothing new", []gossip.Member{m("b", gossip.Alive)}, []gossip.Member{m("b", gossip.Alive)}, ""},
		{"this node itself", nil, []gossip.Member{m("a", gossip.Alive)}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			for _, e := range news(c.before, c.after, "a") {
				got += e.Reason
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAppliedTellsNewGenerationsOnce(t *testing.T) {
	one := exporter()
	two := one
	two.generation, two.deleted = 6, true
	if got := applied([]daemonView{one}, []daemonView{one}); len(got) != 0 {
		t.Errorf("nothing changed: %+v", got)
	}
	got := applied([]daemonView{one}, []daemonView{two})
	if len(got) != 1 || got[0].Type != api.EventApply || got[0].Reason != "deleted by alice (generation 6)" {
		t.Errorf("a delete: %+v", got)
	}
	if got := applied(nil, []daemonView{one}); len(got) != 1 || got[0].Reason != "generation 5 by alice is revision 2" {
		t.Errorf("a new daemon: %+v", got)
	}
}

func TestIsolatedSince(t *testing.T) {
	m := func(name string, s gossip.MemberState) gossip.Member { return gossip.Member{Name: name, State: s} }
	before := noon.Add(-time.Hour)
	cases := []struct {
		name    string
		was     time.Time
		members []gossip.Member
		had     bool // peers in an earlier run
		want    time.Time
	}{
		{"a ring of one is not isolated", before, []gossip.Member{m("a", gossip.Alive)}, false, time.Time{}},
		{"somebody answers", before, []gossip.Member{m("a", gossip.Alive), m("b", gossip.Failed), m("c", gossip.Alive)}, false, time.Time{}},
		{"a suspicion is not the end", before, []gossip.Member{m("a", gossip.Alive), m("b", gossip.Suspect)}, false, time.Time{}},
		{"those who left are not missed", before, []gossip.Member{m("a", gossip.Alive), m("b", gossip.Left)}, false, time.Time{}},
		{"the last one goes", time.Time{}, []gossip.Member{m("a", gossip.Alive), m("b", gossip.Failed)}, false, noon},
		{"booted alone, with others known from before", time.Time{}, []gossip.Member{m("a", gossip.Alive)}, true, noon},
		{"it stays so", before, []gossip.Member{m("a", gossip.Alive), m("b", gossip.Failed)}, false, before},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := isolatedSince(c.was, noon, "a", c.members, c.had); !got.Equal(c.want) {
				t.Errorf("since %v, want %v", got, c.want)
			}
		})
	}
}
