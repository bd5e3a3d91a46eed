package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

func (a *app) labelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "label NODE KEY=VALUE… KEY-…", GroupID: groupNodes, Short: "Set or remove labels of a node",
		Long: `Sets labels of a node, or removes them with KEY-, from any node: signed by you,
over what the node's own agentd.toml says. Daemons start and stop there as their
selectors have it. The labels that every node has by itself stay as they are.`,
		Example:     "  agentctl label web-1 role=edge disktype-",
		Annotations: formats("name"), Args: atLeast(2, "a node and labels: KEY=VALUE, or KEY- to remove one"),
		RunE: func(cmd *cobra.Command, args []string) error {
			edit, err := labelEdit(args[1:])
			if err != nil {
				return err
			}
			return a.editNode(cmd.Context(), args[0], "label", setOrNot(args[1:], "labeled"), edit)
		},
	}
}

func (a *app) taintCommand() *cobra.Command {
	return &cobra.Command{
		Use: "taint NODE KEY=VALUE:EFFECT… KEY[:EFFECT]-…", GroupID: groupNodes, Short: "Set or remove taints of a node",
		Long: `Sets taints of a node, or removes them with KEY- or KEY:EFFECT-, from any node:
signed by you. Daemons that do not tolerate it are not started there
(NoSchedule), or are stopped as well (NoExecute). From the first change on, the
taints of the node's own agentd.toml no longer count.`,
		Example: `  agentctl taint web-1 dedicated=gpu:NoSchedule
  agentctl taint web-1 dedicated-`,
		Annotations: formats("name"), Args: atLeast(2, "a node and taints: KEY=VALUE:EFFECT, or KEY- to remove one"),
		RunE: func(cmd *cobra.Command, args []string) error {
			edit, err := taintEdit(args[1:])
			if err != nil {
				return err
			}
			return a.editNode(cmd.Context(), args[0], "taint", setOrNot(args[1:], "tainted"), edit)
		},
	}
}

// setOrNot is kubectl's word for a change: labeled, or unlabeled where labels
// only go.
func setOrNot(args []string, word string) string {
	if slices.ContainsFunc(args, func(s string) bool { return !strings.HasSuffix(s, "-") }) {
		return word
	}
	return "un" + word
}

// editNode is label and taint: a change and a word for it.
func (a *app) editNode(ctx context.Context, name, wish, done string, edit nodeEdit) error {
	c := a.client()
	defer c.Close()
	changed, err := a.changeNode(ctx, c, name, edit)
	if err != nil {
		return cannot(wish+" "+name, err)
	}
	if !changed {
		done = "unchanged"
	}
	a.toldNode(name, done)
	return nil
}

// labelEdit reads KEY=VALUE and KEY-; all mistakes are told at once.
func labelEdit(args []string) (nodeEdit, error) {
	wish := map[string]*string{}
	var errs errorList
	bad := func(format string, a ...any) {
		errs = append(errs, usagef("", "label: "+format, a...))
	}
	automatic := config.AutoLabels("n", "n", "0")
	for _, arg := range args {
		key, value, set := strings.Cut(arg, "=")
		var want *string
		if set {
			want = &value
		} else if k, remove := strings.CutSuffix(arg, "-"); remove {
			key = k
		} else {
			bad("%q is neither KEY=VALUE nor KEY-", arg)
			continue
		}
		_, twice := wish[key]
		_, own := automatic[key]
		switch {
		case !spec.ValidLabelKey(key):
			bad("%q is not the key of a label", key)
		case set && !spec.ValidLabelValue(value):
			bad("%q is not the value of a label: at most 63 letters, digits, - _ and .", value)
		case own || strings.HasPrefix(key, "agentd/"):
			bad("%s is a label that every node has by itself", key)
		case twice:
			bad("%s is given twice", key)
		}
		wish[key] = want
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return func(body record.NodeBody, n api.Node) (record.NodeBody, error) {
		labels := maps.Clone(body.Labels)
		if labels == nil {
			labels = map[string]*string{}
		}
		for key, want := range wish {
			_, said := body.Labels[key]
			_, has := n.Labels[key]
			if want == nil && !said && !has {
				continue // nobody sets it
			}
			labels[key] = want
		}
		body.Labels = labels
		return body, nil
	}, nil
}

// taintEdit reads KEY=VALUE:EFFECT, KEY:EFFECT, KEY:EFFECT- and KEY-. A taint
// replaces one of the same key and effect, as with kubectl.
func taintEdit(args []string) (nodeEdit, error) {
	type removal struct{ key, effect string }
	var set []spec.Taint
	var remove []removal
	var errs errorList
	bad := func(format string, a ...any) {
		errs = append(errs, usagef("", "taint: "+format, a...))
	}
	for _, arg := range args {
		if rest, ok := strings.CutSuffix(arg, "-"); ok {
			pair, effect, _ := strings.Cut(rest, ":")
			key, _, _ := strings.Cut(pair, "=")
			if !spec.ValidLabelKey(key) || effect != "" && !knownEffect(effect) {
				bad("%q is not KEY- or KEY:EFFECT-", arg)
			}
			remove = append(remove, removal{key, effect})
			continue
		}
		t, err := spec.ParseTaint(arg)
		if err != nil {
			bad("%v", err)
		}
		set = append(set, t)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return func(body record.NodeBody, n api.Node) (record.NodeBody, error) {
		have := body.Taints
		if have == nil {
			have = n.Taints // agentd.toml's, so far
		}
		var taints []spec.Taint
		for _, text := range have {
			t, err := spec.ParseTaint(text)
			if err != nil {
				return body, newer(record.NodeKey(n.Name), fmt.Errorf("taint %q: %w", text, err))
			}
			taints = append(taints, t)
		}
		before := slices.Clone(taints)
		for _, r := range remove {
			taints = slices.DeleteFunc(taints, func(t spec.Taint) bool {
				return t.Key == r.key && (r.effect == "" || r.effect == t.Effect)
			})
		}
		for _, want := range set {
			same := func(t spec.Taint) bool { return t.Key == want.Key && t.Effect == want.Effect }
			if i := slices.IndexFunc(taints, same); i >= 0 {
				taints[i] = want
			} else {
				taints = append(taints, want)
			}
		}
		if slices.Equal(before, taints) {
			return body, nil
		}
		body.Taints = []string{}
		for _, t := range taints {
			body.Taints = append(body.Taints, t.String())
		}
		return body, nil
	}, nil
}

func knownEffect(effect string) bool {
	return slices.Contains([]string{spec.NoSchedule, spec.NoExecute, spec.PreferNoSchedule}, effect)
}
