package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec/record"
)

// lonely is an agent of its own ring, over a fake runtime.
type lonely struct {
	*Agent
	t   *testing.T
	dir string
	l   *listener
	log []config.Log // what the log was told
}

// startLonely starts an agent on a configuration whose addresses are free.
func startLonely(t *testing.T, rt *fake.Runtime) *lonely {
	t.Helper()
	return startNode(t, rt, "n1", config.NewRingKey(), "")
}

// startNode starts an agent of a ring that may have others.
func startNode(t *testing.T, rt runtime.Runtime, name string, key config.RingKey, join string) *lonely {
	t.Helper()
	n := &lonely{t: t, dir: t.TempDir(), l: &listener{}}
	alice := n.operator("alice")
	n.write("ring.key", string(key.Marshal()), 0o600)
	n.write("trust.d/alice.pub", string(alice.Public().Marshal()), 0o644)
	port := freePort(t)
	n.write("agentd.toml", fmt.Sprintf(`
[node]
name = %q
data_dir = %q
[ring]
name = "test"
join = [%s]
bind = "127.0.0.1:%d"
key_file = %q
[trust]
dir = %q
[runtime]
address = %q
[api]
socket = %q
group = ""
[metrics]
listen = ""
`, name, n.path("data"), join, port, n.path("ring.key"), n.path("trust.d"), n.path("c.sock"), n.path("a.sock")), 0o644)
	loaded, err := config.Load(n.path("agentd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	n.Agent, err = New(Config{
		Config: loaded, Version: "test", Runtime: rt, Log: slog.New(slog.DiscardHandler),
		Service:  Service{Notify: n.l.notify, Watchdog: 200 * time.Millisecond},
		Reloaded: func(c config.Config) { n.log = append(n.log, c.Log) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if got := n.l.heard(); len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "STOPPING=1") {
			t.Errorf("its last word is %q", got)
		}
	})
	n.until("READY", func() bool { return slices.ContainsFunc(n.l.heard(), hasReady) })
	return n
}

func hasReady(s string) bool { return strings.HasPrefix(s, "READY=1\n") }

func (n *lonely) path(name string) string { return filepath.Join(n.dir, name) }

func (n *lonely) write(name, text string, mode os.FileMode) {
	n.t.Helper()
	path := n.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		n.t.Fatal(err)
	}
}

func (n *lonely) operator(name string) record.PrivateKey {
	n.t.Helper()
	k, err := record.GenerateKey(name)
	if err != nil {
		n.t.Fatal(err)
	}
	return k
}

// until waits for what comes soon.
func (n *lonely) until(what string, ok func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			n.t.Fatalf("did not come: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// told waits until systemd was told RELOADING and then READY, and returns the
// status that came with it.
func (n *lonely) told() string {
	n.t.Helper()
	var all []string
	status := ""
	n.until("RELOADING, then READY", func() bool {
		all = append(all, n.l.heard()...)
		i := slices.IndexFunc(all, func(s string) bool { return strings.HasPrefix(s, "RELOADING=1\nMONOTONIC_USEC=") })
		if i < 0 {
			return false
		}
		j := slices.IndexFunc(all[i:], hasReady)
		if j >= 0 {
			_, status, _ = strings.Cut(all[i+j], "STATUS=")
		}
		return j >= 0
	})
	return status
}

func (n *lonely) notes() string {
	n.t.Helper()
	st, err := n.Status(n.t.Context(), api.StatusQuery{})
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.Join(st.Ring.Notes, "\n")
}

func freePort(t *testing.T) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		l.Close()
		if err == nil {
			next.Close()
			return port
		}
	}
}

// conformance: F5
func TestReload(t *testing.T) {
	n := startLonely(t, fake.New(fake.Config{}))
	labels := func() map[string]string {
		nodes, err := n.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return nodes.Nodes[0].Labels
	}

	// Nothing changed.
	r, err := n.Reload(t.Context())
	if err != nil || len(r.Changed)+len(r.Restart) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := n.told(); !strings.HasPrefix(got, "node n1 of ring test: no daemon is meant for it; 1 node alive") {
		t.Errorf("status %q", got)
	}

	// What can be taken over is; what takes a restart is named, for as long as it does.
	bob := n.operator("bob")
	n.write("trust.d/bob.pub", string(bob.Public().Marshal()), 0o644)
	n.write("agentd.d/10.toml", `
[node]
labels = { role = "edge" }
taints = ["a=b:NoSchedule"]
[policy]
images = ["example.org/**"]
[log]
level = "debug"
max_files = 7
`, 0o644)
	n.write("agentd.d/20.toml", "[ring]\nadvertise = \"127.0.0.1\"\njoin = [\"127.0.0.1:9\"]\n", 0o644)
	r, err = n.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"trust: +" + bob.Public().ID() + " bob", "node.labels", "node.taints", "ring.join", "policy.images", "log.level", "log.max_files"}
	if !slices.Equal(r.Changed, want) || !slices.Equal(r.Restart, []string{"ring.advertise", "peer.advertise"}) {
		t.Errorf("changed %q, want %q; restart %q", r.Changed, want, r.Restart)
	}
	if got := n.told(); !strings.Contains(got, "; [ring] advertise changed: takes a restart; [peer] advertise changed") {
		t.Errorf("status %q", got)
	}
	n.until("the label", func() bool { return labels()["role"] == "edge" })
	if len(n.store.Trust().Keys()) != 2 {
		t.Error("bob is not trusted")
	}
	if last := n.log[len(n.log)-1]; last.Level != "debug" || last.MaxFiles != 7 {
		t.Errorf("the log was told %+v", last)
	}
	if !strings.Contains(n.notes(), "[ring] advertise changed: takes a restart") {
		t.Errorf("notes %q", n.notes())
	}

	// A file that is wrong changes nothing, and says why everywhere.
	for name, text := range map[string]string{"agentd.d/10.toml": "[node]\nlabel = {}\n", "trust.d/bob.pub": "no key", "ring.key": "no key"} {
		before, err := os.ReadFile(n.path(name))
		if err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if name == "ring.key" {
			mode = 0o600
		}
		n.write(name, text, mode)
		if _, err = n.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v", name, err)
		}
		if got := n.told(); !strings.Contains(got, "configuration not reloaded, nothing changed: ") {
			t.Errorf("%s: status %q", name, got)
		}
		if !strings.Contains(n.notes(), name) || labels()["role"] != "edge" || len(n.store.Trust().Keys()) != 2 {
			t.Errorf("%s: notes %q, labels %v", name, n.notes(), labels())
		}
		n.write(name, string(before), mode)
	}

	// Back to where it was: neither the note nor the label stays.
	for _, name := range []string{"agentd.d/10.toml", "agentd.d/20.toml", "trust.d/bob.pub"} {
		if err := os.Remove(n.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if r, err = n.Reload(t.Context()); err != nil || len(r.Restart) != 0 || len(r.Changed) != len(want) {
		t.Errorf("%+v, %v", r, err)
	}
	n.told()
	n.until("the label's end", func() bool { return labels()["role"] == "" })
	if strings.Contains(n.notes(), "restart") {
		t.Errorf("notes %q", n.notes())
	}

	// Another ring key takes a restart. (And would not help there: see bindRing.)
	n.write("ring.key", string(config.NewRingKey().Marshal()), 0o600)
	if r, err = n.Reload(t.Context()); err != nil || !slices.Equal(r.Restart, []string{"ring.key_file"}) {
		t.Errorf("%+v, %v", r, err)
	}
	n.told()
	events := 0
	if err := n.Events(t.Context(), time.Time{}, false, func(e api.Event) error {
		if e.Type == api.EventAgent && strings.Contains(e.Reason, "reloaded") {
			events++
		}
		return nil
	}); err != nil || events != 7 {
		t.Errorf("%d events of reloads, %v", events, err)
	}
}
