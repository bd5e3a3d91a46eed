package rollout

import (
	"strings"
	"testing"
	"time"
)

func TestModel(t *testing.T) {
	for _, cfg := range configs() {
		t.Run(cfg.name, func(t *testing.T) {
			r := explore(&cfg, 400_000, time.Now().Add(60*time.Second))
			t.Logf("%s: %s", cfg.name, r)
			if r.bad != "" {
				t.Fatalf("%s\n  %s", r.bad, strings.Join(r.trace, "\n  "))
			}
		})
	}
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
