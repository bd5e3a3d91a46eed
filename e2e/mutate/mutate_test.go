package mutate

import (
	"os"
	"path/filepath"
	"testing"
)

// Every mutation applies to the code as it is.
func TestMutationsApply(t *testing.T) {
	root := filepath.Join("..", "..")
	names, err := Names(root)
	if err != nil || len(names) < 2 {
		t.Fatalf("mutations %q: %v", names, err)
	}
	for _, name := range names {
		overlay, err := Overlay(root, name, t.TempDir())
		if err != nil {
			t.Error(err)
			continue
		}
		if b, err := os.ReadFile(overlay); err != nil || len(b) == 0 {
			t.Errorf("%s: %q, %v", overlay, b, err)
		}
	}
}
