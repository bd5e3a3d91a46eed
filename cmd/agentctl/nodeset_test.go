package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

func text(s string) *string { return &s }

func edited(t *testing.T, edit nodeEdit, err error, body record.NodeBody, n api.Node) record.NodeBody {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	out, err := edit(body, n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLabelEdit(t *testing.T) {
	node := api.Node{Labels: map[string]string{"disk": "hdd", "role": "db"}}
	for _, c := range []struct {
		why  string
		args string
		have map[string]*string
		want map[string]string // "-" for null
	}{
		{"one is set over agentd.toml's", "role=edge", nil, map[string]string{"role": "edge"}},
		{"one of agentd.toml is removed", "disk-", nil, map[string]string{"disk": "-"}},
		{"one that an operator set is removed", "x-", map[string]*string{"x": text("1")}, map[string]string{"x": "-"}},
		{"one that nobody set is not written", "y-", nil, map[string]string{}},
		{"an empty value is one", "empty=", nil, map[string]string{"empty": ""}},
		{"others stay", "a=1 b=2", map[string]*string{"c": text("3"), "d": nil}, map[string]string{"a": "1", "b": "2", "c": "3", "d": "-"}},
		{"a prefix", "example.org/tier=front", nil, map[string]string{"example.org/tier": "front"}},
	} {
		edit, err := labelEdit(strings.Fields(c.args))
		before := maps.Clone(c.have)
		got := map[string]string{}
		for k, v := range edited(t, edit, err, record.NodeBody{Labels: c.have, Cordoned: true}, node).Labels {
			got[k] = "-"
			if v != nil {
				got[k] = *v
			}
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
		if !maps.Equal(before, c.have) {
			t.Errorf("%s: the record that was read was changed", c.why)
		}
	}
}

func TestTaintEdit(t *testing.T) {
	node := api.Node{Taints: []string{"own=1:NoSchedule"}}
	for _, c := range []struct {
		why        string
		args       string
		have, want []string
	}{
		{"the first one keeps agentd.toml's", "a=1:NoExecute", nil, []string{"own=1:NoSchedule", "a=1:NoExecute"}},
		{"afterwards the record counts", "a:NoExecute", []string{}, []string{"a:NoExecute"}},
		{"same key and effect is replaced in its place", "a=2:NoExecute", []string{"a=1:NoExecute", "b:NoSchedule"}, []string{"a=2:NoExecute", "b:NoSchedule"}},
		{"another effect is another taint", "a=2:NoSchedule", []string{"a=1:NoExecute"}, []string{"a=1:NoExecute", "a=2:NoSchedule"}},
		{"all of a key are removed", "a-", []string{"a=1:NoExecute", "a:NoSchedule", "ab:NoSchedule"}, []string{"ab:NoSchedule"}},
		{"one effect is removed", "a:NoSchedule-", []string{"a=1:NoExecute", "a:NoSchedule"}, []string{"a=1:NoExecute"}},
		{"as it is shown it can be removed", "a=1:NoExecute-", []string{"a=1:NoExecute"}, []string{}},
		{"agentd.toml's is removed", "own-", nil, []string{}},
		{"removed and set anew", "a- a=3:NoSchedule", []string{"a=1:NoExecute"}, []string{"a=3:NoSchedule"}},
		{"nothing changes: agentd.toml goes on to count", "b-", nil, nil},
		{"it is there already", "own=1:NoSchedule", nil, nil},
	} {
		edit, err := taintEdit(strings.Fields(c.args))
		got := edited(t, edit, err, record.NodeBody{Taints: c.have}, node).Taints
		if !slices.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
	edit, err := taintEdit([]string{"a:NoSchedule"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edit(record.NodeBody{Taints: []string{"b:SomethingNew"}}, node); err == nil {
		t.Error("a taint of a newer version was written over")
	}
}

// Two wishes of two operators end in the same, in whichever order they land, as
// long as they are about different labels; and wishing again changes nothing.
func TestLabelEditsCommute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wish := func(prefix string) nodeEdit {
			var args []string
			for _, k := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID).Draw(t, prefix) {
				args = append(args, rapid.SampledFrom([]string{prefix + k + "=1", prefix + k + "=2", prefix + k + "-"}).Draw(t, "arg"))
			}
			edit, err := labelEdit(args)
			if err != nil {
				t.Fatal(err)
			}
			return edit
		}
		node := api.Node{Labels: map[string]string{"xa": "0", "yb": "0"}}
		apply := func(edits ...nodeEdit) string {
			var body record.NodeBody
			for _, e := range edits {
				var err error
				if body, err = e(body, node); err != nil {
					t.Fatal(err)
				}
			}
			b, err := record.EncodeNode(body)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		x, y := wish("x"), wish("y")
		if a, b := apply(x, y), apply(y, x); a != b {
			t.Errorf("%s, or %s", a, b)
		}
		if a, b := apply(x), apply(x, x); a != b {
			t.Errorf("once %s, twice %s", a, b)
		}
	})
}

func TestWelcome(t *testing.T) {
	tolerant := daemon(func(d *spec.Daemon) { d.Tolerations = []spec.Toleration{{Operator: spec.TolerateExists}} })
	for _, c := range []struct {
		why           string
		d             spec.Daemon
		n             api.RosterNode
		starts, stays bool
	}{
		{"an open node", daemon(nil), api.RosterNode{}, true, true},
		{"NoSchedule", daemon(nil), api.RosterNode{Taints: []string{"a:NoSchedule"}}, false, true},
		{"NoExecute", daemon(nil), api.RosterNode{Taints: []string{"a:NoExecute"}}, false, false},
		{"PreferNoSchedule keeps nobody off", daemon(nil), api.RosterNode{Taints: []string{"a:PreferNoSchedule"}}, true, true},
		{"tolerated", tolerant, api.RosterNode{Taints: []string{"a:NoExecute", "b:NoSchedule"}}, true, true},
		{"cordoned", tolerant, api.RosterNode{Cordoned: true}, false, true},
		{"drained", tolerant, api.RosterNode{Draining: true, Cordoned: true}, false, false},
	} {
		if starts, stays := welcome(c.d, c.n); starts != c.starts || stays != c.stays {
			t.Errorf("%s: starts %t, stays %t", c.why, starts, stays)
		}
	}
}

func TestPlanDepends(t *testing.T) {
	with := func(name string, needs ...string) change {
		return change{name: name, result: resultConfigured, want: daemon(func(d *spec.Daemon) { d.Name, d.DependsOn = name, needs })}
	}
	gone := func(name string) change { return change{name: name, result: resultDeleted} }
	for _, c := range []struct {
		why      string
		ring     map[string][]string
		plan     []change
		warnings []string
		refused  string
	}{
		{"a chain", map[string][]string{"a": nil, "b": {"a"}}, []change{with("c", "b")}, nil, ""},
		{"a circle through the ring", map[string][]string{"a": {"b"}, "b": {"c"}}, []change{with("c", "a")}, nil, "a -> b -> c -> a"},
		{"a circle that the plan opens", map[string][]string{"a": {"b"}, "b": {"a"}}, []change{with("b")}, nil, ""},
		{"a circle of others is told, and does not stop this", map[string][]string{"a": {"b"}, "b": {"a"}}, []change{with("c", "a")},
			[]string{"each waits for the next: a -> b -> a"}, ""},
		{"a circle behind a circle of others", map[string][]string{"a": {"b"}, "b": {"a"}, "y": {"z"}}, []change{with("z", "y")}, nil, "y -> z -> y"},
		{"one that is not there", nil, []change{with("a", "x", "y"), with("x")}, []string{"daemon a depends on y, which is not in the ring"}, ""},
		{"one that others need is deleted", map[string][]string{"a": nil, "b": {"a"}, "c": {"a"}}, []change{gone("a")},
			[]string{"daemon b depends on a;", "daemon c depends on a;"}, ""},
		{"both are deleted", map[string][]string{"a": nil, "b": {"a"}}, []change{gone("a"), gone("b")}, nil, ""},
	} {
		deps := maps.Clone(c.ring)
		if deps == nil {
			deps = map[string][]string{}
		}
		warnings, err := planDepends(deps, c.plan)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v", c.why, err)
			}
			continue
		}
		if err != nil || len(warnings) != len(c.warnings) {
			t.Errorf("%s: %q, %v", c.why, warnings, err)
			continue
		}
		for i, w := range c.warnings {
			if !strings.Contains(warnings[i], w) {
				t.Errorf("%s: %q, want %q", c.why, warnings[i], w)
			}
		}
	}
}
