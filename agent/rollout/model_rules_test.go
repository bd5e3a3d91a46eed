package rollout

import (
	"strings"
	"testing"
	"time"
)

// Each rule of the protocol is switched off in turn, and the model finds what
// the rule prevents.
func TestEveryRuleIsNeeded(t *testing.T) {
	for _, c := range []struct {
		rule   string
		config string
		breaks func(*config)
		want   string // what is violated
	}{
		{"no evidence is asked for", "one", without(ruleEvidence), "2 nodes are down, at most 1"},
		{"past of every lane peer", "supersede", without(rulePast), "2 nodes are down, at most 1"},
		{"done of those before", "one", without(ruleBefore), "2 nodes are down, at most 1"},
		{"done of every canary", "canary", without(ruleCanary), "before the canary"},
		{"who goes on in place keeps since", "supersede", without(ruleSince), "2 nodes are down, at most 1"},
		{"only done frees a slot", "slow, supersede", without(ruleFree), "2 nodes are down, at most 1"},
		{"a loan is the lender's slot", "late, unseen twice", without(ruleLoan), "2 nodes are down, at most 1"},
		{"late nodes borrow", "late of old lane", without(ruleLate), "2 nodes are down, at most 1"},
		{"versions are compared whole", "slow rolls back", without(ruleTotal), "2 nodes are down, at most 1"},
		{"a lender's lane is done", "late, supersede, back", without(ruleOldest), "2 nodes are down, at most 1"},
		{"evidence is one statement", "any order, supersede", func(c *config) { c.twice, c.outside = true, true }, "2 nodes are down, at most 1"},
		{"lost state, new id", "loss of two", func(c *config) { c.sameID, c.outside = true, true }, "2 nodes are down, at most 1"},
		{"who left comes back as another", "leaves, supersede", func(c *config) { c.sameID, c.outside = true, true }, "2 nodes are down, at most 1"},
		{"who was told a change is not ready before it was made", "slow supervisor", func(c *config) { c.stale = true }, "no turn is on the disk"},
		{"lanes are kept", "lanes merge", func(c *config) {
			c.ops = []op{first(2), then(0, 'b', 2), then(1, 'c', 2, lanes([]int{0}, []int{1, 2}))}
		}, "3 nodes are down, at most 2"},
		{"the last of each lane stays in it", "two lenders", func(c *config) {
			c.ops[2].lanes = [][]int{{0}, {1, 2}}
		}, "3 nodes are down, at most 2"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			cfg := configNamed(t, c.config)
			c.breaks(&cfg)
			r := explore(&cfg, 2_000_000, time.Now().Add(5*time.Minute))
			if !strings.Contains(r.bad, c.want) {
				t.Fatalf("%s: %s: found %q, want %q", c.config, r, r.bad, c.want)
			}
			t.Logf("%s: %s\n%s\n  %s", c.config, r, r.bad, strings.Join(r.trace, "\n  "))
		})
	}
}

func without(r rule) func(*config) { return func(c *config) { c.off |= r } }
