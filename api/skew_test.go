package api

import (
	"slices"
	"strings"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	// From the oldest to the newest.
	order := []string{
		"unknown", "0.1.0-dev", "0.1.0", "0.2.0-rc1", "0.2.0-rc2", "0.2.0", "0.2.0-3-gabcdef0", "0.2.0-12-g0123456", "0.2.1", "0.10.0", "1.0.0",
	}
	for i, a := range order {
		for j, b := range order {
			got, want := compareVersions(a, b), 0
			if i != j {
				want = map[bool]int{true: -1, false: 1}[i < j]
			}
			if got != want {
				t.Errorf("compare %s with %s: %d, want %d", a, b, got, want)
			}
		}
	}
	if compareVersions("v1.0.0", "1.0.0") != 0 {
		t.Error("a v before it makes another version")
	}
}

func TestSkew(t *testing.T) {
	ring := func(pairs ...string) []Node {
		var nodes []Node
		for _, p := range pairs {
			f := strings.Fields(p)
			n := Node{Name: f[0], State: f[1]}
			if len(f) > 2 {
				n.Version = f[2]
			}
			nodes = append(nodes, n)
		}
		return nodes
	}
	for _, c := range []struct {
		what  string
		nodes []Node
		want  string
	}{
		{"no nodes", nil, ""},
		{"all the same", ring("a alive 0.2.0", "b suspect 0.2.0"), ""},
		{"a dead node's version does not count", ring("a alive 0.2.0", "b failed 0.1.0", "c left 0.1.0"), ""},
		{"one was upgraded", ring("c alive 0.1.0", "b alive 0.1.0", "a alive 0.2.0"),
			"2 versions of agentd run: 0.2.0 on a, and 0.1.0 on b, c; that is fine while you upgrade"},
		{"many are counted", ring("a alive 0.1.0", "b alive 0.1.0", "c alive 0.1.0", "d alive 0.1.0", "e alive 0.2.0"),
			"2 versions of agentd run: 0.2.0 on e, and 0.1.0 on 4 nodes; that is fine while you upgrade"},
		{"two builds of one version", ring("a alive 0.2.0", "b alive 0.2.0-1-gabcdef0"),
			"2 versions of agentd run: 0.2.0-1-gabcdef0 on b, and 0.2.0 on a; that is fine while you upgrade"},
		{"too far apart", ring("a alive 0.3.0", "b alive 0.2.0", "c alive 0.1.0"),
			"3 versions of agentd run: 0.3.0 on a, and 0.2.0 on b, 0.1.0 on c; only neighbouring minor versions are tested together: upgrade the older ones"},
		{"one does not tell", ring("a alive 0.3.0", "b alive"),
			"2 versions of agentd run: 0.3.0 on a, and unknown on b; that is fine while you upgrade"},
	} {
		if got := Skew(c.nodes); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.what, got, c.want)
		}
	}
	vs := Versions(ring("b alive 0.1.0", "a alive 0.1.0", "c alive 0.2.0"))
	if len(vs) != 2 || vs[0].Version != "0.2.0" || !slices.Equal(vs[1].Nodes, []string{"a", "b"}) {
		t.Errorf("versions: %+v", vs)
	}
}
