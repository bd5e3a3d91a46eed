package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// exporter is revision 2 of a daemon for every node.
func exporter() daemonView {
	return daemonView{
		name: "exporter", spec: spec.Daemon{Name: "exporter", Image: "example.test/exporter:2"},
		digest: "new", generation: 5, revision: 2, author: "alice", created: noon.Add(-time.Hour),
	}
}

func running(digest string) statementDaemon {
	return statementDaemon{
		Name: "exporter", Placed: true, State: api.StateRunning, Ready: true, Digest: digest, Generation: 5, Observed: 5,
		Container: "exporter", PID: 42, ImageDigest: "sha256:aa",
	}
}

func with(d statementDaemon, change func(*statementDaemon)) statementDaemon {
	change(&d)
	return d
}

// ringOf makes a view of alive nodes that each said one row.
func ringOf(d daemonView, rows map[string]statementDaemon) view {
	v := view{ring: "default", self: "web-1", root: "abcdef0123", now: noon, said: map[string]statement{}, daemons: []daemonView{d}}
	for name, row := range rows {
		v.members = append(v.members, gossip.Member{Name: name, State: gossip.Alive, Addr: name + ":7946", LastSeen: noon})
		s := statement{Root: v.root, At: noon}
		if row.Name != "" {
			s.Daemons = []statementDaemon{row}
		}
		v.said[name] = s
	}
	slices.SortFunc(v.members, func(a, b gossip.Member) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return v
}

func TestDaemonStates(t *testing.T) {
	crashed := with(running("new"), func(d *statementDaemon) {
		d.State, d.Ready, d.Reason, d.Container = api.StateBackoff, false, "exited with code 1", "exporter"
	})
	cases := []struct {
		name   string
		daemon func(*daemonView)
		rows   map[string]statementDaemon
		change func(*view)
		want   api.DaemonStatus
	}{
		{
			name: "all run the new revision",
			rows: map[string]statementDaemon{"web-1": running("new"), "web-2": running("new")},
			want: api.DaemonStatus{State: "ok", Desired: 2, Current: 2, Ready: 2, Updated: 2, Available: 2},
		},
		{
			name: "one still starts",
			rows: map[string]statementDaemon{"web-1": running("new"), "web-2": with(running("new"), func(d *statementDaemon) {
				d.State, d.Ready, d.Container, d.Digest = api.StatePulling, false, "", ""
			})},
			want: api.DaemonStatus{State: "rolling", Reason: "web-2 pulling", Desired: 2, Current: 1, Ready: 1, Updated: 1, Available: 1},
		},
		{
			name: "one crashes and the other runs: degraded, with the reason",
			rows: map[string]statementDaemon{"web-1": running("new"), "web-2": crashed},
			want: api.DaemonStatus{State: "degraded", Reason: "web-2 backoff: exited with code 1", Desired: 2, Current: 2, Ready: 1, Updated: 2, Available: 1},
		},
		{
			name: "ready nowhere: failed",
			rows: map[string]statementDaemon{"web-1": crashed},
			want: api.DaemonStatus{State: "failed", Reason: "web-1 backoff: exited with code 1", Desired: 1, Current: 1, Updated: 1},
		},
		{
			name: "an old container keeps running because the new image can't be pulled",
			rows: map[string]statementDaemon{"web-1": with(running("old"), func(d *statementDaemon) { d.Reason = "image: not found" })},
			want: api.DaemonStatus{State: "degraded", Reason: "web-1 running: image: not found", Desired: 1, Current: 1, Ready: 1, Available: 1},
		},
		{
			// conformance: H3 — a dead node is never shown as ready.
			name: "a dead node is unknown, however well it was when last heard",
			rows: map[string]statementDaemon{"web-1": running("new"), "web-2": running("new")},
			change: func(v *view) {
				v.members[1].State, v.members[1].Since = gossip.Failed, noon.Add(-2*time.Minute)
			},
			want: api.DaemonStatus{State: "degraded", Reason: "web-2 unknown: not reachable for 2m0s", Desired: 2, Current: 1, Ready: 1, Updated: 1, Available: 1},
		},
		{
			name: "a node that has not said anything yet does not count as fine",
			rows: map[string]statementDaemon{"web-1": running("new"), "web-2": {}},
			want: api.DaemonStatus{State: "rolling", Reason: "web-2 waiting: has not reported on this daemon yet", Desired: 2, Current: 1, Ready: 1, Updated: 1, Available: 1},
		},
		{
			name:   "its selector matches nobody",
			daemon: func(d *daemonView) { d.spec.Selector = map[string]string{"role": "db"} },
			rows: map[string]statementDaemon{"web-1": with(running("new"), func(d *statementDaemon) {
				*d = statementDaemon{Name: "exporter", State: "excluded", Reason: `label role is "web", not "db"`, Observed: 5}
			})},
			want: api.DaemonStatus{State: "ok", Reason: "meant for no node; web-1: label role is \"web\", not \"db\""},
		},
		{
			name: "a container where it is not meant to be is counted apart",
			rows: map[string]statementDaemon{"web-1": running("new"), "web-2": with(running("old"), func(d *statementDaemon) { d.Placed = false })},
			want: api.DaemonStatus{State: "ok", Desired: 1, Current: 1, Ready: 1, Updated: 1, Available: 1, Misplaced: 1},
		},
		{
			name:   "two operators wrote at once",
			daemon: func(d *daemonView) { d.conflict = "alice and bob wrote generation 5" },
			rows:   map[string]statementDaemon{"web-1": running("old")},
			want:   api.DaemonStatus{State: "degraded", Reason: "alice and bob wrote generation 5", Conflict: "alice and bob wrote generation 5", Desired: 1, Current: 1, Ready: 1, Available: 1},
		},
		{
			name:   "deleted, and one container is still stopping",
			daemon: func(d *daemonView) { d.deleted = true },
			rows:   map[string]statementDaemon{"web-1": running("new"), "web-2": {}},
			want:   api.DaemonStatus{State: "deleting", Reason: "still stopping on web-1", Current: 1},
		},
		{
			name:   "deleted and gone",
			daemon: func(d *daemonView) { d.deleted = true },
			rows:   map[string]statementDaemon{"web-1": {}, "web-2": {}},
			want:   api.DaemonStatus{State: "deleted", Reason: "deleted by alice"},
		},
		{
			name: "a node whose containerd is away does not move by itself",
			rows: map[string]statementDaemon{"web-1": with(running("new"), func(d *statementDaemon) {
				d.State, d.Ready, d.Container, d.Reason = api.StateWaiting, false, "", "containerd is away"
			})},
			change: func(v *view) {
				s := v.said["web-1"]
				s.Trouble = "containerd is away"
				v.said["web-1"] = s
			},
			want: api.DaemonStatus{State: "failed", Reason: "web-1 waiting: containerd is away", Desired: 1},
		},
		{
			name:   "a job that still works is on its way",
			daemon: func(d *daemonView) { d.spec.Type = "job" },
			rows: map[string]statementDaemon{
				"web-1": with(running("new"), func(d *statementDaemon) { d.Ready, d.Reason = false, "runs revision 2" }),
				"web-2": with(running("new"), func(d *statementDaemon) { d.State, d.Container = api.StateCompleted, "" }),
			},
			want: api.DaemonStatus{State: "rolling", Reason: "web-1 running: runs revision 2", Desired: 2, Current: 1, Ready: 1, Updated: 2, Available: 1},
		},
		{
			name: "one tag, two images",
			rows: map[string]statementDaemon{"web-1": running("new"), "web-2": running("new"), "web-3": with(running("new"), func(d *statementDaemon) { d.ImageDigest = "sha256:bb" })},
			want: api.DaemonStatus{State: "ok", Reason: "web-3 runs another image under the same tag example.test/exporter:2; pin it by digest", Desired: 3, Current: 3, Ready: 3, Updated: 3, Available: 3},
		},
		{
			name: "a node that left is not expected any more",
			rows: map[string]statementDaemon{"web-1": running("new"), "web-2": {}},
			change: func(v *view) {
				v.members[1].State = gossip.Left
			},
			want: api.DaemonStatus{State: "ok", Desired: 1, Current: 1, Ready: 1, Updated: 1, Available: 1},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := exporter()
			if c.daemon != nil {
				c.daemon(&d)
			}
			v := ringOf(d, c.rows)
			if c.change != nil {
				c.change(&v)
			}
			got := v.status(api.StatusQuery{All: true}).Daemons[0]
			got = api.DaemonStatus{
				State: got.State, Reason: got.Reason, Conflict: got.Conflict, Desired: got.Desired, Current: got.Current,
				Ready: got.Ready, Updated: got.Updated, Available: got.Available, Misplaced: got.Misplaced,
			}
			if !equal(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func equal(a, b api.DaemonStatus) bool {
	a.Nodes, b.Nodes = nil, nil
	return a.State == b.State && a.Reason == b.Reason && a.Conflict == b.Conflict && a.Desired == b.Desired &&
		a.Current == b.Current && a.Ready == b.Ready && a.Updated == b.Updated && a.Available == b.Available && a.Misplaced == b.Misplaced
}

func TestRingStatusCountsWhoHoldsTheSame(t *testing.T) {
	v := ringOf(exporter(), map[string]statementDaemon{"web-1": running("new"), "web-2": running("new"), "web-3": running("new")})
	if r := v.ringStatus(); !r.InSync || r.Holding != 3 || r.Nodes.Alive != 3 || r.SpecDigest != "abcdef0" {
		t.Fatalf("a ring that agrees: %+v", r)
	}
	s := v.said["web-2"]
	s.Root = "other"
	v.said["web-2"] = s
	if r := v.ringStatus(); r.InSync || r.Holding != 2 {
		t.Fatalf("web-2 holds other records: %+v", r)
	}
	v.members[1].State = gossip.Failed
	if r := v.ringStatus(); !r.InSync || r.Nodes.Failed != 1 {
		t.Fatalf("a failed node can't be out of sync: %+v", r)
	}
}

func TestDeletedDaemonsAreListedOnlyWhenAsked(t *testing.T) {
	d := exporter()
	d.deleted = true
	v := ringOf(d, map[string]statementDaemon{"web-1": {}})
	if got := v.status(api.StatusQuery{}).Daemons; len(got) != 0 {
		t.Errorf("listed: %+v", got)
	}
	if got := v.status(api.StatusQuery{All: true}).Daemons; len(got) != 1 {
		t.Errorf("not listed: %+v", got)
	}
}

func TestWhyNamesEveryReasonOnce(t *testing.T) {
	row := with(running("new"), func(d *statementDaemon) {
		d.State, d.Reason, d.Reasons = api.StateBlocked, "denied", []string{"denied", "policy.host_paths: /etc"}
	})
	v := ringOf(exporter(), map[string]statementDaemon{"web-1": row, "web-2": running("new")})
	w, ok := v.why("exporter", "web-1")
	if !ok || len(w.Nodes) != 1 || !slices.Equal(w.Nodes[0].Reasons, []string{"denied", "policy.host_paths: /etc"}) {
		t.Errorf("why: %v %+v", ok, w)
	}
	if _, ok := v.why("nothing", ""); ok {
		t.Error("a daemon that is not there was explained")
	}
	if _, ok := v.why("exporter", "nowhere"); ok {
		t.Error("a node that is not there was explained")
	}
}

func TestWhyTellsTheTimeLeft(t *testing.T) {
	next := noon.Add(3500 * time.Millisecond)
	row := with(running("new"), func(d *statementDaemon) {
		d.State, d.Ready, d.Reason, d.Reasons, d.Next = api.StateBackoff, false, "exited with code 1", []string{"exited with code 1"}, &next
	})
	v := ringOf(exporter(), map[string]statementDaemon{"web-1": row})
	want := []string{"exited with code 1", "the next attempt comes in 4s"}
	if w, _ := v.why("exporter", ""); !slices.Equal(w.Nodes[0].Reasons, want) {
		t.Errorf("reasons %q, want %q", w.Nodes[0].Reasons, want)
	}
	v.now = next.Add(time.Second)
	if w, _ := v.why("exporter", ""); len(w.Nodes[0].Reasons) != 1 {
		t.Errorf("a back-off that is over is still told: %q", w.Nodes[0].Reasons)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 12 * time.Second: "12s", 2 * time.Minute: "2m0s", 90 * time.Minute: "1h30m", 76 * time.Hour: "3d4h",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %s, want %s", d, got, want)
		}
	}
}

func FuzzDecodeStatement(f *testing.F) {
	s := statement{Schema: 1, At: noon, Daemons: []statementDaemon{running("x")}}
	b, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeStatement(b)
		if err != nil {
			return
		}
		for _, d := range s.Daemons {
			if len(d.Reasons) > maxReasons || len(d.Reason) > maxReason+len("…") {
				t.Fatalf("limits are not kept: %d reasons, %d bytes", len(d.Reasons), len(d.Reason))
			}
		}
	})
}

// A node with more daemons than fit into one statement gives up words, not facts.
func TestLargeStatementsKeepTheFacts(t *testing.T) {
	var s statement
	for range 150 {
		d := running("new")
		for range maxReasons {
			d.Reasons = append(d.Reasons, "a reason in words that takes its place")
		}
		s.Daemons = append(s.Daemons, d)
	}
	b, err := s.encode()
	if err != nil || len(b) > maxStatement {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	got, err := decodeStatement(b)
	if err != nil || len(got.Daemons) != 150 || !got.Daemons[149].Ready || got.Daemons[149].Digest != "new" {
		t.Fatalf("facts are lost: %v", err)
	}
	if len(s.Daemons[0].Reasons) != maxReasons {
		t.Fatal("the original was shortened")
	}
}
