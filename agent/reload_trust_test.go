package agent

import (
	"os"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec/record"
)

// An operator who came with a reload may apply; one who went with it may not.
func TestReloadedOperators(t *testing.T) {
	n := startLonely(t, fake.New(fake.Config{}))
	bob := n.operator("bob")
	put := func(name string) error {
		t.Helper()
		header := record.Header{Ring: n.ringKey.ID, Key: record.Key{Kind: "gadget", Name: name}, Generation: 1, Author: "bob", Created: time.Now()}
		envelope, err := record.Sign(header, []byte(`{}`), bob)
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.PutRecord(t.Context(), "gadget", name, envelope)
		return err
	}
	if put("a") == nil {
		t.Error("a stranger's record is taken")
	}
	n.write("trust.d/bob.pub", string(bob.Public().Marshal()), 0o644)
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := put("b"); err != nil {
		t.Errorf("bob is trusted since the reload: %v", err)
	}
	if err := os.Remove(n.path("trust.d/bob.pub")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if put("c") == nil {
		t.Error("bob's record is taken after he went")
	}
}
