package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

var five = []string{"n1", "n2", "n3", "n4", "n5"}

// roll applies the next revision of web, told apart by an environment variable.
func (w *world) roll(node string, rev int, more string) {
	w.t.Helper()
	w.apply(node, "web", fmt.Sprintf("env = { REV = \"%d\" }\n%s", rev, more))
}

// rollout is what a node tells of web's rollout.
func (w *world) rollout(ctx context.Context, node string) (api.Rollout, error) {
	res, err := w.Node(node).Ctl(ctx, "rollout", "status", "web", "-o", "json")
	if err != nil {
		return api.Rollout{}, err
	}
	var r api.Rollout
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil {
		return r, fmt.Errorf("%w: %s", err, res.Output())
	}
	return r, nil
}

// state waits until status tells that web is in a state, on each of the nodes.
func (w *world) settled(state string, nodes ...string) {
	w.t.Helper()
	for _, n := range nodes {
		w.eventually("web is "+state+" on "+n, func(ctx context.Context) error {
			st, err := w.Node(n).Status(ctx)
			if err != nil {
				return err
			}
			for _, d := range st.Daemons {
				if d.Name == "web" && d.State == state {
					return nil
				}
			}
			return fmt.Errorf("%+v", st.Daemons)
		})
	}
}

// started tells in which order, and how far apart, the nodes' containers came
// up, by the kernel's clock.
func started(all map[string]lab.Container) (order []string, gaps []time.Duration) {
	for n := range all {
		order = append(order, n)
	}
	slices.SortFunc(order, func(a, b string) int { return int(int64(all[a].Start) - int64(all[b].Start)) })
	for i := 1; i < len(order); i++ {
		ticks := all[order[i]].Start - all[order[i-1]].Start
		gaps = append(gaps, time.Duration(ticks)*10*time.Millisecond)
	}
	return order, gaps
}

// A new revision goes node after node, each only after the one before was ready
// for min_ready; applying the same file meanwhile changes nothing, and what is
// outside the digest restarts nothing.
//
// conformance: D1 D4
func TestRollout(t *testing.T) {
	w := newRing(t, five...)
	const update = "[update]\nmin_ready = \"500ms\""
	w.roll("n1", 1, update)
	one := w.everywhere("web", five...)
	w.settled(api.DaemonOK, "n1")
	w.roll("n1", 2, update)
	w.eventually("the rollout is under way", func(ctx context.Context) error {
		r, err := w.rollout(ctx, "n2")
		if err == nil && (r.Done < 1 || r.Finished) {
			err = fmt.Errorf("%+v", r)
		}
		return err
	})
	if out := w.ok("n3", "apply", "-f", filepath.Join(w.Dir, "web.toml")); !strings.Contains(out, "unchanged") {
		t.Errorf("the same file in mid-rollout: %q, want unchanged", out)
	}
	w.settled(api.DaemonOK, five...)
	two := w.everywhere("web", five...)
	order, gaps := started(two)
	for i, gap := range gaps {
		if gap < 500*time.Millisecond {
			t.Errorf("%s was changed %s after %s: before that one was ready for min_ready", order[i+1], gap, order[i])
		}
	}
	for n, c := range two {
		if c.Same(one[n]) {
			t.Errorf("%s still runs the old revision", n)
		}
	}

	// Two at once now; the budget alone restarts nothing.
	w.roll("n2", 2, "[update]\nmax_unavailable = \"2\"\nmin_ready = \"500ms\"")
	w.settled(api.DaemonOK, five...)
	w.untouched("web", two, five...)
	w.roll("n2", 3, "[update]\nmax_unavailable = \"2\"\nmin_ready = \"500ms\"")
	w.settled(api.DaemonRolling, "n1")
	w.settled(api.DaemonOK, five...)
	three := w.everywhere("web", five...)
	order, _ = started(three)
	for i := 2; i < len(order); i++ {
		if gap := time.Duration(three[order[i]].Start-three[order[i-2]].Start) * 10 * time.Millisecond; gap < 500*time.Millisecond {
			t.Errorf("three of %q were changed within %s, two are allowed", order[i-2:i+1], gap)
		}
	}
}

// An image that is nowhere stops the rollout at the first node, where the old
// container runs on; a fixed revision goes through.
//
// conformance: U6 D6
func TestRolloutBadImage(t *testing.T) {
	w := newRing(t, five...)
	w.roll("n1", 1, "")
	one := w.everywhere("web", five...)
	w.settled(api.DaemonOK, "n1")
	path := w.write("web.toml", "name = \"web\"\nimage = \"example.test/not/there:1\"\npull = \"never\"\n[update]\ndeadline = \"2s\"\n")
	w.ok("n1", "apply", "-f", path)
	w.settled(api.DaemonPaused, "n1", "n4")
	w.untouched("web", one, five...)
	if res := w.ctl("n2", "status", "web"); !strings.Contains(res.Stdout, "not/there") {
		t.Errorf("status does not name the image:\n%s", res.Stdout)
	}
	w.roll("n3", 2, "[update]\ndeadline = \"2s\"")
	w.settled(api.DaemonOK, five...)
	w.everywhere("web", five...)
}

// A revision that crashes is taken back by itself, on the nodes that have it
// and on no other.
//
// conformance: D2 D6
func TestRolloutCrashLoop(t *testing.T) {
	w := newRing(t, five...)
	const back = "[update]\non_failure = \"rollback\"\ndeadline = \"2s\""
	w.roll("n1", 1, back)
	one := w.everywhere("web", five...)
	w.settled(api.DaemonOK, five...)
	w.roll("n1", 2, "args = [\"--exit-after=50ms\", \"--exit-code=3\"]\n"+back)
	w.settled(api.DaemonRolledBack, five...)
	now := w.everywhere("web", five...)
	changed := 0
	for n, c := range now {
		if !c.Same(one[n]) {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("%d nodes were touched, want the one that failed", changed)
	}
	r, err := w.rollout(w.ctx, "n5")
	w.must(err)
	if !r.RolledBack || len(r.Failures) != 1 || r.FallbackRevision != 1 {
		t.Errorf("%+v", r)
	}
	if out := w.ok("n4", "rollout", "history", "web"); !strings.Contains(out, "rolled-back") {
		t.Errorf("history does not tell of it:\n%s", out)
	}
	w.roll("n2", 3, back)
	w.settled(api.DaemonOK, five...)
}

// A revision that never gets ready holds the rollout; resume goes on all the
// same, undo goes back.
func TestRolloutNeverReady(t *testing.T) {
	w := newRing(t, five...)
	w.roll("n1", 1, "")
	one := w.everywhere("web", five...)
	w.settled(api.DaemonOK, five...)
	const never = "[health.readiness]\nexec = [\"/bin/testd\", \"--have=/nowhere\"]\ninterval = \"200ms\"\n[update]\ndeadline = \"2s\"\n"
	w.roll("n1", 2, never)
	w.settled(api.DaemonPaused, "n1", "n5")
	r, err := w.rollout(w.ctx, "n1")
	w.must(err)
	if len(r.Failures) != 1 || r.Done != 0 {
		t.Fatalf("%+v", r)
	}
	bad := r.Failures[0]
	others := slices.DeleteFunc(slices.Clone(five), func(n string) bool { return n == bad })
	w.untouched("web", one, others...)
	w.ok("n2", "rollout", "undo", "web", "--yes")
	w.settled(api.DaemonOK, five...)
	w.untouched("web", one, others...)
	w.one(bad, "web")
}

// A node that is down before the apply holds nobody back. One that goes down
// after it started the revision holds the others back while it is away, and an
// operator's skip goes on without it. What comes back is brought along.
//
// conformance: U1 A3
func TestRolloutDeadNode(t *testing.T) {
	w := newRing(t, five...)
	const slow = "[update]\nmin_ready = \"2s\""
	w.roll("n1", 1, slow)
	w.everywhere("web", five...)
	w.settled(api.DaemonOK, five...)
	away := func(n string) {
		w.must(w.Net.Unplug(w.ctx, n))
		w.must(w.Node(n).KillAgent())
		w.eventually(n+" is failed", func(ctx context.Context) error {
			st, err := w.Node("n1").Status(ctx)
			if err == nil && st.Ring.Nodes.Failed == 0 {
				err = fmt.Errorf("%+v", st.Ring)
			}
			return err
		})
	}
	away("n5")
	rest := five[:4]
	w.roll("n1", 2, "")
	w.eventually("four are done", func(ctx context.Context) error {
		r, err := w.rollout(ctx, "n1")
		if err == nil && (r.Done != 4 || !r.Finished) {
			err = fmt.Errorf("%+v", r)
		}
		return err
	})
	two := w.everywhere("web", rest...)
	w.must(w.Net.Replug(w.ctx, "n5"))
	w.must(w.Node("n5").StartAgent(w.ctx))
	w.settled(api.DaemonOK, five...)
	w.untouched("web", two, rest...)

	// The first to change goes down with it.
	w.roll("n1", 3, slow)
	var first string
	w.eventually("somebody changes", func(ctx context.Context) error {
		r, err := w.rollout(ctx, "n1")
		for _, n := range r.Nodes {
			if n.State == api.TurnUpdating && n.Node != "n1" {
				first = n.Node
				return nil
			}
			if n.State == api.TurnUpdating || n.State == api.TurnDone {
				continue // n1 is asked; another one has to go
			}
		}
		return fmt.Errorf("%w: %+v", err, r)
	})
	away(first)
	w.settled(api.DaemonDegraded, "n1")
	// The others say so themselves, each when it has seen that the node is away.
	w.eventually("why names "+first+" and the way out", func(context.Context) error {
		out := w.ctl("n1", "why", "web").Stdout
		if !strings.Contains(out, first) || !strings.Contains(out, "rollout skip web "+first) {
			return fmt.Errorf("it tells:\n%s", out)
		}
		return nil
	})
	w.ok("n1", "rollout", "skip", "web", first, "--yes")
	w.eventually("the others are done", func(ctx context.Context) error {
		r, err := w.rollout(ctx, "n1")
		if err == nil && r.Done != 4 {
			err = fmt.Errorf("%+v", r)
		}
		return err
	})
	w.must(w.Net.Replug(w.ctx, first))
	w.must(w.Node(first).StartAgent(w.ctx))
	w.settled(api.DaemonOK, five...)
	w.everywhere("web", five...)
}

// A machine whose own policy keeps the daemon off holds nobody back.
func TestRolloutDenied(t *testing.T) {
	w := newWorld(t)
	names := five[:3]
	for _, name := range names {
		n, err := w.AddNode(w.ctx, name)
		w.must(err)
		if name == "n2" {
			n.Extra = "[policy]\nimages = [\"example.test/**\"]\n"
		}
		w.must(w.Enter(w.ctx, n))
	}
	w.must(w.Agree(w.ctx, settle))
	const quick = "[update]\ndeadline = \"2s\""
	w.roll("n1", 1, quick)
	one := w.everywhere("web", "n1", "n3")
	w.roll("n1", 2, quick)
	w.eventually("all are done", func(ctx context.Context) error {
		r, err := w.rollout(ctx, "n3")
		if err == nil && (!r.Finished || r.Revision != 2) {
			err = fmt.Errorf("%+v", r)
		}
		return err
	})
	two := w.everywhere("web", "n1", "n3")
	for n := range two {
		if two[n].Same(one[n]) {
			t.Errorf("%s still runs the old revision", n)
		}
	}
	w.none("n2", "web")
	if out := w.ctl("n2", "why", "web", "n2").Stdout; !strings.Contains(out, "policy") {
		t.Errorf("why does not tell of the policy:\n%s", out)
	}
}
