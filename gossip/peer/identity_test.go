package peer

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/gossip"
)

func TestIdentityIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "node.key")
	first, err := LoadOrCreateIdentity(path, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", info, err)
	}
	again, err := LoadOrCreateIdentity(path, "web-1")
	if err != nil || !again.Key.Equal(first.Key) || again.ID != first.ID {
		t.Fatalf("the second start has another key: %v", err)
	}
	mustEqual(t, "id", first.ID, gossip.MakeNodeID("web-1", first.Key.Public().(ed25519.PublicKey)))
	renamed, err := LoadOrCreateIdentity(path, "web-2")
	if err != nil || renamed.ID == first.ID || !renamed.Key.Equal(first.Key) {
		t.Errorf("a renamed node must have the same key and another id: %v", err)
	}
}

func TestIdentityErrors(t *testing.T) {
	cases := map[string]struct {
		change func(path string) error
		words  []string
	}{
		"readable by all": {func(p string) error { return os.Chmod(p, 0o644) }, []string{"mode 0644", "chmod 600 "}},
		"of the group":    {func(p string) error { return os.Chmod(p, 0o640) }, []string{"mode 0640", "chmod 600 "}},
		"of another user": {func(p string) error { return os.Chown(p, 12345, -1) }, []string{"uid 12345", "chown 0 "}},
		"empty":           {func(p string) error { return os.Truncate(p, 0) }, []string{"not a node key", "agentctl forget web-1"}},
		"cut":             {func(p string) error { return os.Truncate(p, 40) }, []string{"damaged", "agentctl forget web-1"}},
		"something else":  {func(p string) error { return os.WriteFile(p, []byte("-----BEGIN"), 0o600) }, []string{"not a node key"}},
		"endless":         {func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o600) }, []string{"larger than"}},
		"a folder": {func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return os.Mkdir(p, 0o700)
		}, []string{"not a regular file"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if name == "of another user" && os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			path := filepath.Join(t.TempDir(), "node.key")
			if _, err := LoadOrCreateIdentity(path, "web-1"); err != nil {
				t.Fatal(err)
			}
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(path)
			_, err := LoadOrCreateIdentity(path, "web-1")
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range append(c.words, path) {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
	if _, err := LoadOrCreateIdentity(filepath.Join(t.TempDir(), "k"), "web 1"); err == nil {
		t.Error("a name with a space was taken")
	}
	if _, err := LoadOrCreateIdentity("/proc/agentd/node.key", "web-1"); err == nil {
		t.Error("a folder that can't be made is no error")
	}
}

// Not one flipped bit makes another key out of this node's.
func TestNodeKeyChecksum(t *testing.T) {
	good := formatNodeKey(make([]byte, ed25519.SeedSize))
	if _, err := parseNodeKey(good); err != nil {
		t.Fatal(err)
	}
	for i := range good[:len(good)-1] { // white space at the end does not count
		for bit := range 8 {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << bit
			if _, err := parseNodeKey(bad); err == nil {
				t.Errorf("bit %d of byte %d flipped and not noticed", bit, i)
			}
		}
	}
}
