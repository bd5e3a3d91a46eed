package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentd/agentd/spec/strict"
)

// Values of Update.Strategy.
const (
	StrategyRolling   = "rolling"     // node after node, at most MaxUnavailable at once
	StrategyAllAtOnce = "all-at-once" // every node as soon as it hears of it
	StrategyOnDelete  = "on-delete"   // a node, when an operator restarts the daemon there
)

// Values of Update.OnFailure.
const (
	OnFailurePause    = "pause"    // no further node starts the new revision
	OnFailureRollback = "rollback" // and those that did go back to the one before
)

// Limits of updates.
const (
	// MaxCanaries is how many nodes a record can name as canaries
	// (record.MaxInlineNodes).
	MaxCanaries = 256

	maxNodes   = 100_000 // more than a ring has
	maxPercent = 100
	// A job may well take days, and new nodes be watched for as long.
	maxUpdate   = Duration(30 * 24 * time.Hour)
	minDeadline = Duration(100 * time.Millisecond)
)

// Update is the [update] table: how nodes go from one revision to the next.
// The first revision of a daemon, and one after a delete, starts everywhere at
// once, whatever is here.
type Update struct {
	Strategy       string `toml:"strategy"`        // default "rolling"
	MaxUnavailable Share  `toml:"max_unavailable"` // of the nodes placed; default "1"; see Budget
	Surge          bool   `toml:"surge"`           // the new container starts beside the old one, which stops when the new one is available

	MinReady Duration `toml:"min_ready"` // ready for this long without a break, a node is available; default 0
	// Deadline is counted from the new container's start, or from when preparing
	// it first failed: a node that is not ready by then has failed. Default 10m.
	Deadline Duration `toml:"deadline"`

	// Canary is how many nodes go first; with CanarySelector, those that it
	// matches do. At most one of the two is set. Bake is how long each of them
	// has to stay ready, after MinReady, before any other node follows.
	Canary         int               `toml:"canary"`
	CanarySelector map[string]string `toml:"canary_selector"`
	Bake           Duration          `toml:"bake"`

	OnFailure   string `toml:"on_failure"`   // default "pause"
	MaxFailures int    `toml:"max_failures"` // failed nodes that stop the update; default 1; never more than there are lanes
}

// Share is a number of nodes, "3", or a percentage of them, "25%".
type Share string

// UnmarshalTOML takes a text, or a bare number.
func (s *Share) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case string:
		*s = Share(v)
		return nil
	case int64:
		*s = Share(strconv.FormatInt(v, 10))
		return nil
	}
	return errors.New(`needs a number of nodes, or a percentage such as "25%"`)
}

// parse returns the number, and whether it is a percentage. It takes one way of
// writing only, so that what means the same is the same text.
func (s Share) parse() (n int, percent, ok bool) {
	digits, percent := strings.CutSuffix(string(s), "%")
	n, err := strconv.Atoi(digits)
	return n, percent, err == nil && strconv.Itoa(n) == digits
}

// Of returns the share of a number of nodes: percentages are rounded up, and it
// is at least 1. A number may be more than there are nodes. What is no share
// counts as 1.
func (s Share) Of(nodes int) int {
	n, percent, ok := s.parse()
	switch {
	case !ok:
		return 1
	case percent:
		n = (nodes*n + 99) / 100
	}
	return max(n, 1)
}

// Budget returns how many nodes may be down for an update of a daemon that is
// placed on so many: max_unavailable as a number, or all of them when they go
// at once; at least 1.
func (u Update) Budget(placed int) int {
	if u.Strategy == StrategyAllAtOnce {
		return max(placed, 1)
	}
	return u.MaxUnavailable.Of(placed)
}

// CanaryFor reports whether CanarySelector makes the node a canary. Which nodes
// a number of canaries means is for whoever signs the record.
func (u Update) CanaryFor(n Node) bool {
	if len(u.CanarySelector) == 0 {
		return false
	}
	ok, _ := Daemon{Selector: u.CanarySelector}.Selects(n)
	return ok
}

func defaultUpdate() Update {
	return Update{
		Strategy:       StrategyRolling,
		MaxUnavailable: "1",
		Deadline:       Duration(10 * time.Minute),
		OnFailure:      OnFailurePause,
		MaxFailures:    1,
	}
}

// filled returns u with its zeros replaced by their defaults.
func (u Update) filled() Update {
	def := defaultUpdate()
	fill(&u.Strategy, def.Strategy)
	fill(&u.MaxUnavailable, def.MaxUnavailable)
	fill(&u.Deadline, def.Deadline)
	fill(&u.OnFailure, def.OnFailure)
	fill(&u.MaxFailures, def.MaxFailures)
	return u
}

// stripped is the inverse of filled.
func (u Update) stripped() Update {
	def := defaultUpdate()
	clearIf(&u.Strategy, def.Strategy)
	clearIf(&u.MaxUnavailable, def.MaxUnavailable)
	clearIf(&u.Deadline, def.Deadline)
	clearIf(&u.OnFailure, def.OnFailure)
	clearIf(&u.MaxFailures, def.MaxFailures)
	return u
}

func (c checker) update(d Daemon) {
	u := d.Update
	c.oneOf("update.strategy", u.Strategy, StrategyRolling, StrategyAllAtOnce, StrategyOnDelete)
	c.oneOf("update.on_failure", u.OnFailure, OnFailurePause, OnFailureRollback)
	c.share("update.max_unavailable", u.MaxUnavailable)
	c.between("update.min_ready", u.MinReady, 0, maxUpdate)
	c.between("update.deadline", u.Deadline, minDeadline, maxUpdate)
	c.between("update.bake", u.Bake, 0, maxUpdate)
	if u.MaxFailures < 1 || u.MaxFailures > maxNodes {
		c.failf("update.max_failures", "%d is not between 1 and %d", u.MaxFailures, maxNodes)
	}
	c.canaries(u)
	c.meaningless(d)
}

func (c checker) share(at string, s Share) {
	n, percent, ok := s.parse()
	limit := maxNodes
	if percent {
		limit = maxPercent
	}
	switch {
	case !ok:
		c.fail(at, strict.Quote(string(s))+" is neither a number of nodes nor a percentage", `a whole number, such as "2" or "25%"`)
	case n == 0:
		c.fail(at, strict.Quote(string(s))+" would let no node ever be updated", `nothing is updated by itself with strategy = "on-delete"`)
	case n < 0:
		c.fail(at, strict.Quote(string(s))+" is negative", "")
	case n > limit && percent:
		c.fail(at, strict.Quote(string(s))+" is more than all nodes", `"100%" is all of them`)
	case n > limit:
		c.failf(at, "%d is more than %d", n, limit)
	}
}

func (c checker) canaries(u Update) {
	if u.Canary < 0 || u.Canary > MaxCanaries {
		c.failf("update.canary", "%d is not between 1 and %d, or 0 for none", u.Canary, MaxCanaries)
	}
	if u.CanarySelector != nil && len(u.CanarySelector) == 0 {
		c.fail("update.canary_selector", "is empty", "leave it out to have no canaries")
	}
	for _, key := range slices.Sorted(maps.Keys(u.CanarySelector)) {
		at := strict.Join("update.canary_selector", key)
		c.labelKey(at, key)
		c.labelValue(at, u.CanarySelector[key])
	}
	chosen := len(u.CanarySelector) > 0 || c.failed("update.canary_selector")
	switch {
	case u.Canary != 0 && chosen:
		c.fail("update.canary_selector", "and canary exclude each other", "either say how many nodes go first, or which")
	case u.Bake > 0 && u.Canary == 0 && !chosen && !c.failed("update.canary"):
		c.fail("update.bake", "has no meaning without canaries", "say with canary or canary_selector which nodes go first, or use min_ready")
	}
}

// meaningless tells what is set and would never take effect, for whoever set it
// expects that it does.
func (c checker) meaningless(d Daemon) {
	u, def := d.Update, defaultUpdate()
	never := func(set bool, key, why, hint string) {
		if set && !c.failed("update."+key) {
			c.fail("update."+key, why, hint)
		}
	}
	if u.Strategy == StrategyAllAtOnce || u.Strategy == StrategyOnDelete {
		with := "has no meaning with strategy = " + strict.Quote(u.Strategy)
		rolling := `some nodes go first with strategy = "rolling" only`
		never(u.Canary != 0, "canary", with, rolling)
		never(u.CanarySelector != nil, "canary_selector", with, rolling)
		never(u.Bake > 0, "bake", with, rolling)
		if u.Strategy == StrategyAllAtOnce {
			never(u.MaxUnavailable != def.MaxUnavailable, "max_unavailable", with, "")
		} else {
			never(u.Surge, "surge", with, "the old container is stopped first there")
			never(u.OnFailure == OnFailureRollback, "on_failure", fmt.Sprintf("%s %s", strict.Quote(u.OnFailure), with), "no node goes back by itself either")
		}
	}
	if d.Job() {
		never(u.Surge, "surge", "is not for a job, which must not run twice at once", "")
		never(u.OnFailure == OnFailureRollback, "on_failure", `"rollback" is not for a job: what it has done is not undone by running the one before again`, `"pause" stops the others`)
	}
}
