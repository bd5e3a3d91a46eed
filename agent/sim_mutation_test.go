package agent

import (
	"strings"
	"testing"

	"github.com/agentd/agentd/e2e/mutate"
)

// The simulation notices, at the containers, when the code does not ask for
// evidence, and when it acts before it has written down that it does.
func TestSimulationKillsMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the agent anew for each mutation")
	}
	names, err := mutate.Names("..")
	if err != nil || len(names) == 0 {
		t.Fatalf("mutations %q: %v", names, err)
	}
	for _, name := range names {
		out := mutate.Kills(t, "..", name, "./agent", "^TestDeadlyStorm$")
		if !strings.Contains(out, "nodes are down for updates, allowed are") {
			t.Errorf("with the mutation %s the simulation finds nothing at the containers:\n%s", name, out)
		}
	}
}
