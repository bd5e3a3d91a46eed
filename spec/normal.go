package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultMode is the mode of a file that names none.
const defaultMode = "0444"

// Defaults returns what a daemon has that names nothing but itself.
func Defaults() Daemon { return defaultsOf(TypeDaemon) }

// defaultsOf returns what a daemon of a type has that names nothing but its type.
func defaultsOf(typ string) Daemon {
	policy := RestartAlways
	if typ == TypeJob {
		policy = RestartOnFailure
	} else {
		typ = TypeDaemon
	}
	return Daemon{
		Pull:    PullMissing,
		Type:    typ,
		Network: NamespaceHost,
		PID:     NamespacePrivate,
		Restart: Restart{
			Policy:     policy,
			Backoff:    Duration(500 * time.Millisecond),
			BackoffMax: Duration(30 * time.Second),
			ResetAfter: Duration(30 * time.Second),
		},
		Stop:      Stop{Signal: "SIGTERM", Grace: Duration(30 * time.Second)},
		Update:    defaultUpdate(),
		Isolation: Isolation{Policy: IsolationKeep, After: Duration(time.Hour)},
	}
}

// WithDefaults returns a copy of d in which everything that is zero has its
// default, and what can be written in several ways is written in one. Parse
// and Decode return daemons that are like that already; everything else of this
// package treats a daemon as if it were.
func (d Daemon) WithDefaults() Daemon {
	d = d.filled()
	d.Stop.Signal = normalSignal(d.Stop.Signal)

	d.Command = copied(d.Command)
	d.Args = copied(d.Args)
	d.Env = copiedMap(d.Env)
	d.Capabilities.Add = normalCaps(d.Capabilities.Add)
	d.Capabilities.Drop = normalCaps(d.Capabilities.Drop)
	d.Devices = copied(d.Devices)
	for i, dev := range d.Devices {
		d.Devices[i] = normalDevice(dev)
	}
	d.Selector = copiedMap(d.Selector)
	d.Match = copied(d.Match)
	for i := range d.Match {
		d.Match[i].Values = copied(d.Match[i].Values)
	}
	d.Nodes = copied(d.Nodes)
	d.Mounts = copied(d.Mounts)
	for i, m := range d.Mounts {
		d.Mounts[i].Options = fillOptions(m.Options, m.Tmpfs)
	}
	d.Files = copied(d.Files)
	for i, f := range d.Files {
		d.Files[i].Mode = normalMode(f.Mode)
	}
	d.Resources.Ulimits = copiedMap(d.Resources.Ulimits)
	d.Tolerations = copied(d.Tolerations)
	for i := range d.Tolerations {
		fill(&d.Tolerations[i].Operator, TolerateEqual)
	}
	d.DependsOn = copied(d.DependsOn)
	d.Update.CanarySelector = copiedMap(d.Update.CanarySelector)
	d.Hooks.PostStart = copied(d.Hooks.PostStart)
	d.Hooks.PreStop = copied(d.Hooks.PreStop)
	d.Overrides = copied(d.Overrides)
	for i, o := range d.Overrides {
		d.Overrides[i] = o.normal()
	}
	return d
}

// filled returns d with its zero scalars replaced by their defaults. It shares
// slices and maps with d.
func (d Daemon) filled() Daemon {
	def := defaultsOf(d.Type)
	fill(&d.Pull, def.Pull)
	fill(&d.Type, def.Type)
	fill(&d.Network, def.Network)
	fill(&d.PID, def.PID)
	fill(&d.Restart.Policy, def.Restart.Policy)
	fill(&d.Restart.Backoff, def.Restart.Backoff)
	fill(&d.Restart.BackoffMax, def.Restart.BackoffMax)
	fill(&d.Restart.ResetAfter, def.Restart.ResetAfter)
	fill(&d.Stop.Signal, def.Stop.Signal)
	fill(&d.Stop.Grace, def.Stop.Grace)
	fill(&d.Isolation.Policy, def.Isolation.Policy)
	fill(&d.Isolation.After, def.Isolation.After)
	d.Update = d.Update.filled()
	d.Health = d.Health.each((*Probe).filled)
	return d
}

// withoutDefaults is the inverse of WithDefaults: a copy in which everything
// that has its default is zero.
func (d Daemon) withoutDefaults() Daemon {
	def := defaultsOf(d.Type)
	d = d.WithDefaults()
	clearIf(&d.Pull, def.Pull)
	clearIf(&d.Type, TypeDaemon)
	clearIf(&d.Network, def.Network)
	clearIf(&d.PID, def.PID)
	clearIf(&d.Restart.Policy, def.Restart.Policy)
	clearIf(&d.Restart.Backoff, def.Restart.Backoff)
	clearIf(&d.Restart.BackoffMax, def.Restart.BackoffMax)
	clearIf(&d.Restart.ResetAfter, def.Restart.ResetAfter)
	clearIf(&d.Stop.Signal, def.Stop.Signal)
	clearIf(&d.Stop.Grace, def.Stop.Grace)
	clearIf(&d.Isolation.Policy, def.Isolation.Policy)
	clearIf(&d.Isolation.After, def.Isolation.After)
	d.Update = d.Update.stripped()
	d.Health = d.Health.each((*Probe).stripped)
	for i := range d.Tolerations {
		clearIf(&d.Tolerations[i].Operator, TolerateEqual)
	}
	for i, o := range d.Overrides {
		for j := range o.Files {
			clearIf(&d.Overrides[i].Files[j].Mode, defaultMode)
		}
	}
	for i, m := range d.Mounts {
		d.Mounts[i].Options = stripOptions(m.Options, m.Tmpfs)
	}
	for i := range d.Files {
		clearIf(&d.Files[i].Mode, defaultMode)
	}
	return d
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func clearIf[T comparable](field *T, value T) {
	if *field == value {
		var zero T
		*field = zero
	}
}

// copied returns a copy of list, nil when it is empty.
func copied[T any](list []T) []T { return append([]T(nil), list...) }

// copiedMap returns a copy of m, nil when it is empty.
func copiedMap[K comparable, V any](m map[K]V) map[K]V {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

// NormalCapability returns a capability's name with its "CAP_", in capitals.
func NormalCapability(name string) string {
	name = strings.ToUpper(name)
	if name == capAll || strings.HasPrefix(name, "CAP_") {
		return name
	}
	return "CAP_" + name
}

func normalCaps(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, NormalCapability(n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func normalSignal(name string) string {
	name = strings.ToUpper(name)
	if strings.HasPrefix(name, "SIG") {
		return name
	}
	return "SIG" + name
}

// normalMode returns an octal mode with four digits; what is no mode is left
// for Validate.
func normalMode(mode string) string {
	if mode == "" {
		return defaultMode
	}
	n, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || n > 0o777 {
		return mode
	}
	return "0" + strconv.FormatUint(0o1000+n, 8)[1:]
}

// normalDevice leaves out the access that is meant anyway.
func normalDevice(dev string) string { return strings.TrimSuffix(dev, ":rwm") }
