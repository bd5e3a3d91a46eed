package config

import (
	"errors"
	"strings"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/strict"
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
	case !spec.ValidLabelKey(key):
		return Taint{}, errors.New(strict.Quote(key) + " is not the key of a taint")
	case !spec.ValidLabelValue(value):
		return Taint{}, errors.New(strict.Quote(value) + " is not the value of a taint")
	case effect != "NoSchedule" && effect != "NoExecute" && effect != "PreferNoSchedule":
		msg, _ := strict.OneOf(effect, "NoSchedule", "NoExecute", "PreferNoSchedule")
		return Taint{}, errors.New(msg)
	}
	return Taint{key, value, effect}, nil
}
