package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/api"
)

// volume is a folder that daemons mount at /state and tests can look into.
const volume = "\n[[mounts]]\nvolume = \"state\"\ntarget = \"/state\"\n"

// file is a file of that volume, on the host.
func (w *world) file(node, name string) string {
	w.t.Helper()
	dir := filepath.Join(w.Node(node).DataDir(), "volumes", "state")
	w.must(os.MkdirAll(dir, 0o755))
	return filepath.Join(dir, name)
}

// probed is a probe that succeeds while a file of the volume is there.
func probed(kind, file string) string {
	return fmt.Sprintf("\n[health.%s]\nexec = [\"/testd\", \"--have=/state/%s\"]\ninterval = \"200ms\"\ntimeout = \"10s\"\nfailures = 2\n", kind, file)
}

// events are those of one daemon on a node, oldest first.
func (w *world) events(ctx context.Context, node, daemon string) ([]api.Event, error) {
	out, err := w.Node(node).MustCtl(ctx, "events", daemon, "-o", "json")
	if err != nil {
		return nil, err
	}
	var all []api.Event
	for line := range strings.Lines(out) {
		var e api.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("read event %q: %w", line, err)
		}
		all = append(all, e)
	}
	return all, nil
}

// happened waits until a daemon's events have one that is meant.
func (w *world) happened(node, daemon, what string, meant func(api.Event) bool) api.Event {
	w.t.Helper()
	var found api.Event
	w.eventually(fmt.Sprintf("the events of %s tell %s", daemon, what), func(ctx context.Context) error {
		all, err := w.events(ctx, node, daemon)
		if err != nil {
			return err
		}
		for _, e := range all {
			if meant(e) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("there are only %+v", all)
	})
	return found
}

// Readiness decides whether a daemon counts, and touches no container; a failed
// liveness restarts it, and status, why and the events say that it was that.
//
// conformance: C1 H1 U2
func TestStoryHealth(t *testing.T) {
	w := newRing(t, "n1")
	alive, ready := w.file("n1", "alive"), w.file("n1", "ready")
	w.must(writeFile(alive, ""))
	w.apply("n1", "web", volume+probed("liveness", "alive")+probed("readiness", "ready"))
	first := w.one("n1", "web")
	d := w.state("n1", "web", api.StateUnhealthy, nil)
	if d.Ready || !strings.Contains(d.Reason, "readiness") {
		t.Errorf("not ready is told as %+v", d)
	}
	if res := w.ctl("n1", "status", "web"); res.Code != 3 {
		t.Errorf("status of what is not ready exits %d, want 3", res.Code)
	}
	w.must(writeFile(ready, ""))
	w.ready("n1", "web", 1)
	w.must(os.Remove(ready))
	w.state("n1", "web", api.StateUnhealthy, nil)
	w.must(writeFile(ready, ""))
	w.ready("n1", "web", 1)
	if now := w.one("n1", "web"); !now.Same(first) {
		t.Errorf("readiness restarted the container: %+v, was %+v", now, first)
	}

	w.must(os.Remove(alive))
	w.eventually("liveness restarts it", func(ctx context.Context) error {
		c, err := w.Node("n1").Container(ctx, "web")
		if err == nil && (!c.Running() || c.Same(first)) {
			err = fmt.Errorf("%+v", c)
		}
		return err
	})
	w.must(writeFile(alive, ""))
	d = w.state("n1", "web", api.StateRunning, func(d api.NodeDaemon) bool { return d.Ready && d.Restarts >= 1 })
	if d.ExitCode == nil {
		t.Errorf("after the restart status has no exit code: %+v", d)
	}
	w.happened("n1", "web", "the probe that failed", func(e api.Event) bool {
		return e.Type == api.EventProbe && strings.Contains(e.Reason, "liveness")
	})
	w.happened("n1", "web", "an exit for that reason", func(e api.Event) bool {
		return e.Type == api.EventExit && strings.Contains(e.Reason, "liveness")
	})
	if out := w.ok("n1", "why", "web", "n1"); !strings.Contains(out, "1 restart") && !strings.Contains(out, "restarts") {
		t.Errorf("why tells of no restart: %s", out)
	}
}
