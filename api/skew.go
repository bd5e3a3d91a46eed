package api

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// VersionNodes is a version of agentd and the nodes that run it.
type VersionNodes struct {
	Version string   `json:"version"` // "unknown" for nodes that do not tell
	Nodes   []string `json:"nodes"`   // sorted
}

// Versions tells which versions of agentd run, the newest first. Only nodes that
// are alive or suspect count: what a dead machine ran is no skew.
func Versions(nodes []Node) []VersionNodes {
	by := map[string][]string{}
	for _, n := range nodes {
		if n.State == "alive" || n.State == "suspect" {
			v := cmp.Or(n.Version, "unknown")
			by[v] = append(by[v], n.Name)
		}
	}
	out := make([]VersionNodes, 0, len(by))
	for v, names := range by {
		slices.Sort(names)
		out = append(out, VersionNodes{Version: v, Nodes: names})
	}
	slices.SortFunc(out, func(a, b VersionNodes) int { return compareVersions(b.Version, a.Version) })
	return out
}

// Skew is a sentence about a ring in which agents of several versions run; ""
// when all are the same. It names the nodes that lag, as far as they are few.
func Skew(nodes []Node) string {
	vs := Versions(nodes)
	if len(vs) < 2 {
		return ""
	}
	newest, oldest := vs[0], vs[len(vs)-1]
	var lag []string
	for _, v := range vs[1:] {
		lag = append(lag, fmt.Sprintf("%s on %s", v.Version, fewOf(v.Nodes)))
	}
	s := fmt.Sprintf("%d versions of agentd run: %s on %s, and %s", len(vs), newest.Version, fewOf(newest.Nodes), strings.Join(lag, ", "))
	if far(newest.Version, oldest.Version) {
		return s + "; only neighbouring minor versions are tested together: upgrade the older ones"
	}
	return s + "; that is fine while you upgrade"
}

// fewOf lists names, and counts them where they are many.
func fewOf(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%d nodes", len(names))
	}
	return strings.Join(names, ", ")
}

// far reports whether two versions differ by more than one minor version.
func far(a, b string) bool {
	x, _, okX := release(a)
	y, _, okY := release(b)
	if !okX || !okY {
		return false // says nothing about what it does not understand
	}
	return x[0] != y[0] || max(x[1]-y[1], y[1]-x[1]) > 1
}

// release takes "1.2.3-4-gabcdef0" apart: numbers and what follows them.
func release(v string) (numbers [3]int, rest string, ok bool) {
	v = strings.TrimPrefix(v, "v")
	i := strings.IndexAny(v, "-+")
	if i < 0 {
		i = len(v)
	}
	parts := strings.Split(v[:i], ".")
	if len(parts) != len(numbers) {
		return numbers, v, false
	}
	for j, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return [3]int{}, v, false
		}
		numbers[j] = n
	}
	return numbers, v[i:], true
}

// compareVersions orders versions: by their numbers, then a pre-release before
// its release, and that before what was built after its tag (git describe's
// -COMMITS-gHASH). What is no version comes first.
func compareVersions(a, b string) int {
	x, restX, okX := release(a)
	y, restY, okY := release(b)
	switch {
	case okX != okY:
		if okY {
			return -1
		}
		return 1
	case !okX:
		return strings.Compare(a, b)
	}
	return cmp.Or(slices.Compare(x[:], y[:]), cmp.Compare(stage(restX), stage(restY)),
		cmp.Compare(after(restX), after(restY)), strings.Compare(restX, restY))
}

// stage is 0 for a pre-release, 1 for a release, 2 for what came after its tag.
func stage(rest string) int {
	switch {
	case rest == "":
		return 1
	case after(rest) > 0 || strings.HasPrefix(rest, "+"):
		return 2
	}
	return 0
}

// after counts the commits since the tag in "-4-gabcdef0".
func after(rest string) int {
	parts := strings.Split(strings.TrimPrefix(rest, "-"), "-")
	if len(parts) < 2 || !strings.HasPrefix(parts[1], "g") {
		return 0
	}
	n, err := strconv.Atoi(parts[0])
	if err != nil {
		return 0
	}
	return n
}
