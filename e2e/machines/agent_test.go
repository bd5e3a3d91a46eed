package machines

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

// What can happen to agentd on machines that stay up.
func TestAgent(t *testing.T) {
	r, seen := newRing(t, "n1", "n2", "n3")
	r.story("killed", func(r ring) { agentKilled(r, seen) })
	r.story("hung", func(r ring) { agentHung(r, seen) })
	r.story("reloaded", func(r ring) { agentReloaded(r, seen) })
	r.story("second one on the same state", func(r ring) { secondAgent(r, seen) })
	r.story("record damaged on disk", func(r ring) { recordDamaged(r, seen) })
	r.story("deleted meanwhile", func(r ring) { deletedMeanwhile(r, seen) })
	r.story("stopped", func(r ring) { agentStopped(r, seen) })
	r.story("ended meanwhile", func(r ring) { endedMeanwhile(r, seen) })
}

// agentKilled: systemd brings agentd back, and it takes over what runs.
//
// conformance: F1
func agentKilled(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	old := r.agent(m, "")
	r.run(m, "kill", "-KILL", old)
	r.agent(m, old)
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
}

// agentHung: an agentd that does nothing any more is replaced by the watchdog
// of the installed unit.
//
// conformance: F1
func agentHung(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	wait := r.watchdog(m)
	old := r.agent(m, "")
	r.run(m, "kill", "-STOP", old)
	// systemd looks once per period; what comes after is the restart.
	r.pause(wait)
	r.agent(m, old)
	if why := r.run(m, "journalctl", "-q", "-u", "agentd", "-o", "cat"); !strings.Contains(why, "watchdog") {
		r.Errorf("the journal does not tell of the watchdog:\n%s", why)
	}
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
}

// watchdog is the period of the installed unit's watchdog.
func (r ring) watchdog(m *Machine) time.Duration {
	r.Helper()
	text, err := m.Unit(r.ctx, "agentd", "WatchdogUSec")
	r.must(err)
	wait, err := time.ParseDuration(strings.ReplaceAll(strings.ReplaceAll(text, "min", "m"), " ", ""))
	if err != nil || wait <= 0 || wait > 2*time.Minute {
		r.Fatalf("agentd.service has WatchdogSec=%s (%v), want up to two minutes", text, err)
	}
	return wait
}

// agentReloaded: what may change without a restart changes, and nothing else
// does.
//
// conformance: F5
func agentReloaded(r ring, seen map[string]lab.Container) {
	m := r.Machine("n3")
	pid := r.agent(m, "")
	r.must(os.MkdirAll(m.Path("/etc/agentd/agentd.d"), 0o755))
	r.must(os.WriteFile(m.Path("/etc/agentd/agentd.d/50-e2e.toml"), []byte("[node]\nlabels = { disktype = \"ssd\" }\n"), 0o644))
	r.run(m, "systemctl", "reload", "agentd")
	r.eventually("n1 sees the label", func(ctx context.Context) error {
		nodes, err := r.Machine("n1").Nodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes.Nodes {
			if n.Name == "n3" && n.Labels["disktype"] == "ssd" && n.State == "alive" {
				return nil
			}
		}
		return fmt.Errorf("%+v", nodes.Nodes)
	})
	if now := r.agent(m, ""); now != pid {
		r.Errorf("agentd was process %s and is %s", pid, now)
	}
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
	// A mistake is told, and changes nothing.
	r.must(os.WriteFile(m.Path("/etc/agentd/agentd.d/50-e2e.toml"), []byte("[node]\nlabls = {}\n"), 0o644))
	_, err := m.Exec(r.ctx, "systemctl", "reload", "agentd") // how it ends is for the journal to tell
	r.must(err)
	r.eventually("the journal tells of the mistake", func(ctx context.Context) error {
		if log := m.Journal(ctx, "agentd", 20); !strings.Contains(log, "labls") {
			return fmt.Errorf("it ends:\n%s", log)
		}
		return nil
	})
	r.must(os.Remove(m.Path("/etc/agentd/agentd.d/50-e2e.toml")))
	r.run(m, "systemctl", "reload", "agentd")
	if now := r.agent(m, ""); now != pid {
		r.Errorf("agentd was process %s and is %s", pid, now)
	}
	r.same(seen, "n1", "n2", "n3")
}

// secondAgent: two agents never share a state.
//
// conformance: F5
func secondAgent(r ring, seen map[string]lab.Container) {
	m := r.Machine("n3")
	pid := r.agent(m, "")
	res, err := m.Exec(r.ctx, "timeout", "30", "agentd")
	r.must(err)
	if res.Code == 0 || res.Code == 124 || !strings.Contains(res.Output(), "/var/lib/agentd") {
		r.Errorf("a second agentd exits %d and says: %s", res.Code, res.Output())
	}
	if now := r.agent(m, ""); now != pid {
		r.Errorf("the first agentd was process %s and is %s", pid, now)
	}
	r.same(seen, "n1", "n2", "n3")
}

// recordDamaged: a record that went bad while the agent was down is put aside
// and comes back from the ring.
//
// conformance: F4
func recordDamaged(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	r.run(m, "systemctl", "stop", "agentd")
	files, err := filepath.Glob(m.Path("/var/lib/agentd/records/*.rec"))
	r.must(err)
	if len(files) == 0 {
		r.Fatal("n2 has no records")
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		r.must(err)
		b[len(b)/2] ^= 0x40
		r.must(os.WriteFile(f, b, 0o600))
	}
	r.run(m, "systemctl", "start", "agentd")
	r.agree("n1", "n2", "n3")
	r.daemon(m, exporter, func(n api.NodeDaemon) bool { return n.Ready })
	r.same(seen, "n1", "n2", "n3")
	if aside, _ := filepath.Glob(m.Path("/var/lib/agentd/records/corrupt/*.rec")); len(aside) != len(files) {
		r.Errorf("%d records were damaged, and put aside are %q", len(files), aside)
	}
}

// deletedMeanwhile: an agent that was down during a delete stops the daemon
// when it is back.
//
// conformance: E3
func deletedMeanwhile(r ring, seen map[string]lab.Container) {
	n1, n3 := r.Machine("n1"), r.Machine("n3")
	r.must(n1.Apply(r.ctx, testd("doomed", "")))
	doomed := r.everywhere("doomed", "n1", "n2", "n3")
	r.run(n3, "systemctl", "stop", "agentd")
	r.run(n1, "agentctl", "delete", "--yes", "doomed")
	r.none(n1, "doomed")
	r.none(r.Machine("n2"), "doomed")
	r.same(doomed, "n3")
	r.run(n3, "systemctl", "start", "agentd")
	r.none(n3, "doomed")
	r.agree("n1", "n2", "n3")
	r.same(seen, "n1", "n2", "n3")
}

// agentStopped: a clean stop is a success to systemd, and stops nothing else;
// also while a container fails its health check.
//
// conformance: F5
func agentStopped(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	r.must(r.Machine("n1").Apply(r.ctx, testd("ill", `nodes = ["n2"]
[health.readiness]
exec = ["/testd", "--have", "/nowhere"]
interval = "100ms"`)))
	ill := r.one(m, "ill")
	r.run(m, "systemctl", "stop", "agentd")
	for property, want := range map[string]string{"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0", "ExecMainCode": "1"} {
		got, err := m.Unit(r.ctx, "agentd", property)
		r.must(err)
		if got != want {
			r.Errorf("stopped, agentd.service has %s=%s, want %s", property, got, want)
		}
	}
	// The ring notices, and leaves everything where it is.
	r.agree("n1", "n3")
	r.same(seen, "n1", "n2", "n3")
	r.same(map[string]lab.Container{"n2": ill}, "n2")
	r.run(m, "systemctl", "start", "agentd")
	r.agree("n1", "n2", "n3")
	r.run(r.Machine("n1"), "agentctl", "delete", "--yes", "ill")
	r.none(m, "ill")
	r.same(seen, "n1", "n2", "n3")
}

// endedMeanwhile: what ended while agentd was down is started again, once, and
// its end is told.
//
// conformance: F3
func endedMeanwhile(r ring, seen map[string]lab.Container) {
	m := r.Machine("n2")
	before := r.daemon(m, exporter, func(n api.NodeDaemon) bool { return n.Ready })
	r.run(m, "systemctl", "stop", "agentd")
	r.run(m, "kill", "-KILL", strconv.Itoa(seen["n2"].PID))
	r.eventually("the exporter ends", func(context.Context) error {
		if _, err := lab.ReadProcIn(m.Inside("proc"), seen["n2"].PID); err == nil {
			return fmt.Errorf("process %d is there", seen["n2"].PID)
		}
		return nil
	})
	r.run(m, "systemctl", "start", "agentd")
	after := r.daemon(m, exporter, func(n api.NodeDaemon) bool { return n.Ready && n.Restarts > before.Restarts })
	if after.Restarts != before.Restarts+1 || after.ExitCode == nil || *after.ExitCode != 128+int(syscall.SIGKILL) {
		r.Errorf("status tells %+v, want one more restart and code 137", after)
	}
	seen["n2"] = r.one(m, exporter)
	r.serves(m)
	r.same(seen, "n1", "n2", "n3")
}
