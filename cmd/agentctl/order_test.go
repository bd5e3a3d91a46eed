package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
)

// Whatever the lanes: every node that restarts goes in exactly one round, two of
// a lane never in the same, canaries before the others.
func TestRounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		many := rapid.IntRange(1, 20).Draw(t, "nodes")
		want := daemon(func(d *spec.Daemon) {
			d.Image, d.Update.MaxUnavailable = "docker.io/library/a:2", spec.Share(fmt.Sprint(rapid.IntRange(1, 6).Draw(t, "k")))
			d.Update.Canary = rapid.IntRange(0, 4).Draw(t, "canaries")
		})
		lanes := make([][]int, rapid.IntRange(1, 6).Draw(t, "lanes"))
		for i := 1; i <= many; i++ {
			lane := rapid.IntRange(0, len(lanes)-1).Draw(t, "lane")
			lanes[lane] = append(lanes[lane], i)
		}
		lanes = slices.DeleteFunc(lanes, func(l []int) bool { return len(l) == 0 })
		c, err := planExactly(want, have(len(lanes), lanes...), ringView{roster: members(many, nil)}, rolled(rapid.Bool().Draw(t, "finished")))
		if err != nil {
			t.Fatal(err)
		}
		lane := map[string]int{}
		for i, l := range c.next.lanes {
			for _, id := range l {
				lane[c.next.name(id)] = i
			}
		}
		var all []string
		canaries := true
		for _, r := range c.rounds() {
			if r.canary && !canaries {
				t.Fatal("a canary after others")
			}
			canaries = r.canary
			seen := map[int]bool{}
			for _, n := range r.nodes {
				if seen[lane[n]] {
					t.Fatalf("two of a lane at once: %v", r.nodes)
				}
				seen[lane[n]] = true
			}
			all = append(all, r.nodes...)
		}
		slices.Sort(all)
		restarts := slices.Sorted(slices.Values(c.restarts))
		if !slices.Equal(all, restarts) {
			t.Fatalf("%v restart, %v have a turn", restarts, all)
		}
		for _, line := range c.turns() {
			if len(line) > lineWidth-2 {
				t.Fatalf("a line of %d: %q", len(line), line)
			}
		}
	})
}

func TestRoundsText(t *testing.T) {
	r := func(canary bool, nodes ...string) round { return round{nodes, canary} }
	var many []round
	for i := range 9 {
		many = append(many, r(false, fmt.Sprint("n", i)))
	}
	for _, c := range []struct {
		rounds []round
		bake   time.Duration
		want   string
	}{
		{[]round{r(true, "a"), r(false, "b", "d"), r(false, "c")}, 0, "a (canary); then b, d; then c"},
		{[]round{r(true, "a", "b"), r(true, "c"), r(false, "d")}, 90 * time.Minute, "a, b (canaries); then c (canary); 1h30m later d"},
		{[]round{r(false, "a", "b", "c", "d", "e", "f")}, time.Hour, "a, b, c and 3 more"},
		{many[:4], 0, "n0; then n1; then n2; then n3"},
		{many, 0, "n0; then n1; then n2; then 6 more nodes, one by one"},
		{[]round{many[0], many[1], many[2], r(false, "x", "y"), r(false, "z")}, 0, "n0; then n1; then n2; then 3 more nodes in 2 rounds"},
	} {
		if got := roundsText(c.rounds, c.bake); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Second: "1m30s", 90 * time.Minute: "1h30m",
		20 * time.Second: "20s", 500 * time.Millisecond: "500ms", 10 * time.Hour: "10h"} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestRevisionToUndo(t *testing.T) {
	now := daemon(nil)
	rev := func(n int, digest string) api.Revision {
		return api.Revision{Revision: n, Digest: digest, Spec: []byte("x")}
	}
	kept := api.History{Daemon: "a", Revisions: []api.Revision{rev(5, now.Digest()), rev(4, now.Digest()), rev(3, "c"), rev(2, "b"), {Revision: 1}}}
	deleted := api.History{Daemon: "a", Revisions: append([]api.Revision{{Revision: 5, Delete: true}}, kept.Revisions...)}
	for _, c := range []struct {
		why  string
		h    api.History
		cur  current
		to   int
		want int
		err  string
	}{
		{"the newest that differs in what runs", kept, current{spec: &now}, 0, 3, ""},
		{"the one that was asked for", kept, current{spec: &now}, 2, 2, ""},
		{"even the present one", kept, current{spec: &now}, 5, 5, ""},
		{"after a delete: what was deleted", deleted, current{spec: &now, deleted: true}, 0, 5, ""},
		{"one whose body is not kept", kept, current{spec: &now}, 1, 0, "there is no revision 1"},
		{"nothing older", api.History{Revisions: kept.Revisions[:2]}, current{spec: &now}, 0, 0, "there is no older revision that differs in what runs"},
	} {
		got, err := revisionToUndo(c.h, c.cur, c.to)
		if got.Revision != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: revision %d, %v", c.why, got.Revision, err)
		}
	}
}

// A node that can't take its turn, and one for which nobody has one, are told.
func TestWarnings(t *testing.T) {
	down := func(n *api.RosterNode) { n.State = "failed" }
	want := daemon(func(d *spec.Daemon) { d.Image = "docker.io/library/a:2" })
	s := rolled(false)
	s.rollout.PausedBy = "bob"
	c, err := planExactly(want, have(1, []int{1, 2}), ringView{roster: members(2, map[string]func(*api.RosterNode){"n2": down})}, s)
	if err != nil {
		t.Fatal(err)
	}
	c.next.dropped = append(c.next.dropped, "n3", "n4", "n5")
	if got := c.warnings()[0]; !strings.HasPrefix(got, "n2, n3, n4, n5 are down and left out of the rollout; for each") {
		t.Errorf("many at once: %s", got)
	}
	c.next.dropped = c.next.dropped[:1]
	got := strings.Join(c.warnings(), "\n")
	if !strings.Contains(got, "n2 is down and left out of the rollout") || !strings.Contains(got, "daemon/a is paused by bob") {
		t.Errorf("got:\n%s", got)
	}
}
