package peer

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/gossip"
)

func openBindings(t testing.TB, path string) (*Bindings, *logBuffer) {
	t.Helper()
	var log logBuffer
	b, err := OpenBindings(BindingsConfig{Path: path, Self: &Identity{Name: "self", ID: nodeID(1)}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return b, &log
}

func TestBindings(t *testing.T) {
	b, log := openBindings(t, "")
	for range 2 { // first sight, then known
		if err := b.Check("web-1", nodeID(7)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // told once
		c := wantConflict(t, b.CheckAt("web-1", nodeID(8), "10.0.0.8:1"))
		if c.Bound != nodeID(7) || c.Seen != nodeID(8) || c.Addr != "10.0.0.8:1" {
			t.Errorf("conflict %+v", c)
		}
	}
	mustEqual(t, "log lines", strings.Count(log.String(), "two keys claim one node name"), 1)
	mustEqual(t, "conflicts", len(b.Conflicts()), 1)

	// Nobody else gets this node's own name, not even when it is forgotten.
	wantConflict(t, b.Check("self", nodeID(2)))
	if b.Forget("self") {
		t.Error("one's own name was released")
	}
	wantConflict(t, b.Check("self", nodeID(2)))
	if err := b.Check("self", nodeID(1)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "a b", "a\n", "-a", "ä", strings.Repeat("a", maxName+1), "../a"} {
		if b.Check(name, nodeID(1)) == nil {
			t.Errorf("name %q was bound", name)
		}
	}
}

func TestForget(t *testing.T) {
	b, _ := openBindings(t, "")
	old, young, third := nodeID(10), nodeID(11), nodeID(12)
	if b.Forget("web-1") {
		t.Error("forgot a name that was never seen")
	}
	if err := b.Check("web-1", old); err != nil {
		t.Fatal(err)
	}
	wantConflict(t, b.Check("web-1", young))
	if b.Forget("web-1", young, third) {
		t.Error("forgot a binding to another id than was meant")
	}
	wantConflict(t, b.Check("web-1", young))
	if !b.Forget("web-1", third, old) {
		t.Error("did not forget the binding that was meant")
	}
	if b.Forget("web-1") {
		t.Error("forgot twice")
	}
	mustEqual(t, "conflicts after forgetting", len(b.Conflicts()), 0)
	// A late word of the old machine does not take the name back.
	if err := b.Check("web-1", old); err != nil {
		t.Error(err)
	}
	if err := b.Check("web-1", young); err != nil {
		t.Error(err)
	}
	wantConflict(t, b.Check("web-1", old))
	wantConflict(t, b.Check("web-1", third))
	// The same order to forget, read again after a restart, meant the old one.
	if b.Forget("web-1", old) {
		t.Error("an order about the old machine released the new one's name")
	}
}

func TestBindingsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not/yet/there/names")
	b, _ := openBindings(t, path)
	for i := range 100 {
		if err := b.Check("n"+strings.Repeat("x", i%60)+"-"+key(i)[9:], nodeID(i)); err != nil {
			t.Fatal(err)
		}
	}
	b.Forget("n-0")
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	again, _ := openBindings(t, path)
	if len(again.names) != 100 {
		t.Fatalf("%d names came back", len(again.names))
	}
	for name, bound := range b.names {
		if again.names[name] != bound {
			t.Errorf("%s is bound to %+v; want %+v", name, again.names[name], bound)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", info, err)
	}
}

// A file that was cut or bit-flipped anywhere is put aside and never read as
// something else.
func TestDamagedBindings(t *testing.T) {
	dir := t.TempDir()
	good := formatBindings(map[string]binding{"a": {ID: nodeID(1)}, "b": {ID: nodeID(2), Released: true}})
	if got, err := parseBindings(good); err != nil || len(got) != 2 || !got["b"].Released {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range good {
		if got, err := parseBindings(good[:i]); err == nil {
			t.Errorf("cut at %d: read as %v", i, got)
		}
		for bit := range 8 {
			bad := flip(good, i)
			bad[i] = good[i] ^ 1<<bit
			if got, err := parseBindings(bad); err == nil {
				t.Errorf("bit %d of byte %d flipped: read as %v", bit, i, got)
			}
		}
	}
	for name, content := range map[string][]byte{"cut": good[:40], "empty": nil, "too large": make([]byte, maxBindingsFile+1)} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		b, log := openBindings(t, path)
		if len(b.names) != 0 || !strings.Contains(log.String(), "put_aside="+path+".corrupt") {
			t.Errorf("%s: %v, log %q", name, b.names, log)
		}
		if _, err := os.Stat(path + ".corrupt"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBindingsFileOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(path, formatBindings(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := OpenBindings(BindingsConfig{Path: path, Self: &Identity{Name: "self"}})
	if err == nil || !strings.Contains(err.Error(), "chmod 644 "+path) {
		t.Errorf("file that anybody can write: %v", err)
	}
}

// A disk that can't be written costs nothing but a warning, and is tried again.
func TestBindingsOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "sub", "names")
		if err := os.WriteFile(filepath.Join(dir, "sub"), nil, 0o600); err != nil { // not a folder
			t.Fatal(err)
		}
		log := &logBuffer{}
		b := &Bindings{
			cfg:   BindingsConfig{Path: path, Self: &Identity{Name: "self"}, Log: slog.New(slog.NewTextHandler(log, nil))},
			dirty: make(chan struct{}, 1), names: make(map[string]binding), conflicts: make(map[conflictKey]*conflictEntry),
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		if err := b.Check("a", nodeID(5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * persistRetry)
		if b.Problem() == nil || strings.Count(log.String(), "not on disk") != 1 {
			t.Errorf("problem %v, log %q", b.Problem(), log)
		}
		if err := os.Remove(filepath.Join(dir, "sub")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * persistRetry)
		if err := b.Problem(); err != nil {
			t.Errorf("problem that is over: %v", err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Meeting a large ring costs few writes, and all of it is on disk in the end.
func TestBindingsAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "names")
		b, _ := openBindings(t, path)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		for i := range 1000 {
			if err := b.Check(key(i)[7:], nodeID(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		again, _ := openBindings(t, path)
		mustEqual(t, "names on disk", len(again.names), 1000)
	})
}

func TestBindingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, log := openBindings(t, "")
		for i := range maxBindings {
			if err := b.Check(key(i)[7:], nodeID(i)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if b.Check("one-more", gossip.NodeID{}) == nil {
				t.Error("there is no limit")
			}
		}
		mustEqual(t, "log lines", strings.Count(log.String(), "too many node names"), 1)
		for i := range 2 * maxConflicts {
			wantConflict(t, b.Check("d-1", nodeID(100+i)))
		}
		mustEqual(t, "conflicts", len(b.Conflicts()), maxConflicts)
		time.Sleep(conflictAge)
		mustEqual(t, "conflicts an hour later", len(b.Conflicts()), 0)
		if data := formatBindings(b.names); len(data) > maxBindingsFile {
			t.Errorf("the file of all names has %d bytes, more than is read back", len(data))
		}
	})
}

func TestOpenBindingsWithoutIdentity(t *testing.T) {
	if _, err := OpenBindings(BindingsConfig{}); err == nil {
		t.Error("no error")
	}
}
