package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd/agentd/api"
)

// nodeDaemon is what a node's own status says of a daemon there.
func (w *world) nodeDaemon(ctx context.Context, node, daemon string) (api.NodeDaemon, error) {
	st, err := w.Node(node).Status(ctx)
	if err != nil {
		return api.NodeDaemon{}, err
	}
	for _, d := range st.Daemons {
		i := slices.IndexFunc(d.Nodes, func(n api.NodeDaemon) bool { return n.Node == node })
		if d.Name == daemon && i >= 0 {
			return d.Nodes[i], nil
		}
	}
	return api.NodeDaemon{}, fmt.Errorf("status on %s tells nothing of %s", node, daemon)
}

// A record that went bad on disk is put aside and comes back from the ring;
// absence never means delete, not even with every record gone.
//
// conformance: F4
func TestCorruptState(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	w.apply("n1", "side", "")
	web, side := w.everywhere("web", "n1", "n2"), w.everywhere("side", "n1", "n2")
	w.ready("n2", "side", 2)
	n2 := w.Node("n2")

	damage := map[string]func(path string) error{
		"flipped": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 0x40
			return os.WriteFile(path, b, 0o640)
		},
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"removed": os.Remove,
	}
	for _, how := range []string{"flipped", "emptied", "removed"} {
		w.must(n2.KillAgent())
		files, err := filepath.Glob(filepath.Join(n2.DataDir(), "records", "*.rec"))
		w.must(err)
		if len(files) < 2 {
			t.Fatalf("records on n2: %q, want two or more", files)
		}
		for _, f := range files {
			w.must(damage[how](f))
		}
		w.must(n2.StartAgent(w.ctx))
		w.must(w.Agree(w.ctx, settle))
		w.ready("n2", "web", 2)
		w.ready("n1", "side", 2)
		w.untouched("web", web, "n1", "n2")
		w.untouched("side", side, "n1", "n2")
	}
}

// A container that keeps ending is started at once the first time and then
// backs off; status tells the exit code, and the others go on.
//
// conformance: C1 C2 U2
func TestCrashLoop(t *testing.T) {
	w := newRing(t, "n1")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1")
	w.apply("n1", "crash", `args = ["--exit-after=10ms", "--exit-code=3"]
[restart]
backoff = "20s"
backoff_max = "20s"`)
	w.eventually("crash backs off", func(ctx context.Context) error {
		d, err := w.nodeDaemon(ctx, "n1", "crash")
		if err != nil {
			return err
		}
		if d.State != api.StateBackoff || d.Restarts < 1 || d.ExitCode == nil || *d.ExitCode != 3 || !strings.Contains(d.Reason, "3") {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	if res := w.ctl("n1", "status", "crash"); res.Code != 3 {
		t.Errorf("status crash exits %d, want 3: not ready everywhere", res.Code)
	}
	w.untouched("web", seen, "n1")
	// A changed spec is tried at once: it is another thing.
	w.apply("n1", "crash", "")
	w.one("n1", "crash")
	w.ready("n1", "crash", 1)

	// never: what ended by itself stays ended, over a re-apply of the same, too.
	// conformance: C3
	w.apply("n1", "once", "args = [\"--exit-after=10ms\", \"--exit-code=0\"]\n[restart]\npolicy = \"never\"")
	ended := func(ctx context.Context) error {
		d, err := w.nodeDaemon(ctx, "n1", "once")
		if err == nil && (d.ExitCode == nil || *d.ExitCode != 0 || d.Restarts != 0 || d.State == api.StateRunning) {
			err = fmt.Errorf("%+v", d)
		}
		return err
	}
	w.eventually("once ends", ended)
	w.ok("n1", "apply", "-f", w.Dir+"/once.toml")
	w.must(w.Node("n1").KillAgent())
	w.must(w.Node("n1").StartAgent(w.ctx))
	w.eventually("once stays ended", ended)
}

// A limit of memory ends in a kill that is told as such.
//
// conformance: C6
func TestOutOfMemory(t *testing.T) {
	w := newRing(t, "n1")
	w.apply("n1", "hungry", `args = ["--eat-memory=200"]
[resources]
memory = "20MiB"
[restart]
policy = "never"`)
	w.eventually("hungry is killed", func(ctx context.Context) error {
		d, err := w.nodeDaemon(ctx, "n1", "hungry")
		if err == nil && (!d.OOM || d.ExitCode == nil || *d.ExitCode != 128+int(syscall.SIGKILL)) {
			err = fmt.Errorf("%+v", d)
		}
		return err
	})
}

// An image that is not there is retried with a reason, stops nothing that runs,
// and works as soon as it is there.
//
// conformance: C5 U6
func TestMissingImage(t *testing.T) {
	w := newRing(t, "n1")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1")
	bad := strings.Replace(daemon("web", ""), "testd:1", "testd:404", 1)
	w.ok("n1", "apply", "-f", w.write("bad.toml", bad))
	w.eventually("status tells of the image", func(ctx context.Context) error {
		d, err := w.nodeDaemon(ctx, "n1", "web")
		if err == nil && !strings.Contains(d.Reason, "testd:404") {
			err = fmt.Errorf("%+v", d)
		}
		return err
	})
	w.untouched("web", seen, "n1") // the old one runs until the new image is here
	n1 := w.Node("n1")
	_, err := n1.Containerd.Ctr(w.ctx, n1.Namespace, "images", "tag", "agentd.test/testd:2", "agentd.test/testd:404")
	w.must(err)
	w.eventually("the new image runs", func(ctx context.Context) error {
		c, err := n1.Container(ctx, "web")
		if err == nil && (!c.Running() || c.Same(seen["n1"])) {
			err = errors.New("still the old one")
		}
		return err
	})
	w.one("n1", "web")
}
