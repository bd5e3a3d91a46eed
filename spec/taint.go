package spec

import (
	"errors"

	"slices"
	"strings"

	"github.com/agentd/agentd/spec/strict"
)

// Effects of a taint, with Kubernetes' names and meanings.
const (
	NoSchedule       = "NoSchedule"       // starts nothing, keeps what runs
	NoExecute        = "NoExecute"        // stops what runs, too
	PreferNoSchedule = "PreferNoSchedule" // keeps no daemon off: it has no other node to prefer
)

// Taint keeps daemons off a node that do not tolerate it.
type Taint struct {
	Key, Value, Effect string
}

// String returns key=value:Effect, or key:Effect without a value.
func (t Taint) String() string {
	if t.Value == "" {
		return t.Key + ":" + t.Effect
	}
	return t.Key + "=" + t.Value + ":" + t.Effect
}

// ParseTaint reads key=value:Effect or key:Effect.
func ParseTaint(s string) (Taint, error) {
	pair, effect, ok := strings.Cut(s, ":")
	key, value, _ := strings.Cut(pair, "=")
	switch {
	case !ok:
		return Taint{}, errors.New(strict.Quote(s) + " has no effect: write key=value:NoSchedule or key=value:NoExecute")
	case !ValidLabelKey(key):
		return Taint{}, errors.New(strict.Quote(key) + " is not the key of a taint")
	case !ValidLabelValue(value):
		return Taint{}, errors.New(strict.Quote(value) + " is not the value of a taint")
	case !slices.Contains(effects(), effect):
		msg, _ := strict.OneOf(effect, effects()...)
		return Taint{}, errors.New(msg)
	}
	return Taint{key, value, effect}, nil
}

func effects() []string { return []string{NoSchedule, NoExecute, PreferNoSchedule} }

// TolerationOperator says how a toleration compares with a taint.
type TolerationOperator string

const (
	TolerateEqual  TolerationOperator = "Equal"  // key and value are the taint's
	TolerateExists TolerationOperator = "Exists" // the key is, whatever the value
)

// Toleration lets a daemon onto nodes with a taint, as Kubernetes has it: an
// empty Effect stands for every effect, an empty Key with Exists for every
// taint.
type Toleration struct {
	Key      string             `toml:"key"`
	Operator TolerationOperator `toml:"operator"` // default Equal
	Value    string             `toml:"value"`
	Effect   string             `toml:"effect"`
}

// covers reports whether the toleration lets a daemon past the taint.
func (t Toleration) covers(taint Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case TolerateExists:
		return true
	case TolerateEqual, "":
		return t.Key != "" && t.Value == taint.Value
	}
	return false
}

// Tolerates reports whether one of d's tolerations covers the taint.
func (d Daemon) Tolerates(t Taint) bool {
	return slices.ContainsFunc(d.Tolerations, func(have Toleration) bool { return have.covers(t) })
}

// Untolerated returns the taints that keep d off a node, in their order: those
// of the effects NoSchedule and NoExecute that no toleration covers.
func (d Daemon) Untolerated(taints []Taint) []Taint {
	var out []Taint
	for _, t := range taints {
		if (t.Effect == NoSchedule || t.Effect == NoExecute) && !d.Tolerates(t) {
			out = append(out, t)
		}
	}
	return out
}

func (c checker) tolerations(list []Toleration) {
	for i, t := range list {
		at := strict.Index("tolerations", i)
		switch {
		case t.Key != "":
			if !ValidLabelKey(t.Key) {
				c.fail(at+".key", strict.Quote(t.Key)+" is not the key of a taint", `such as "dedicated" or "example.org/dedicated"`)
			}
		case t.Operator != TolerateExists:
			c.fail(at+".key", "is missing", `operator = "Exists" without a key tolerates every taint`)
		}
		switch t.Operator {
		case TolerateExists:
			if t.Value != "" {
				c.fail(at+".value", "Exists takes no value", "leave it out, or compare with operator = \"Equal\"")
			}
		case TolerateEqual, "":
			if !ValidLabelValue(t.Value) {
				c.fail(at+".value", strict.Quote(t.Value)+" is not the value of a taint", "at most 63 letters, digits, - _ and .")
			}
		default:
			c.oneOf(at+".operator", string(t.Operator), string(TolerateExists), string(TolerateEqual))
		}
		if t.Effect != "" {
			c.oneOf(at+".effect", t.Effect, effects()...)
		}
	}
}
