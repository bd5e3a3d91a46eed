package agent

import (
	"fmt"
	"time"

	"github.com/agentd/agentd/gossip/sim"
	"github.com/agentd/agentd/spec"
)

// lan is an ordinary network.
var simLAN = sim.Config{Latency: 2 * time.Millisecond, Loss: 0.01}

// define says how a revision behaves and returns its image.
func (w *world) define(n int, i image) string {
	ref := fmt.Sprintf("sim.test/web:%d", n)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images[ref] = i
	return ref
}

// readyAfter is how long after its start an image is ready on a node; negative:
// never.
func (w *world) readyAfter(ref, node string) time.Duration {
	crashes, unready, missing := w.behaves(ref, node)
	warm := w.warm(ref, node)
	if unready || missing || crashes && warm >= w.image(ref).crashing {
		return -1
	}
	return warm
}

// settled says which machine with an agent does not run what is wanted yet.
func (w *world) settled(want signed) func() string {
	return func() string {
		left, some := 0, ""
		for _, m := range w.running() {
			if m.left {
				continue
			}
			of, ready, ok := w.by.runs(m)
			if ok && ready && of.digest == want.digest {
				continue
			}
			if left++; left <= 3 {
				some += fmt.Sprintf("; %s runs generation %d (ready %t): %s", m.name, of.version.Generation, ready, m.why())
			}
		}
		if left == 0 {
			return ""
		}
		return fmt.Sprintf("%d nodes are not there%s", left, some)
	}
}

// why is the agent's own word on where it stands.
func (m *machine) why() string {
	if m.agent == nil {
		return "no agent"
	}
	for _, r := range m.agent.super.Reports() {
		if r.Name == simDaemon {
			return r.State + ": " + r.Reason
		}
	}
	return "nothing reported"
}

func (m *machine) id() string { return m.agent.turns.keeper.ID().String()[:8] }

func rolling(k int, minReady time.Duration) spec.Update {
	return spec.Update{
		MaxUnavailable: spec.Share(fmt.Sprint(k)), MinReady: spec.Duration(minReady),
		Deadline: spec.Duration(time.Minute), MaxFailures: 1,
	}
}
