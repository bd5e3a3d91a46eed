package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd/agentd/spec/strict"
)

// Node is what selection and rendering know of a node. Labels hold those that every node
// has by itself as well.
type Node struct {
	Name    string
	Address string
	Labels  map[string]string
	Taints  []Taint
}

// Selects reports whether d is meant for n: the selector, every match and the
// pinned names must all hold. The reason says which one does not, or why all do.
func (d Daemon) Selects(n Node) (ok bool, reason string) {
	for _, key := range slices.Sorted(maps.Keys(d.Selector)) {
		want := d.Selector[key]
		have, labelled := n.Labels[key]
		switch {
		case !labelled:
			return false, "no label " + key + ", needs " + strict.Quote(want)
		case have != want:
			return false, labelIs(key, have) + ", not " + strict.Quote(want)
		}
	}
	for _, m := range d.Match {
		if ok, reason := m.holds(n.Labels); !ok {
			return false, reason
		}
	}
	if len(d.Nodes) > 0 && !slices.Contains(d.Nodes, n.Name) {
		return false, "pinned to " + listed(d.Nodes) + ", not " + n.Name
	}
	switch {
	case len(d.Nodes) > 0:
		return true, "pinned to this node"
	case len(d.Selector) > 0 || len(d.Match) > 0:
		return true, "the selector matches"
	}
	return true, "meant for every node"
}

// holds reports whether the labels meet the requirement, with the meaning of a
// Kubernetes node selector requirement: a missing label satisfies NotIn and
// DoesNotExist and nothing else.
func (m Match) holds(labels map[string]string) (bool, string) {
	have, labelled := labels[m.Key]
	switch m.Operator {
	case OpExists:
		if !labelled {
			return false, "no label " + m.Key
		}
	case OpDoesNotExist:
		if labelled {
			return false, labelIs(m.Key, have) + ", and must not exist"
		}
	case OpIn:
		switch {
		case !labelled:
			return false, "no label " + m.Key + ", needs " + quotedList(m.Values)
		case !slices.Contains(m.Values, have):
			return false, labelIs(m.Key, have) + ", not " + quotedList(m.Values)
		}
	case OpNotIn:
		if labelled && slices.Contains(m.Values, have) {
			return false, labelIs(m.Key, have) + ", which is excluded"
		}
	case OpGt, OpLt:
		return m.compares(have, labelled)
	default:
		return false, "unknown operator " + strict.Quote(string(m.Operator))
	}
	return true, ""
}

func (m Match) compares(have string, labelled bool) (bool, string) {
	words := "more than "
	if m.Operator == OpLt {
		words = "less than "
	}
	if len(m.Values) != 1 {
		return false, "label " + m.Key + " has nothing to compare with"
	}
	words += m.Values[0]
	limit, err := strconv.ParseInt(m.Values[0], 10, 64)
	if err != nil {
		return false, "label " + m.Key + " must be " + words + ", which is no integer"
	}
	if !labelled {
		return false, "no label " + m.Key + ", must be " + words
	}
	n, err := strconv.ParseInt(have, 10, 64)
	switch {
	case err != nil:
		return false, labelIs(m.Key, have) + ", no integer, and must be " + words
	case m.Operator == OpGt && n <= limit, m.Operator == OpLt && n >= limit:
		return false, labelIs(m.Key, have) + ", not " + words
	}
	return true, ""
}

func labelIs(key, value string) string { return "label " + key + " is " + strict.Quote(value) }

// quotedList returns `"a"`, or `one of "a", "b"`.
func quotedList(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strict.Quote(v)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return "one of " + strings.Join(quoted, ", ")
}

// listed names at most five of a list, for a reason must stay readable.
func listed(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + " and " + strconv.Itoa(len(names)-most) + " more"
}
