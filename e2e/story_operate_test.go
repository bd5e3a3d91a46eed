package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/agentd/agentd/api"
)

// An operator looks into a container, restarts it and reads its numbers.
//
// conformance: D4 H1
func TestStoryOperate(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", `env = { GREETING = "hello" }`)
	seen := w.everywhere("web", "n1", "n2")

	res := w.ctl("n1", "exec", "web", "--", "/testd", "--print-env", "--exit-code=7")
	if res.Code != 7 || !strings.Contains(res.Stdout, "GREETING=hello") || !strings.Contains(res.Stdout, "started") {
		t.Errorf("exec: exit %d, stdout %q, stderr %q", res.Code, res.Stdout, res.Stderr)
	}
	if res := w.ctl("n1", "exec", "-e", "GREETING=bye", "web", "--", "/testd", "--have=/nothing"); res.Code != 1 || res.Stdout != "" || !strings.Contains(res.Stderr, "/nothing") {
		t.Errorf("exec that fails: exit %d, stdout %q, stderr %q", res.Code, res.Stdout, res.Stderr)
	}
	if res := w.ctl("n1", "exec", "web", "--", "/nothing"); res.Code == 0 {
		t.Error("exec of a program that is not there exits 0")
	}
	w.refused(1, "n1", []string{"exec", "wep", "--", "/testd"}, "wep", "web")
	w.untouched("web", seen, "n1", "n2")

	if out := w.ok("n1", "restart", "web"); !strings.Contains(out, "n1") {
		t.Errorf("restart says %q", out)
	}
	if now := w.one("n1", "web"); now.Same(seen["n1"]) {
		t.Error("restart restarted nothing")
	}
	w.untouched("web", seen, "n2")
	w.happened("n1", "web", "who asked for it", func(e api.Event) bool { return strings.Contains(e.Reason, "operator") })
	w.refused(1, "n1", []string{"restart", "wep"}, "wep")
	w.ready("n1", "web", 2)

	var top api.Top
	w.must(json.Unmarshal([]byte(w.ok("n1", "top", "-o", "json")), &top))
	if len(top.Daemons) != 1 || top.Daemons[0].Memory == 0 || top.Daemons[0].PIDs == 0 {
		t.Errorf("top tells %+v", top)
	}
	w.eventually("the page of metrics", func(ctx context.Context) error {
		page, err := w.page(ctx, "n1", "/metrics")
		if err != nil {
			return err
		}
		for _, want := range []string{
			`agentd_daemon_placed{daemon="web"} 1`, `agentd_daemon_ready{daemon="web"} 1`,
			`agentd_daemon_state{daemon="web",state="running"} 1`, `agentd_daemon_starts_total{daemon="web"} 2`,
			`agentd_daemon_memory_bytes{daemon="web"} `, `agentd_daemon_cpu_seconds_total{daemon="web"} `,
			`agentd_ring_members{state="alive"} 2`, `agentd_runtime_up 1`,
		} {
			if !strings.Contains(page, want) {
				return fmt.Errorf("it lacks %s:\n%s", want, page)
			}
		}
		return nil
	})
}

// page gets what a node's metrics port serves, without any program but bash.
func (w *world) page(ctx context.Context, node, path string) (string, error) {
	res, err := w.Node(node).Exec(ctx, "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/9464; printf 'GET `+path+` HTTP/1.0\r\n\r\n' >&3; cat <&3`)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("exit %d: %s", res.Code, res.Output())
	}
	return res.Stdout, err
}

// A volume outlives its daemon; it is listed, kept while somebody mounts it,
// and goes when somebody says so.
//
// conformance: E5 E6
func TestStoryVolumes(t *testing.T) {
	w := newRing(t, "n1")
	volumes := func() []api.Volume {
		t.Helper()
		var list api.Volumes
		w.must(json.Unmarshal([]byte(w.ok("n1", "volumes", "list", "-o", "json")), &list))
		return list.Volumes
	}
	w.apply("n1", "web", `args = ["--marker=/state/ran"]`+volume)
	w.one("n1", "web")
	if list := volumes(); len(list) != 1 || list[0].Name != "state" || fmt.Sprint(list[0].Daemons) != "[web]" {
		t.Errorf("volumes: %+v", list)
	}
	w.refused(1, "n1", []string{"volumes", "prune", "--yes", "state"}, "web")
	w.ok("n1", "delete", "--yes", "web")
	w.none("n1", "web")
	w.eventually("nobody mounts it any more", func(context.Context) error {
		if list := volumes(); len(list) != 1 || len(list[0].Daemons) != 0 {
			return fmt.Errorf("volumes: %+v", list)
		}
		return nil
	})
	w.apply("n1", "web", `args = ["--marker=/state/ran"]`+volume)
	w.one("n1", "web")
	w.eventually("the new one finds what the old one left", func(context.Context) error {
		if got := w.runs("n1", "ran"); got != 2 {
			return fmt.Errorf("the volume counts %d starts, want 2", got)
		}
		return nil
	})
	w.ok("n1", "delete", "--yes", "web")
	w.none("n1", "web")
	w.eventually("prune removes it", func(context.Context) error {
		if out := w.ok("n1", "volumes", "prune", "--yes"); strings.Contains(out, "volume/state removed") {
			return nil
		}
		return fmt.Errorf("volumes: %+v", volumes())
	})
	if list := volumes(); len(list) != 0 {
		t.Errorf("volumes after prune: %+v", list)
	}
	if _, err := os.Stat(w.Node("n1").DataDir() + "/volumes/state"); !os.IsNotExist(err) {
		t.Errorf("the folder of a pruned volume: %v", err)
	}
}
