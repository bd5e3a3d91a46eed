package machines

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

// versionOld is what older.sh builds.
const versionOld = "0.0.9"

// older is a folder with the packages of an older build.
func (r ring) older() string {
	r.Helper()
	root, err := lab.Root()
	r.must(err)
	script := filepath.Join(root, "e2e", "machines", "older.sh")
	if out, err := exec.CommandContext(r.ctx, script, "-check").CombinedOutput(); err != nil {
		r.Skipf("no older build to compare with: %s", out)
	}
	dir, err := Cached(r.ctx, "older", []string{script}, script)
	r.must(err)
	return dir
}

// A ring of an older build is upgraded machine by machine, and one of them goes
// back: containers stay, each version runs what the other wrote, and nothing on
// disk goes only one way.
//
// conformance: F1 F4
func TestOlderBuild(t *testing.T) {
	r := newWorld(t)
	old := r.older()
	now, err := Packages(r.ctx, versionA)
	r.must(err)
	names := []string{"n1", "n2", "n3"}
	for _, name := range names {
		m, err := r.Add(r.ctx, name)
		r.must(err)
		_, err = m.Install(r.ctx, old)
		r.must(err)
		r.images(m)
	}
	r.form(names...)
	seen := r.everywhere(exporter, names...)
	n1 := r.Machine("n1")
	change := func(name, dir, version string) {
		r.Helper()
		pid := r.agent(r.Machine(name), "")
		_, err := r.Machine(name).Install(r.ctx, dir)
		r.must(err)
		r.agent(r.Machine(name), pid)
		r.version(r.Machine(name), version)
		r.agree(names...)
		r.same(seen, names...)
	}

	change("n2", now, versionA)
	r.must(n1.Apply(r.ctx, testd("by-old", "")))
	r.everywhere("by-old", names...)

	change("n1", now, versionA)
	// Written by this version, with a key that the older one does not know.
	r.must(n1.Apply(r.ctx, testd("by-new", "[update]\nmax_unavailable = \"2\"\n")))
	r.everywhere("by-new", "n1", "n2")
	r.agree(names...)
	r.eventually("n3 runs it or tells why not", func(ctx context.Context) error {
		st, err := r.Machine("n3").Status(ctx)
		if err != nil {
			return err
		}
		for _, d := range st.Daemons {
			for _, n := range d.Nodes {
				if d.Name == "by-new" && n.Node == "n3" && (n.Ready || n.Reason != "") {
					t.Logf("by-new on the older n3 is %s: %s", n.State, n.Reason)
					return nil
				}
			}
		}
		if len(st.Ring.Notes) > 0 {
			t.Logf("the older n3 notes %q", st.Ring.Notes)
			return nil
		}
		return fmt.Errorf("%+v", st)
	})
	// The older build knows nothing of turns and says nothing of its own: others
	// may have to wait for it, until it is upgraded.
	r.must(n1.Apply(r.ctx, testd("by-old", `env = { ROUND = "2" }`)))

	change("n3", now, versionA)
	r.everywhere("by-new", names...)
	for _, name := range names {
		r.daemon(r.Machine(name), "by-old", func(n api.NodeDaemon) bool { return n.Ready && n.Revision == 2 })
	}

	// Back, on a machine that by now has written everything anew.
	change("n2", old, versionOld)
	r.one(r.Machine("n2"), "by-old")
	if aside, _ := filepath.Glob(r.Machine("n2").Path("/var/lib/agentd/records/corrupt/*")); len(aside) > 0 {
		t.Errorf("the older build put aside %q", aside)
	}
	if _, err := os.Stat(r.Machine("n2").Path("/var/lib/agentd/node.key")); err != nil {
		t.Errorf("the node's key is gone: %v", err)
	}
}
