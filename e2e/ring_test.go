package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// settle is how long anything may take that has to happen by itself; nearly
// everything takes less than a second.
const settle = 40 * time.Second

// program is what the test images run.
const program = "testd"

// archive is the test images' archive, built once, in a folder of TestMain.
var (
	archiveDir string
	archive    = sync.OnceValues(func() (string, error) {
		path := filepath.Join(archiveDir, "testd.tar")
		_, err := lab.TestImage(context.Background(), path)
		return path, err
	})
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if archiveDir, err = os.MkdirTemp("", "agt"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(archiveDir)
		return m.Run()
	}())
}

// world is a lab in a test: what does not work fails the test.
type world struct {
	*lab.Lab
	t   *testing.T
	ctx context.Context
}

// newWorld makes a lab without nodes. Its tests run side by side: most of
// their time is waiting.
func newWorld(t *testing.T) *world {
	t.Helper()
	lab.Require(t, "root", "containerd", "netns", "nft", "bin")
	t.Parallel()
	images, err := archive()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	l, err := lab.New(ctx, lab.Config{Archives: []string{images}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			for _, n := range l.Nodes {
				if n.Agent != nil {
					t.Logf("agentd's log on %s ends:\n%s", n.Name, n.Agent.Tail())
				}
			}
		}
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
		after, err := lab.TakeSnapshot()
		if err != nil {
			t.Error(err)
		}
		if left := after.Only(l.ID); len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
	})
	return &world{Lab: l, t: t, ctx: ctx}
}

// newRing makes a ring of these nodes that agree on each other.
func newRing(t *testing.T, names ...string) *world {
	t.Helper()
	w := newWorld(t)
	w.must(w.Ring(w.ctx, "", names...))
	w.must(w.Agree(w.ctx, settle))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// pause waits: for what must not happen meanwhile.
func (w *world) pause(d time.Duration) {
	w.t.Helper()
	w.must(lab.Pause(w.ctx, d))
}

// eventually waits for cond.
func (w *world) eventually(what string, cond func(ctx context.Context) error) {
	w.t.Helper()
	if err := lab.Within(w.ctx, settle, cond); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// ctl runs agentctl on a node.
func (w *world) ctl(node string, args ...string) lab.Result {
	w.t.Helper()
	res, err := w.Node(node).Ctl(w.ctx, args...)
	w.must(err)
	return res
}

// ok is ctl that has to exit 0; it returns stdout.
func (w *world) ok(node string, args ...string) string {
	w.t.Helper()
	res := w.ctl(node, args...)
	if res.Code != 0 {
		w.t.Fatalf("agentctl %s on %s: exit %d: %s", strings.Join(args, " "), node, res.Code, res.Output())
	}
	return res.Stdout
}

// refused is ctl that has to fail with this exit code and all these words.
func (w *world) refused(code int, node string, args []string, words ...string) {
	w.t.Helper()
	checkRefused(w.t, w.ctl(node, args...), code, words...)
}

// checkRefused wants a clear error: the exit code, and all the words on stderr.
func checkRefused(t *testing.T, res lab.Result, code int, words ...string) {
	t.Helper()
	if res.Code != code {
		t.Errorf("%q: exit %d, want %d: %s", res.Args[1:], res.Code, code, res.Output())
	}
	for _, word := range words {
		if !strings.Contains(strings.ToLower(res.Stderr), strings.ToLower(word)) {
			t.Errorf("%q: stderr lacks %q:\n%s", res.Args[1:], word, res.Stderr)
		}
	}
}

// write puts a daemon's file into the lab and returns its path.
func (w *world) write(name, toml string) string {
	w.t.Helper()
	path := filepath.Join(w.Dir, name)
	w.must(os.WriteFile(path, []byte(toml), 0o644))
	return path
}

// daemon is the file of a daemon that runs the test image, with more TOML.
func daemon(name, more string) string {
	return fmt.Sprintf("name = %q\nimage = %q\npull = \"never\"\n%s\n[stop]\ngrace = \"5s\"\n", name, lab.TestImageRef, more)
}

// apply applies a daemon of the test image from a node.
func (w *world) apply(node, name, more string) {
	w.t.Helper()
	w.ok(node, "apply", "-f", w.write(name+".toml", daemon(name, more)))
}

// one waits until a node runs a daemon exactly once, by containerd's word, and
// has no process that containerd does not know of.
func (w *world) one(node, daemon string) lab.Container {
	w.t.Helper()
	var found lab.Container
	w.eventually(daemon+" on "+node, func(ctx context.Context) error {
		c, err := w.Node(node).Container(ctx, daemon)
		if err != nil {
			return err
		}
		if !c.Running() {
			return fmt.Errorf("containerd tells %+v", c)
		}
		found = c
		return w.counted(ctx, node)
	})
	return found
}

// counted compares containers with processes.
func (w *world) counted(ctx context.Context, node string) error {
	all, err := w.Node(node).Containers(ctx)
	if err != nil {
		return err
	}
	running := 0
	for _, c := range all {
		if c.Running() {
			running++
		}
	}
	processes, err := w.Node(node).Programs(program)
	if err != nil {
		return err
	}
	if processes != running {
		return fmt.Errorf("%s has %d processes and %d running containers", node, processes, running)
	}
	return nil
}

// everywhere is one on each node.
func (w *world) everywhere(daemon string, nodes ...string) map[string]lab.Container {
	w.t.Helper()
	all := map[string]lab.Container{}
	for _, n := range nodes {
		all[n] = w.one(n, daemon)
	}
	return all
}

// none waits until containerd of the node has no container of that daemon.
func (w *world) none(node, daemon string) {
	w.t.Helper()
	w.eventually("no "+daemon+" on "+node, func(ctx context.Context) error {
		all, err := w.Node(node).Containers(ctx)
		if err != nil {
			return err
		}
		for _, c := range all {
			if c.ID == daemon {
				return fmt.Errorf("containerd tells %+v", c)
			}
		}
		return w.counted(ctx, node)
	})
}

// untouched makes sure that the very same processes still run.
func (w *world) untouched(daemon string, seen map[string]lab.Container, nodes ...string) {
	w.t.Helper()
	for _, n := range nodes {
		c, err := w.Node(n).Container(w.ctx, daemon)
		w.must(err)
		if !c.Same(seen[n]) {
			w.t.Errorf("%s on %s: process %d, was %d: it should not have been touched", daemon, n, c.PID, seen[n].PID)
		}
	}
}

// ready waits until a node's status counts so many ready nodes of a daemon.
func (w *world) ready(node, daemon string, want int) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("status on %s", node), func(ctx context.Context) error {
		st, err := w.Node(node).Status(ctx, "--all")
		if err != nil {
			return err
		}
		for _, d := range st.Daemons {
			if d.Name == daemon && d.Ready == want && d.Desired == want {
				return nil
			}
		}
		return fmt.Errorf("want %d of %s ready: %+v", want, daemon, st.Daemons)
	})
}
