package spec

import (
	"maps"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec/strict"
)

// Cycle returns a circle among daemons and what they depend on, as the names
// on the way round with the first one again at the end, or nil. Names that are
// no key depend on nothing. The answer depends on nothing but deps.
func Cycle(deps map[string][]string) []string {
	done := map[string]bool{} // leads into no circle
	at := map[string]int{}    // place in the path, from 1
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		if i := at[name]; i > 0 {
			return append(slices.Clone(path[i-1:]), name)
		}
		if done[name] {
			return nil
		}
		path = append(path, name)
		at[name] = len(path)
		for _, next := range deps[name] {
			if circle := visit(next); circle != nil {
				return circle
			}
		}
		path = path[:len(path)-1]
		delete(at, name)
		done[name] = true
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(deps)) {
		if circle := visit(name); circle != nil {
			return circle
		}
	}
	return nil
}

func (c checker) dependencies(d Daemon) {
	for i, name := range d.DependsOn {
		at := strict.Index("depends_on", i)
		switch {
		case !ValidName(name):
			c.fail(at, strict.Quote(name)+" is not the name of a daemon", "a-z, 0-9 and - inside")
		case name == d.Name:
			c.fail(at, strict.Quote(name)+" is the daemon itself", "")
		case slices.Contains(d.DependsOn[:i], name):
			c.fail(at, strict.Quote(name)+" is given twice", "")
		}
	}
}

// circles adds every circle among the daemons of one file, each at the first of
// its daemons. A daemon that names itself was told by dependencies.
func circles(list []Daemon, in []strict.Table) {
	deps := map[string][]string{}
	for _, d := range list {
		if _, twice := deps[d.Name]; !twice {
			deps[d.Name] = slices.DeleteFunc(slices.Clone(d.DependsOn), func(s string) bool { return s == d.Name })
		}
	}
	for circle := Cycle(deps); circle != nil; circle = Cycle(deps) {
		first := slices.IndexFunc(list, func(d Daemon) bool { return slices.Contains(circle, d.Name) })
		names := circle[:len(circle)-1]
		at := slices.Index(names, list[first].Name)
		names = slices.Concat(names[at:], names[:at+1])
		in[first].Fail("depends_on", "goes round in a circle: "+strings.Join(names, " → "), "each would wait for the other for ever")
		// Without its last step the circle is open, and the next one is found.
		from, to := names[len(names)-2], names[len(names)-1]
		deps[from] = slices.DeleteFunc(deps[from], func(s string) bool { return s == to })
	}
}
