package chaos

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

var (
	faults = flag.Int("chaos.faults", 80, "how many faults TestChaos strikes with")
	seed   = flag.Uint64("chaos.seed", 0, "seed of TestChaos's schedule; 0: a new one")
	server = flag.String("chaos.server", "", "containerd to use: \"\" the system's, \"newest\" the one that e2e/newest builds, else a path")
)

// Whatever is killed or cut off at whatever moment: never two of a daemon, all
// there soon after the last fault, nothing left behind, and what belongs to
// somebody else is left alone.
//
// conformance: A1 A5 C1 E4 E6 F1 F2 F3
func TestChaos(t *testing.T) {
	lab.Require(t, "root", "containerd")
	cfg := Config{Dir: lab.TestDir(t), Seed: *seed, Faults: *faults, Log: t.Logf, Containerd: containerd(t, *server)}
	if cfg.Seed == 0 {
		cfg.Seed = uint64(time.Now().UnixNano())
	}
	replay := fmt.Sprintf("make chaos SEED=%d FAULTS=%d SERVER=%s", cfg.Seed, cfg.Faults, *server)
	t.Logf("seed %d; the same schedule again: %s", cfg.Seed, replay)
	res, err := Run(t.Context(), cfg)
	if err != nil {
		t.Errorf("the test itself: %v", err)
	}
	for _, f := range res.Failures {
		t.Error(f)
	}
	t.Logf("%d faults struck, of %d scheduled: %v; calls cut: %v", res.Total, res.Scheduled, res.Struck, res.Cuts)
	slices.SortFunc(res.Calms, func(a, b Calm) int { return cmp.Compare(a.Took, b.Took) })
	if n := len(res.Calms); n > 0 {
		longest := res.Calms[n-1]
		t.Logf("converged %d times: after %v (median), %v (longest, %v allowed where a bare start takes %v)", n,
			res.Calms[n/2].Took.Round(time.Millisecond), longest.Took.Round(time.Millisecond),
			longest.Bound().Round(time.Millisecond), longest.Floor.Round(time.Millisecond))
	}
	t.Logf("looked into /proc %d times, at most %v apart", res.Looks, res.Gap)
	if t.Failed() {
		t.Logf("replay with: %s", replay)
	} else if res.Total < cfg.Faults {
		t.Errorf("%d faults struck, not %d: the test tested too little", res.Total, cfg.Faults)
	}
}

// containerd is the path of the server that a run shall be against.
func containerd(t *testing.T, which string) string {
	if which != "newest" {
		return which
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../newest/build.sh")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build the newest containerd: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "containerd")
}
