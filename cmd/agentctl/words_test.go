package main

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestAge(t *testing.T) {
	for text, want := range map[string]string{
		"-5s": "0s", "0s": "0s", "12.9s": "12s", "59s": "59s", "60s": "1m", "5m59s": "5m", "1h": "1h", "4h12m50s": "4h12m",
		"24h": "1d", "76h30m": "3d4h", "9600h": "400d",
	} {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := age(t0.Add(d), t0); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := age(t0, time.Time{}); got != "-" {
		t.Errorf("no time: %s", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[2Jb\n\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsFunc(clean(s), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", s, clean(s))
		}
		if cell(s) == "" {
			t.Errorf("%q became an empty cell", s)
		}
	})
}

func TestTable(t *testing.T) {
	a, stdout, _ := testApp(t)
	a.color = "always"
	tab := newTable("NAME", "STATE", "AGE")
	tab.colors = map[int]bool{1: true}
	tab.add("grün", "ok", "")
	tab.add("a", "rolling 3/5", "1s")
	a.print(tab)
	want := "NAME  STATE        AGE\n" +
		"grün  \x1b[32mok\x1b[0m           -\n" +
		"a     \x1b[33mrolling\x1b[0m 3/5  1s\n"
	if stdout.String() != want {
		t.Errorf("got:\n%q", stdout.String())
	}
}

func TestDaemonNotes(t *testing.T) {
	bad := func(node, state string) api.NodeDaemon {
		return api.NodeDaemon{Node: node, Placed: true, State: state, Reason: "why"}
	}
	d := api.DaemonStatus{Name: "a", State: api.DaemonDegraded, Reason: "its own", Nodes: []api.NodeDaemon{
		bad("n1", api.StateUnhealthy), bad("n2", api.StateBackoff), {Node: "n3", State: api.StateExcluded},
		bad("n4", api.StateBlocked), bad("n5", api.StateUnknown), bad("n6", api.StateStarting)}}
	got := strings.Join(daemonNotes(d), "\n")
	want := `a: n1 unhealthy: why; see: agentctl why a n1
a: n2 backoff: why; see: agentctl why a n2
a: n4 blocked: why; see: agentctl why a n4
a: and 1 more node; see: agentctl status a`
	if got != want {
		t.Errorf("got:\n%s", got)
	}
	// When no node is to blame, the daemon's own reason is told; so is what an
	// operator should know of a daemon that runs.
	d.Nodes = nil
	if got := daemonNotes(d); len(got) != 1 || got[0] != "a: its own; see: agentctl why a" {
		t.Errorf("got %q", got)
	}
	for state, want := range map[string]string{
		api.DaemonRolling:    "a: its own; see: agentctl rollout status a",
		api.DaemonPaused:     "a: its own; see: agentctl rollout status a",
		api.DaemonRolledBack: "a: its own; see: agentctl rollout status a",
	} {
		d.State = state
		if got := daemonNotes(d); len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q", state, got)
		}
	}
	// Why it is paused comes first, and says itself what to type.
	d.State, d.Reason, d.Nodes = api.DaemonPaused, "paused by bob; agentctl rollout resume a goes on", []api.NodeDaemon{bad("n1", api.StateUnhealthy)}
	if got := daemonNotes(d); len(got) != 2 || got[0] != "a: "+d.Reason || got[1] != "a: n1 unhealthy: why; see: agentctl why a n1" {
		t.Errorf("got %q", got)
	}
	d.State, d.Reason, d.Nodes = api.DaemonOK, "its own", nil
	if got := daemonNotes(d); len(got) != 1 || got[0] != "a: its own" {
		t.Errorf("got %q", got)
	}
	d.Reason = ""
	if got := daemonNotes(d); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{errors.New("x"), 1}, {usagef("", "x"), 2}, {cannot("do", usagef("", "x")), 2},
		{&exitError{code: 3}, 3}, {&exitError{code: 4, err: errors.New("x")}, 4}, {errorList{errors.New("x"), errors.New("y")}, 1},
	} {
		a, _, _ := testApp(t)
		if got := a.report(c.err); got != c.code {
			t.Errorf("%v: %d, want %d", c.err, got, c.code)
		}
	}
}

// Hints come from the error, from agentd and from us, none lost.
func TestHints(t *testing.T) {
	a, _, stderr := testApp(t)
	a.report(cannot("do it", withHint(&api.Problem{Detail: "refused", Hint: "from agentd"}, "from us")))
	want := "agentctl: cannot do it: refused\nhint: from us\nhint: from agentd\n"
	if stderr.String() != want {
		t.Errorf("got:\n%s", stderr)
	}
}

func TestSeeds(t *testing.T) {
	roster := api.Roster{Self: "web-1", Nodes: []api.RosterNode{
		{Name: "web-1", State: "alive", Address: "10.0.0.1:7946"},
		{Name: "web-2", State: "alive", Address: "10.0.0.2:7946"},
		{Name: "web-3", State: "failed", Address: "10.0.0.3:7946"},
	}}
	cases := []struct {
		why             string
		bind, advertise string
		roster          api.Roster
		want            string
	}{
		{"advertise comes first", "0.0.0.0:7946", "edge.example.com", api.Roster{}, "edge.example.com:7946"},
		{"advertise with a port", "0.0.0.0:7946", "[2001:db8::1]:99", api.Roster{}, "[2001:db8::1]:99"},
		{"a bare IPv6 address", "0.0.0.0:7946", "2001:db8::1", api.Roster{}, "[2001:db8::1]:7946"},
		{"bound to one address", "127.0.0.2:8000", "", api.Roster{}, "127.0.0.2:8000"},
		{"the machine's addresses", "0.0.0.0:7000", "", api.Roster{}, "192.0.2.1:7000 [2001:db8::2]:7000"},
		{"what the ring knows, without those that are down", "0.0.0.0:7946", "", roster, "10.0.0.1:7946 10.0.0.2:7946"},
		{"advertise and the others", "0.0.0.0:7946", "a.example.com", roster, "a.example.com:7946 10.0.0.2:7946"},
	}
	for _, c := range cases {
		a, _, _ := testApp(t)
		a.addresses = func() []string { return []string{"192.0.2.1", "2001:db8::2"} }
		loaded := &config.Loaded{Config: config.Default()}
		loaded.Ring.Bind, loaded.Ring.Advertise = c.bind, c.advertise
		if got := strings.Join(a.seeds(loaded, c.roster), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
	}
}

func TestPubFile(t *testing.T) {
	used := map[string]bool{}
	pub := func(comment string) record.PublicKey {
		k, err := record.GenerateKey(comment)
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	if got := pubFile(pub("alice@laptop"), used); got != "alice@laptop.pub" {
		t.Error(got)
	}
	for _, comment := range []string{"alice@laptop", "", "../..", "..."} { // taken, or no name at all
		p := pub(comment)
		if got := pubFile(p, used); got != p.ID()+".pub" {
			t.Errorf("%q: %s", comment, got)
		}
	}
	if got := pubFile(pub("../etc/passwd"), used); strings.ContainsRune(got, '/') {
		t.Error(got)
	}
}
