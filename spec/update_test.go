package spec_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/strict"
)

func TestParseUpdate(t *testing.T) {
	got := parseOne(t, `
name = "x"
image = "x"
[update]
strategy = "rolling"
max_unavailable = "25%"
surge = true
min_ready = "10s"
deadline = "5m"
canary_selector = { canary = "yes" }
bake = "1h"
on_failure = "rollback"
max_failures = 3
`).Update
	want := spec.Update{Strategy: spec.StrategyRolling, MaxUnavailable: "25%", Surge: true,
		MinReady: spec.Duration(10 * time.Second), Deadline: spec.Duration(5 * time.Minute),
		CanarySelector: map[string]string{"canary": "yes"}, Bake: spec.Duration(time.Hour),
		OnFailure: spec.OnFailureRollback, MaxFailures: 3}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got := parseOne(t, "name = 'x'\nimage = 'x'\nupdate.max_unavailable = 7\nupdate.canary = 2").Update; got.MaxUnavailable != "7" || got.Canary != 2 {
		t.Errorf("a bare number: %+v", got)
	}
}

func TestParseRefusesUpdate(t *testing.T) {
	const head = "name = 'x'\nimage = 'x'\n[update]\n"
	tests := []struct{ name, src, want string }{
		{"everything at once", "strategy = 'roling'\nmax_unavailable = '0'\nmin_ready = '-1s'\ndeadline = '0s'\ncanary = 257\nbake = '721h'\non_failure = 'abort'\nmax_failures = 0\nsurges = true",
			`x.toml:4: update.strategy: "roling" is not "rolling", "all-at-once" or "on-delete" (did you mean "rolling"?)` + "\n" +
				`x.toml:5: update.max_unavailable: "0" would let no node ever be updated (nothing is updated by itself with strategy = "on-delete")` + "\n" +
				"x.toml:6: update.min_ready: -1s is not between 0s and 720h\nx.toml:7: update.deadline: 0s is not between 100ms and 720h\n" +
				"x.toml:8: update.canary: 257 is not between 1 and 256, or 0 for none\nx.toml:9: update.bake: 721h is not between 0s and 720h\n" +
				"x.toml:10: update.on_failure: \"abort\" is not \"pause\" or \"rollback\"\nx.toml:11: update.max_failures: 0 is not between 1 and 100000\n" +
				"x.toml:12: update.surges: unknown key (did you mean surge?)"},
		{"a share of nothing", "max_unavailable = '0%'", `x.toml:4: update.max_unavailable: "0%" would let no node ever be updated (nothing is updated by itself with strategy = "on-delete")`},
		{"a share of more than all", "max_unavailable = '101%'", `x.toml:4: update.max_unavailable: "101%" is more than all nodes ("100%" is all of them)`},
		{"a part of a percent", "max_unavailable = '2.5%'", `x.toml:4: update.max_unavailable: "2.5%" is neither a number of nodes nor a percentage (a whole number, such as "2" or "25%")`},
		{"a share with a space", "max_unavailable = '25 %'", `x.toml:4: update.max_unavailable: "25 %" is neither a number of nodes nor a percentage (a whole number, such as "2" or "25%")`},
		{"a share in two ways of writing", "max_unavailable = '+1'", `x.toml:4: update.max_unavailable: "+1" is neither a number of nodes nor a percentage (a whole number, such as "2" or "25%")`},
		{"a negative share", "max_unavailable = -1", `x.toml:4: update.max_unavailable: "-1" is negative`},
		{"a share that is too large", "max_unavailable = 100001", `x.toml:4: update.max_unavailable: 100001 is more than 100000`},
		{"a share that is no number", "max_unavailable = 0.25", `x.toml:4: update.max_unavailable: needs a number of nodes, or a percentage such as "25%"`},
		{"canaries in two ways", "canary = 1\ncanary_selector = { a = 'b' }", `x.toml:5: update.canary_selector: and canary exclude each other (either say how many nodes go first, or which)`},
		{"canaries that match everything", "canary_selector = {}", `x.toml:4: update.canary_selector: is empty (leave it out to have no canaries)`},
		{"canaries by what is no label", "canary_selector = { 'a b' = 'c d' }\nbake = '1s'", "x.toml:4: update.canary_selector.\"a b\": \"a b\" is not a label (such as \"role\" or \"example.org/role\")\n" +
			`x.toml:4: update.canary_selector."a b": "c d" is not the value of a label (at most 63 letters, digits, - _ and .)`},
		{"canaries by an expression", "canary_selector = { role = '{{ node.name }}' }", `x.toml:4: update.canary_selector.role: is the same on every node and takes no {{ … }}`},
		{"bake without canaries", "bake = '1m'", `x.toml:4: update.bake: has no meaning without canaries (say with canary or canary_selector which nodes go first, or use min_ready)`},
		{"canaries all at once", "strategy = 'all-at-once'\ncanary = 1\nbake = '1m'\nmax_unavailable = 2",
			`x.toml:5: update.canary: has no meaning with strategy = "all-at-once" (some nodes go first with strategy = "rolling" only)` + "\n" +
				`x.toml:6: update.bake: has no meaning with strategy = "all-at-once" (some nodes go first with strategy = "rolling" only)` + "\n" +
				`x.toml:7: update.max_unavailable: has no meaning with strategy = "all-at-once"`},
		{"what needs agentd to begin", "strategy = 'on-delete'\ncanary_selector = { a = 'b' }\nsurge = true\non_failure = 'rollback'",
			`x.toml:5: update.canary_selector: has no meaning with strategy = "on-delete" (some nodes go first with strategy = "rolling" only)` + "\n" +
				`x.toml:6: update.surge: has no meaning with strategy = "on-delete" (the old container is stopped first there)` + "\n" +
				`x.toml:7: update.on_failure: "rollback" has no meaning with strategy = "on-delete" (no node goes back by itself either)`},
		{"other systems' words", "maxUnavailable = 1\norder = 'start-first'\nfailure_action = 'pause'\nauto_revert = true",
			"x.toml:4: update.maxUnavailable: unknown key (here it is called max_unavailable)\nx.toml:5: update.order: unknown key (here it is called surge (true or false))\n" +
				"x.toml:6: update.failure_action: unknown key (here it is called on_failure)\nx.toml:7: update.auto_revert: unknown key (here it is called on_failure = \"rollback\")"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := spec.Parse([]byte(head+tt.src), "x.toml")
			var errs *strict.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("accepted: %v", err)
			}
			if err.Error() != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", err, tt.want)
			}
		})
	}
	_, err := spec.Parse([]byte("type = 'job'\n"+head+"surge = true\non_failure = 'rollback'\ncanary = 1\n"), "x.toml")
	const want = "x.toml:5: update.surge: is not for a job, which must not run twice at once\n" +
		`x.toml:6: update.on_failure: "rollback" is not for a job: what it has done is not undone by running the one before again ("pause" stops the others)`
	if err == nil || err.Error() != want {
		t.Errorf("a job: got\n%v\nwant\n%s", err, want)
	}
}

func TestBudget(t *testing.T) {
	tests := []struct {
		update       spec.Update
		placed, want int
	}{
		{spec.Update{MaxUnavailable: "1"}, 10, 1},
		{spec.Update{MaxUnavailable: "3"}, 10, 3},
		{spec.Update{MaxUnavailable: "3"}, 2, 3},
		{spec.Update{MaxUnavailable: "25%"}, 10, 3}, // 2.5
		{spec.Update{MaxUnavailable: "25%"}, 8, 2},
		{spec.Update{MaxUnavailable: "1%"}, 100, 1},
		{spec.Update{MaxUnavailable: "1%"}, 101, 2},
		{spec.Update{MaxUnavailable: "100%"}, 7, 7},
		{spec.Update{MaxUnavailable: "25%"}, 0, 1},
		{spec.Update{Strategy: spec.StrategyAllAtOnce, MaxUnavailable: "1"}, 7, 7},
		{spec.Update{Strategy: spec.StrategyAllAtOnce}, 0, 1},
		{spec.Update{Strategy: spec.StrategyOnDelete, MaxUnavailable: "2"}, 7, 2},
		{spec.Update{}, 7, 1},
	}
	for _, tt := range tests {
		if got := tt.update.Budget(tt.placed); got != tt.want {
			t.Errorf("%+v of %d nodes: %d, want %d", tt.update, tt.placed, got, tt.want)
		}
	}
}

func TestCanaryFor(t *testing.T) {
	u := spec.Update{CanarySelector: map[string]string{"canary": "yes"}}
	yes, no := spec.Node{Labels: map[string]string{"canary": "yes"}}, spec.Node{Labels: map[string]string{"canary": "no"}}
	if !u.CanaryFor(yes) || u.CanaryFor(no) || (spec.Update{Canary: 1}).CanaryFor(yes) {
		t.Error("not those that the selector matches")
	}
}

// How nodes go on to a revision is no part of what runs: whatever changes in
// [update], the digest stays, nothing restarts, and the difference is told.
//
// conformance: D4
func TestUpdateIsOutsideTheDigest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := anyDaemon().Draw(t, "daemon")
		d := old
		d.Update = anyUpdate(t, d)
		d = d.WithDefaults()
		if d.Digest() != old.Digest() {
			t.Fatal("the digest changed")
		}
		for _, n := range []spec.Node{webNode(), {Name: "other"}} {
			a, _, errA := old.For(n)
			b, _, errB := d.For(n)
			if errA == nil && errB == nil && a.Digest() != b.Digest() {
				t.Fatalf("the digest changed on %s", n.Name)
			}
		}
		changes := spec.Diff(old, d)
		if (len(changes) == 0) != reflect.DeepEqual(old.Update, d.Update) {
			t.Fatalf("from %+v to %+v there are %d changes", old.Update, d.Update, len(changes))
		}
		for _, c := range changes {
			if c.Running || !strings.HasPrefix(c.Path, "update.") {
				t.Fatalf("%+v", c)
			}
		}
		// Only what differs from the defaults travels.
		var encoded struct {
			Update map[string]any `json:"update"`
		}
		if err := json.Unmarshal(spec.Encode(d), &encoded); err != nil {
			t.Fatal(err)
		}
		for key := range encoded.Update {
			plain := d
			plain.Update = spec.Defaults().Update
			if !slices.ContainsFunc(spec.Diff(plain, d), func(c spec.Change) bool {
				return c.Path == "update."+key || strings.HasPrefix(c.Path, "update."+key+".")
			}) {
				t.Fatalf("update.%s has its default, and is in %s", key, spec.Encode(d))
			}
		}
	})
}

// A restart travels as a nonce: another digest for the same file.
func TestRestartNonce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDaemon().Draw(t, "daemon")
		again := d
		again.RestartNonce += "1"
		if again.Digest() == d.Digest() {
			t.Fatal("the digest did not change")
		}
		if back, err := spec.Decode(spec.Encode(again)); err != nil || back.RestartNonce != again.RestartNonce {
			t.Fatalf("%q came back as %q, %v", again.RestartNonce, back.RestartNonce, err)
		}
		if here, _, err := again.For(webNode()); err == nil && here.RestartNonce != again.RestartNonce {
			t.Fatalf("rendered with %q", here.RestartNonce)
		}
		if changes := spec.Diff(d, again); len(changes) != 1 || !changes[0].Running {
			t.Fatalf("%+v", changes)
		}
	})
}
