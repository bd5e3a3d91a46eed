package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd/agentd/agent/doctor"
	"github.com/agentd/agentd/e2e/lab"
)

// A reload moves daemons by what it says of the node, and touches nothing else:
// neither the ring, nor the listeners, nor a container that stays.
//
// conformance: F5
func TestReload(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	w.apply("n1", "edge", `selector = { role = "edge" }`)
	seen := w.everywhere("web", "n1", "n2")
	n := w.Node("n2")
	drop := filepath.Join(filepath.Dir(n.DropIn()), "60-reload.toml")
	pid := n.Agent.PID
	reload := func(text string) {
		t.Helper()
		w.must(os.WriteFile(drop, []byte(text), 0o644))
		w.must(n.Agent.Signal(syscall.SIGHUP))
	}

	reload("[node]\nlabels = { role = \"edge\" }\n[ring]\nname = \"other\"\n")
	w.one("n2", "edge")
	w.none("n1", "edge")
	w.eventually("n2 tells what takes a restart", func(ctx context.Context) error {
		return noted(ctx, n, "[ring] name changed: takes a restart")
	})
	// A file that is wrong: everything stays, the label too.
	reload("[node]\nlabels = { role = \n")
	w.eventually("n2 tells that nothing was changed", func(ctx context.Context) error {
		return noted(ctx, n, "configuration not reloaded, nothing changed")
	})
	w.one("n2", "edge")
	w.refused(1, "n2", []string{"reload"}, "cannot reload: nothing was changed", "60-reload.toml")
	// A stricter policy stops nothing.
	reload("[node]\nlabels = { role = \"edge\" }\n[policy]\nimages = [\"example.org/**\"]\n")
	w.eventually("n2 tells what its policy denies", func(ctx context.Context) error {
		res, err := n.Ctl(ctx, "why", "web", "n2")
		if err == nil && !strings.Contains(res.Output(), "policy.images of this node denies it") {
			err = fmt.Errorf("why says %q", res.Output())
		}
		return err
	})
	w.untouched("web", seen, "n1", "n2")
	// The label goes, and what it had brought.
	w.must(os.Remove(drop))
	if out := w.ok("n2", "reload"); !strings.Contains(out, "node.labels changed") || !strings.Contains(out, "policy.images changed") {
		t.Errorf("reload says %q", out)
	}
	w.none("n2", "edge")
	w.untouched("web", seen, "n1", "n2")
	w.must(w.Agree(w.ctx, settle))
	if !n.Agent.Running() || n.Agent.PID != pid {
		t.Error("agentd did not live through it")
	}
}

// noted reports whether a node's status has a note that says so.
func noted(ctx context.Context, n *lab.Node, words string) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	if notes := strings.Join(st.Ring.Notes, "\n"); !strings.Contains(notes, words) {
		return fmt.Errorf("notes %q", notes)
	}
	return nil
}

// A firewall that lets out and not in is found from both sides.
func TestDoctorFindsAFirewall(t *testing.T) {
	w := newRing(t, "n1", "n2")
	reach := func(ctx context.Context, name string) ([]doctor.Finding, error) {
		n := w.Node(name)
		argv, err := n.CtlArgs("doctor", "--config-dir", n.ConfigDir(), "-o", "json")
		if err != nil {
			return nil, err
		}
		res, err := n.Exec(ctx, argv...) // it looks at its machine's ports
		if err != nil {
			return nil, err
		}
		var d struct{ Checks []doctor.Finding }
		if err := json.Unmarshal([]byte(res.Stdout), &d); err != nil {
			return nil, fmt.Errorf("%w: exit %d: %s", err, res.Code, res.Output())
		}
		var out []doctor.Finding
		for _, f := range d.Checks {
			switch {
			case f.Check == doctor.CheckReach:
				out = append(out, f)
			case f.Result == doctor.Fail && f.Check != doctor.CheckService: // the unit is the machine's, not the lab's
				return nil, fmt.Errorf("%s fails: %s", f.Check, f.Detail)
			}
		}
		return out, nil
	}
	is := func(name string, result doctor.Result, words string) {
		t.Helper()
		w.eventually("doctor on "+name, func(ctx context.Context) error {
			got, err := reach(ctx, name)
			if err == nil && (len(got) != 1 || got[0].Result != result || !strings.Contains(got[0].Detail, words)) {
				err = fmt.Errorf("%+v, want %s %q", got, result, words)
			}
			return err
		})
	}
	is("n1", doctor.OK, "both ways, to and from 1 node")
	is("n2", doctor.OK, "both ways, to and from 1 node")
	for _, rule := range []string{
		"add table inet fw", "add chain inet fw in { type filter hook input priority 0; }",
		"add rule inet fw in ct state established accept", "add rule inet fw in tcp dport 7947 drop",
	} {
		res, err := w.Node("n2").Exec(w.ctx, "nft", rule)
		if err != nil || res.Code != 0 {
			t.Fatalf("nft %s: %v: %s", rule, err, res.Output())
		}
	}
	is("n2", doctor.Fail, "n1 can't reach this node: node-to-node requests: ")
	is("n1", doctor.Fail, "n2 can't be reached from here: node-to-node requests: ")
	// Looking does no harm: nobody takes the other for a stranger.
	for _, name := range []string{"n1", "n2"} {
		st, err := w.Node(name).Status(w.ctx)
		w.must(err)
		for _, note := range st.Ring.Notes {
			if strings.Contains(note, "another ring") {
				t.Errorf("%s: %s", name, note)
			}
		}
	}
}
