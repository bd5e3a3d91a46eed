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
