package rollout

import (
	"strings"
	"testing"

	"github.com/agentd/agentd/e2e/mutate"
)

// The model notices when the code does not ask for evidence, and when it acts
// before it has written down that it does.
func TestModelKillsMutations(t *testing.T) {
	names, err := mutate.Names("../..")
	if err != nil || len(names) == 0 {
		t.Fatalf("mutations %q: %v", names, err)
	}
	for _, name := range names {
		out := mutate.Kills(t, "../..", name, "./agent/rollout", "^TestModelContainers$")
		if !strings.Contains(out, "2 nodes are down, at most 1 may be") {
			t.Errorf("with the mutation %s the model finds nothing at the containers:\n%s", name, out)
		}
	}
}
