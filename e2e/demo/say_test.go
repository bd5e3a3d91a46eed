package main

import (
	"strings"
	"testing"
)

// What a command tells on stderr stands where it was told, not after the rest.
func TestShowsOutputInOrder(t *testing.T) {
	var shown strings.Builder
	tell := teller{out: &shown, env: []string{"WORD=three"}}
	out, err := tell.sh(t.Context(), `echo one; echo two >&2; echo $WORD`)
	if err != nil || out != "one\ntwo\nthree\n" {
		t.Errorf("it returned %q, %v", out, err)
	}
	if want := "  one\n  two\n  three\n"; !strings.HasSuffix(shown.String(), want) {
		t.Errorf("it showed %q, want an end of %q", shown.String(), want)
	}
	if out, err := tell.sh(t.Context(), `echo so far; exit 3`); err == nil || !strings.Contains(err.Error(), "exit 3") || out != "so far\n" {
		t.Errorf("a command that exits with 3: %q, %v", out, err)
	}
}
