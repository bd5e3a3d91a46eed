package spec

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/agentd/agentd/spec/strict"
)

// overridable names what a block may change.
const overridable = "env, args, resources and files"

// Override is one [[override]] block: what differs on the nodes whose labels
// meet Selector and every Match. At least one of the two is set.
type Override struct {
	Selector map[string]string `toml:"selector"`
	Match    []Match           `toml:"match"`

	Env       map[string]string `toml:"env" template:"yes"`  // merged by name
	Args      []string          `toml:"args" template:"yes"` // replaces; nil: not set, empty: the image's
	Resources ResourceOverride  `toml:"resources"`           // merged key by key
	Files     []File            `toml:"files"`               // merged by target
}

// ResourceOverride has the keys of Resources; nil is not set, zero lifts the
// limit.
type ResourceOverride struct {
	CPU           *float64         `toml:"cpu"`
	Memory        *Size            `toml:"memory"`
	Pids          *int64           `toml:"pids"`
	MemoryReserve *Size            `toml:"memory_reserve"`
	CPUWeight     *uint64          `toml:"cpu_weight"`
	OOMScoreAdj   *int             `toml:"oom_score_adj"`
	Ulimits       map[string]int64 `toml:"ulimits"` // merged by name
}

// Matches reports whether the block applies on a node.
func (o Override) Matches(n Node) bool {
	ok, _ := Daemon{Selector: o.Selector, Match: o.Match}.Selects(n)
	return ok
}

// over returns r with everything that o sets.
func (o ResourceOverride) over(r Resources) Resources {
	set(&r.CPU, o.CPU)
	set(&r.Memory, o.Memory)
	set(&r.Pids, o.Pids)
	set(&r.MemoryReserve, o.MemoryReserve)
	set(&r.CPUWeight, o.CPUWeight)
	set(&r.OOMScoreAdj, o.OOMScoreAdj)
	r.Ulimits = merged(r.Ulimits, o.Ulimits)
	return r
}

// set replaces what field holds, when there is something to replace it by.
func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// merged returns a copy of m with the entries of over in it.
func merged[V any](m, over map[string]V) map[string]V {
	if len(m)+len(over) == 0 {
		return nil
	}
	out := maps.Clone(m)
	if out == nil {
		out = map[string]V{}
	}
	maps.Copy(out, over)
	return out
}

// apply returns d with what o sets, and that by its path as Diff writes it. It
// changes nothing that d shares with others.
func (o Override) apply(d Daemon) (Daemon, *leaves) {
	set := newLeaves()
	d.Env = merged(d.Env, o.Env)
	for _, k := range slices.Sorted(maps.Keys(o.Env)) {
		set.add(strict.Join("env", k), reflect.ValueOf(o.Env[k]), true)
	}
	if o.Args != nil {
		d.Args = copied(o.Args)
		set.add("args", reflect.ValueOf(o.Args), true)
	}
	d.Resources = o.Resources.over(d.Resources)
	set.table("resources", reflect.ValueOf(o.Resources), true)
	d.Files = copied(d.Files)
	for _, f := range o.Files {
		i := slices.IndexFunc(d.Files, func(have File) bool { return have.Target == f.Target })
		if i < 0 {
			d.Files = append(d.Files, f)
		} else {
			d.Files[i] = f
		}
		at := fmt.Sprintf("files[%s].", strict.Quote(f.Target))
		set.add(at+"content", reflect.ValueOf(f.Content), true)
		set.add(at+"mode", reflect.ValueOf(f.Mode), true)
	}
	return d, set
}

// normal returns a copy of o that is written in one way.
func (o Override) normal() Override {
	o = clone(o)
	o.Selector = copiedMap(o.Selector)
	o.Match = copied(o.Match)
	for i := range o.Match {
		o.Match[i].Values = copied(o.Match[i].Values)
	}
	o.Env = copiedMap(o.Env)
	o.Resources.Ulimits = copiedMap(o.Resources.Ulimits)
	o.Files = copied(o.Files)
	for i, f := range o.Files {
		o.Files[i].Mode = normalMode(f.Mode)
	}
	return o
}

// overrides checks each block by itself, and with the daemon where the two
// must fit together.
func (c checker) overrides(d Daemon) {
	for i, o := range d.Overrides {
		c := c.under(strict.Index("override", i))
		wrong := c.failed("") // such as an unknown key, which was to change something
		switch {
		case o.Selector != nil && len(o.Selector) == 0:
			c.fail("selector", "is empty", "what holds for every node needs no override")
		case len(o.Selector)+len(o.Match) == 0:
			c.fail("", "matches on nothing", "it needs a selector or [[override.match]]; what holds for every node needs no override")
		}
		c.requirements(o.Selector, o.Match)
		if !wrong && len(o.Env) == 0 && o.Args == nil && reflect.ValueOf(o.Resources).IsZero() && len(o.Files) == 0 {
			c.fail("", "changes nothing", "it may have "+overridable)
		}
		c.env(o.Env)
		c.resources(o.Resources.over(Resources{}))
		if r := o.Resources; r.Memory != nil || r.MemoryReserve != nil {
			both := r.over(d.Resources)
			own := r.over(Resources{})
			if both.Memory > 0 && both.MemoryReserve > both.Memory && !(own.Memory > 0 && own.MemoryReserve > own.Memory) {
				c.failf("resources", "memory_reserve becomes %s, which is more than memory, %s", both.MemoryReserve, both.Memory)
			}
		}
		c.files(o.Files)
		c.targets(nil, o.Files)
		for j, f := range o.Files {
			at := slices.IndexFunc(d.Mounts, func(m Mount) bool { return m.Target == f.Target })
			if at >= 0 && f.Target != "" {
				c.failf(strict.Index("files", j)+".target", "%s is the target of mounts[%d] already", strict.Quote(f.Target), at)
			}
		}
	}
}
