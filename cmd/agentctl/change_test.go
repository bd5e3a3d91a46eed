package main

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

func daemon(change func(*spec.Daemon)) spec.Daemon {
	d := spec.Defaults()
	d.Name, d.Image = "a", "docker.io/library/a:1"
	if change != nil {
		change(&d)
	}
	return d
}

var twoNodes = []api.RosterNode{
	{Name: "web-1", ID: strings.Repeat("1", 32), State: "alive", Healthy: true, Address: "10.0.0.1:7946", Labels: map[string]string{"role": "edge"}},
	{Name: "db-1", ID: strings.Repeat("2", 32), State: "failed", Address: "10.0.0.2:7946", Labels: map[string]string{"role": "db"}},
}

func plan(t testing.TB, want spec.Daemon, cur current, roster []api.RosterNode) change {
	t.Helper()
	c, err := planChange(want, cur, ringView{roster: roster}, seen{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPlanChange(t *testing.T) {
	edge := func(d *spec.Daemon) { d.Selector = map[string]string{"role": "edge"} }
	has := func(d spec.Daemon, deleted bool) current { return current{spec: &d, deleted: deleted} }
	cases := []struct {
		why    string
		want   spec.Daemon
		cur    current
		result string
		effect string
	}{
		{"nothing is there", daemon(nil), current{}, resultCreated, "starts on 2 nodes (web-1, db-1)"},
		{"the same is there", daemon(nil), has(daemon(nil), false), resultUnchanged, "restarts nothing"},
		{"another image", daemon(func(d *spec.Daemon) { d.Image = "docker.io/library/a:2" }), has(daemon(nil), false), resultConfigured, "restarts on 2 nodes (web-1, db-1)"},
		{"a narrower selector restarts nothing that stays", daemon(edge), has(daemon(nil), false), resultConfigured, "stops on 1 node (db-1), restarts nothing"},
		{"a wider selector", daemon(nil), has(daemon(edge), false), resultConfigured, "starts on 1 node (db-1), restarts nothing"},
		{"it was deleted", daemon(nil), has(daemon(nil), true), resultCreated, "starts on 2 nodes (web-1, db-1)"},
		{"for nobody", daemon(func(d *spec.Daemon) { d.Nodes = []string{"gone"} }), current{}, resultCreated, "is meant for none of the nodes"},
		{"a restart that was asked for is kept", daemon(nil), has(daemon(func(d *spec.Daemon) { d.RestartNonce = "x" }), false), resultUnchanged, "restarts nothing"},
	}
	for _, c := range cases {
		got := plan(t, c.want, c.cur, twoNodes)
		if got.result != c.result || got.effect() != c.effect {
			t.Errorf("%s: %s, %q; want %s, %q", c.why, got.result, got.effect(), c.result, c.effect)
		}
	}
}

func TestPrintDiff(t *testing.T) {
	old := daemon(func(d *spec.Daemon) {
		d.Args = []string{"--old"}
		d.Env = map[string]string{"A": "1"}
	})
	want := daemon(func(d *spec.Daemon) {
		d.Image = "registry.example.com/a/very/long/repository/name:2"
		d.Args = []string{"--new\x1b[31m"}
	})
	var b bytes.Buffer
	printDiff(&b, plan(t, want, current{spec: &old}, twoNodes))
	golden := `daemon/a changed: restarts on 2 nodes (web-1, db-1)
  image:
    - "docker.io/library/a:1"
    + "registry.example.com/a/very/long/repository/name:2"
  args: ["--old"] -> ["--new\u001B[31m"]
  env.A: - "1"
  outside the roster: db-1 (down)
`
	if b.String() != golden {
		t.Errorf("got:\n%s", b.String())
	}
}

// An entry that was made by a newer agentctl is not written over.
func TestNewerRecordIsAnError(t *testing.T) {
	key, err := record.GenerateKey("x")
	if err != nil {
		t.Fatal(err)
	}
	k := record.Key{Kind: record.KindDaemon, Name: "a"}
	h := record.Next(record.Entry{}, record.RingID{1}, k, "x", t0)
	h.Schema = record.Schema + 1
	env, err := record.Sign(h, []byte("{}\n"), key)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := entryOf(api.Record{Envelope: env}, record.RingID{1}, k)
	if err != nil {
		t.Fatal(err)
	}
	_, err = currentOf(entry)
	if a, _, _ := testApp(t); err == nil || len(a.hints(err)) != 1 {
		t.Errorf("got %v", err)
	}
}

// Two operators wrote at once. Applying what won writes a record that follows
// both, or the conflict would never end.
func TestConflictIsSettled(t *testing.T) {
	key, err := record.GenerateKey("x")
	if err != nil {
		t.Fatal(err)
	}
	ring, k := record.RingID{1}, record.Key{Kind: record.KindDaemon, Name: "a"}
	sign := func(author, image string) []byte {
		d := daemon(func(d *spec.Daemon) { d.Image = image })
		body, err := record.EncodeDaemon(record.DaemonBody{Spec: spec.Encode(d), Revision: 1, Rollout: record.Rollout{K: 1}})
		if err != nil {
			t.Fatal(err)
		}
		env, err := record.Sign(record.Next(record.Entry{}, ring, k, author, t0), body, key)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	entry, err := entryOf(api.Record{Envelope: sign("alice", "docker.io/library/a:1"), Fork: sign("bob", "docker.io/library/a:2")}, ring, k)
	if err != nil {
		t.Fatal(err)
	}
	cur, err := currentOf(entry)
	if err != nil {
		t.Fatal(err)
	}
	got := plan(t, *cur.spec, cur, twoNodes)
	if got.result != resultConfigured || got.effect() != "restarts nothing" || !strings.Contains(got.settles, "written twice") {
		t.Errorf("%s, %q, settles %q", got.result, got.effect(), got.settles)
	}
	var b bytes.Buffer
	if printDiff(&b, got); !strings.Contains(b.String(), "settles a conflict: generation 1 was written twice") {
		t.Errorf("diff:\n%s", &b)
	}
	if next := record.Next(cur.entry, ring, k, "carol", t0); len(next.Ancestors) != 2 {
		t.Errorf("the next record follows %d, not both", len(next.Ancestors))
	}
}

// What agentd answers is not trusted to be what was asked for.
func TestEntryOfAnotherKey(t *testing.T) {
	key, err := record.GenerateKey("x")
	if err != nil {
		t.Fatal(err)
	}
	k := record.Key{Kind: record.KindDaemon, Name: "a"}
	env, err := record.Sign(record.Next(record.Entry{}, record.RingID{1}, k, "x", t0), []byte("x"), key)
	if err != nil {
		t.Fatal(err)
	}
	for why, get := range map[string]func() error{
		"another name": func() error {
			_, err := entryOf(api.Record{Envelope: env}, record.RingID{1}, record.Key{Kind: record.KindDaemon, Name: "b"})
			return err
		},
		"another ring": func() error { _, err := entryOf(api.Record{Envelope: env}, record.RingID{2}, k); return err },
		"garbage":      func() error { _, err := entryOf(api.Record{Envelope: []byte("x")}, record.RingID{1}, k); return err },
		"a bad past": func() error {
			_, err := entryOf(api.Record{Envelope: env, Past: [][]byte{{}}}, record.RingID{1}, k)
			return err
		},
	} {
		if get() == nil {
			t.Errorf("%s: no error", why)
		}
	}
}

// Any daemons that are exported together are read back as they are, whatever
// their texts hold.
func TestExportReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`(\[\[?[a-z.]+\]\]?|"""|\\"|=|\n|''')*`)).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
		n := rapid.IntRange(1, 3).Draw(t, "daemons")
		var list []spec.Daemon
		for i := range n {
			list = append(list, daemon(func(d *spec.Daemon) {
				d.Name = string(rune('a' + i))
				d.Args = rapid.SliceOfN(text, 0, 3).Draw(t, "args")
				d.Env = map[string]string{"A": text.Draw(t, "env")}
				d.Files = []spec.File{{Target: "/etc/x", Mode: "0444", Content: text.Draw(t, "content")}}
			}).WithDefaults())
		}
		for _, d := range list {
			if d.Validate() != nil {
				t.Skip("not a daemon that a ring could hold")
			}
		}
		if _, err := exportText(list); err != nil {
			t.Fatal(err)
		}
	})
}

// Whatever a record's body or envelope holds, reading it ends in an error or in
// a daemon, never in a panic.
func FuzzRecord(f *testing.F) {
	key, err := record.GenerateKey("x")
	if err != nil {
		f.Fatal(err)
	}
	k := record.Key{Kind: record.KindDaemon, Name: "a"}
	good, err := record.EncodeDaemon(record.DaemonBody{Spec: spec.Encode(daemon(nil)), Revision: 1, Rollout: record.Rollout{K: 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, []byte("{}"))
	f.Add([]byte("{}\n{}"), []byte(`{"payloadType":"x"}`))
	f.Fuzz(func(t *testing.T, body, envelope []byte) {
		if _, err := entryOf(api.Record{Envelope: envelope}, record.RingID{1}, k); err == nil {
			t.Skip("a signed record by chance")
		}
		env, err := record.Sign(record.Next(record.Entry{}, record.RingID{1}, k, "x", t0), body, key)
		if err != nil {
			return // too large
		}
		entry, err := entryOf(api.Record{Envelope: env, Past: [][]byte{env}}, record.RingID{1}, k)
		if err != nil {
			t.Fatal(err)
		}
		cur, err := currentOf(entry)
		if err == nil && (cur.spec == nil || !cur.live()) {
			t.Fatalf("%q is read as nothing", body)
		}
	})
}
