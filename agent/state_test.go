package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/agent/supervise"
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

// A machine that is a container keeps its host's kernel over a reboot; its init
// is another.
func TestBootName(t *testing.T) {
	stat := func(start string) string {
		return "1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 " + start + " 100 200"
	}
	if got := bootName("4f1c\n", stat("717")); got != "4f1c.717" {
		t.Errorf("%q, want the kernel's boot and the start of init", got)
	}
	for _, torn := range []string{"", "1 (init) S 0", "garbage"} {
		if got := bootName("4f1c\n", torn); got != "4f1c" {
			t.Errorf("with %q: %q, want the kernel's boot alone", torn, got)
		}
	}
	if got := bootName("", stat("717")); got != "" {
		t.Errorf("without the kernel's boot: %q", got)
	}

	dir := t.TempDir()
	for _, c := range []struct {
		machine string
		want    bool
	}{
		{"4f1c", false},     // an older agentd's, and the first
		{"4f1c.717", false}, // the same boot, as this one writes it
		{"4f1c.717", false},
		{"4f1c.9000", true},
		{"", true},
		{"4f1c.9000", true},
	} {
		if _, rebooted, _, err := nextBoot(dir, c.machine); err != nil || rebooted != c.want {
			t.Errorf("%q: rebooted %v, want %v (%v)", c.machine, rebooted, c.want, err)
		}
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

// What a supervisor reports before it was told what is wanted must not pass for
// this node's word on that: a daemon that is left over from before a boot would
// seem to be placed nowhere, and the machine to be ready.
func TestRowFromBeforeAnythingWasWanted(t *testing.T) {
	r := supervise.Report{Name: "web", State: "stopped", Container: "web"}
	if row := statementRow(r, 5); row.Observed != 0 {
		t.Errorf("it speaks of generation %d", row.Observed)
	}
	r.Told = true
	if row := statementRow(r, 5); row.Observed != 5 {
		t.Errorf("told, it speaks of generation %d, want 5", row.Observed)
	}
}
