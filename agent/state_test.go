package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/internal/durable"
	"github.com/agentd/agentd/spec/record"
)

func TestNextBootTellsARebootFromARestart(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []uint64{1, 2, 3} {
		b, rebooted, _, err := nextBoot(dir, "m1")
		if err != nil || b.Count != want || rebooted {
			t.Fatalf("start %d: count %d, rebooted %v, %v", i+1, b.Count, rebooted, err)
		}
	}
	path := filepath.Join(dir, bootFile)
	if err := durable.WriteFile(path, []byte(`{"count":3,"machine":"another-boot"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, rebooted, _, err := nextBoot(dir, "m1"); err != nil || b.Count != 4 || !rebooted {
		t.Fatalf("after a reboot: count %d, rebooted %v, %v", b.Count, rebooted, err)
	}
	// An agentd from before there were turns has no state of them to lose.
	if err := durable.WriteFile(path, []byte(`{"count":4,"machine":"m1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true} {
		if _, _, old, err := nextBoot(dir, "m1"); err != nil || old != want {
			t.Fatalf("start %d after an upgrade: turns were taken before: %v, want %v (%v)", i+1, old, want, err)
		}
	}
	// A counter that is lost must not make this node's word look old.
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, _, _, err := nextBoot(dir, "m1"); err != nil || b.Count < 1<<32 {
		t.Fatalf("after the counter was damaged: count %d, %v", b.Count, err)
	}
}

func TestBindRingKeepsTwoRingsApart(t *testing.T) {
	dir := t.TempDir()
	if err := bindRing(dir, record.RingID{1}); err != nil {
		t.Fatal(err)
	}
	if err := bindRing(dir, record.RingID{1}); err != nil {
		t.Fatalf("the same ring again: %v", err)
	}
	err := bindRing(dir, record.RingID{2})
	if err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Fatalf("another ring on the same data_dir: %v", err)
	}
}

func TestLeftOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []bool{true, false} {
		var err error
		if want {
			err = writeLeft(dir)
		} else {
			err = clearLeft(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		if left, err := readLeft(dir); err != nil || left != want {
			t.Fatalf("left is %v, %v; want %v", left, err, want)
		}
	}
}
