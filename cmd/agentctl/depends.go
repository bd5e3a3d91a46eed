package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// checkDepends looks at what the ring's daemons depend on once the plan is
// carried out: it refuses circles that a daemon of the plan is part of, and
// returns warnings about what is not there.
func checkDepends(ctx context.Context, c *api.Client, ring ringView, plan []change) (warnings []string, err error) {
	if !slices.ContainsFunc(plan, func(ch change) bool { return ch.result == resultDeleted || len(ch.want.DependsOn) > 0 }) {
		return nil, nil // nothing that a daemon waits for, or that waits, changes
	}
	deps, err := ringDepends(ctx, c, ring)
	if err != nil {
		return nil, err
	}
	return planDepends(deps, plan)
}

// ringDepends reads what each of the ring's daemons depends on. One that a newer
// agentctl wrote depends on nothing as far as this one knows.
func ringDepends(ctx context.Context, c *api.Client, ring ringView) (map[string][]string, error) {
	records, err := c.Records(ctx, string(record.KindDaemon))
	if err != nil {
		return nil, err
	}
	deps := map[string][]string{}
	for _, r := range records.Records {
		if r.Delete {
			continue
		}
		entry, err := entryOf(r, ring.id, record.Key{Kind: record.KindDaemon, Name: r.Name})
		if err != nil {
			return nil, err
		}
		deps[r.Name] = nil
		if cur, err := currentOf(entry); err == nil && cur.live() {
			deps[r.Name] = cur.spec.DependsOn
		}
	}
	return deps, nil
}

// planDepends is the decision of checkDepends.
func planDepends(deps map[string][]string, plan []change) (warnings []string, err error) {
	planned := map[string]bool{}
	for _, ch := range plan {
		planned[ch.name] = true
		if ch.result == resultDeleted {
			delete(deps, ch.name)
		} else {
			deps[ch.name] = ch.want.DependsOn
		}
	}
	names := func(list []string) bool { return slices.ContainsFunc(list, func(s string) bool { return planned[s] }) }
	circles := map[string][]string{}
	for name, list := range deps {
		circles[name] = slices.Clone(list)
	}
	for circle := spec.Cycle(circles); circle != nil; circle = spec.Cycle(circles) {
		if names(circle) {
			return nil, circleError(circle)
		}
		// Two operators who apply at once can make one; it is not this plan's.
		warnings = append(warnings, "the ring has daemons of which each waits for the next: "+strings.Join(circle, " -> "))
		circles[circle[0]] = slices.DeleteFunc(circles[circle[0]], func(s string) bool { return s == circle[1] })
	}
	for _, ch := range plan {
		if ch.result == resultDeleted {
			for _, name := range slices.Sorted(maps.Keys(deps)) {
				if slices.Contains(deps[name], ch.name) {
					warnings = append(warnings, fmt.Sprintf("daemon %s depends on %s; what runs goes on, and nothing of it starts any more", name, ch.name))
				}
			}
			continue
		}
		for _, need := range ch.want.DependsOn {
			if _, there := deps[need]; !there {
				warnings = append(warnings, fmt.Sprintf("daemon %s depends on %s, which is not in the ring; it waits for it", ch.name, need))
			}
		}
	}
	return warnings, nil
}

func circleError(circle []string) error {
	return withHint(fmt.Errorf("each would wait for the next: %s", strings.Join(circle, " -> ")), "take one out of depends_on")
}

// checkCircles refuses daemons that depend on each other.
func checkCircles(daemons []spec.Daemon) error {
	deps := map[string][]string{}
	for _, d := range daemons {
		deps[d.Name] = d.DependsOn
	}
	if circle := spec.Cycle(deps); circle != nil {
		return circleError(circle)
	}
	return nil
}
