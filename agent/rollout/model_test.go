package rollout

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var deep = flag.Int("model.states", 0, "explore up to this many states of each ring, the larger ones too; 0: a few")

// No interleaving of small rings takes more nodes down than may be, and none
// ends in a wait whose root has no name. What is looked at by default is what
// fits into some seconds, breadth first; make model looks at all of it, or at
// as much as the memory holds.
//
// conformance: D1 U1
func TestModel(t *testing.T) {
	limit, total := 60_000, 0
	switch {
	case *deep > 0:
		limit = *deep
	case testing.Short():
		limit = 5_000
	}
	for _, cfg := range configs() {
		t.Run(cfg.name, func(t *testing.T) {
			if cfg.deep && *deep == 0 {
				t.Skip("only in make model")
			}
			r := explore(&cfg, limit, time.Time{})
			total += r.states
			t.Logf("%s: %s", cfg.name, r)
			if r.bad != "" {
				t.Fatalf("%s\n  %s", r.bad, strings.Join(r.trace, "\n  "))
			}
		})
	}
	t.Logf("%d states", total)
}

// What the containers show is enough to tell a right implementation from a
// wrong one: nothing that an agent says or writes is looked at here. The
// mutations of the code are tried on this test.
func TestModelContainers(t *testing.T) {
	for _, name := range []string{"one", "crash, supersede"} {
		cfg := configNamed(t, name)
		cfg.outside = true
		if r := explore(&cfg, 0, time.Time{}); r.bad != "" {
			t.Fatalf("%s: %s\n  %s", name, r.bad, strings.Join(r.trace, "\n  "))
		}
	}
}

func configNamed(t *testing.T, name string) config {
	t.Helper()
	for _, cfg := range configs() {
		if cfg.name == name {
			return cfg
		}
	}
	t.Fatalf("there is no configuration %q", name)
	return config{}
}

// From wherever it got to, what happens by itself comes to an end: nodes do not
// go round in circles.
func TestModelSettles(t *testing.T) {
	for _, name := range []string{"crash", "late and supersede", "loss", "rolls back, supersede", "lent and skipped", "everything of two"} {
		cfg := configNamed(t, name)
		longest, n := 0, 0
		visit(&cfg, 20_000, func(x *explorer, w world) {
			if n++; n%100 == 0 {
				longest = max(longest, x.settle(&w)) // panics when it does not end
			}
		})
		t.Logf("%s: %d steps at most", name, longest)
	}
}
