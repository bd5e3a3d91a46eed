package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/spec/record"
)

// older is a commit of this repository whose agentd has to get on with the
// present one: the last before rollouts went from node to node.
const older = "d35467a52d3b8a55748d87fc19ec8f5386c0bf82"

// olderPrograms builds the programs of that commit, once, and returns their
// folder; "" where there is no repository, or a shallow one.
var olderPrograms = sync.OnceValues(func() (string, error) {
	git := func(args ...string) *exec.Cmd {
		// Whoever owns the clone: nothing in it is run by git.
		return exec.Command("git", append([]string{"-C", "..", "-c", "safe.directory=*"}, args...)...)
	}
	if git("rev-parse", "--git-dir").Run() != nil {
		return "", nil
	}
	if err := git("cat-file", "-e", older+"^{commit}").Run(); err != nil {
		if shallow, _ := git("rev-parse", "--is-shallow-repository").Output(); strings.TrimSpace(string(shallow)) == "true" {
			return "", nil // git fetch --unshallow gets it
		}
		return "", fmt.Errorf("commit %.12s is not in this clone", older)
	}
	tree, bin := filepath.Join(archiveDir, "older"), filepath.Join(archiveDir, "older-bin")
	if err := errors.Join(os.Mkdir(tree, 0o755), os.Mkdir(bin, 0o755)); err != nil {
		return "", err
	}
	archive, err := git("archive", older).Output()
	if err != nil {
		return "", fmt.Errorf("git archive %.12s: %w", older, err)
	}
	untar := exec.Command("tar", "-x", "-C", tree)
	untar.Stdin = bytes.NewReader(archive)
	if out, err := untar.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %.12s: %w: %s", older, err, out)
	}
	build := exec.Command("go", "build", "-C", tree, "-trimpath", "-buildvcs=false", "-ldflags=-X main.version=0.0.9-older", "-o", bin+"/", "./cmd/agentd", "./cmd/agentctl", "./cmd/agentd-log")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %.12s: %w: %s", older, err, out)
	}
	return bin, nil
})

// startOlder starts a node's agent with the older program.
func (w *world) startOlder(node, bin string) {
	w.t.Helper()
	n := w.Node(node)
	argv, err := n.AgentArgs()
	w.must(err)
	argv[0] = filepath.Join(bin, "agentd")
	n.Agent, err = lab.StartProcess(lab.ProcessConfig{ID: w.ID, NetNS: n.NetNS, Args: argv, Log: n.AgentLog()})
	w.must(err)
	w.eventually("the older agentd on "+node, func(ctx context.Context) error {
		_, err := n.Status(ctx)
		return err
	})
}

// held are the records that a node holds, by key, byte by byte.
func (w *world) held(node string) map[string]string {
	w.t.Helper()
	code, text := w.request(node, http.MethodGet, "/v1/records", nil)
	var list api.Records
	if err := json.Unmarshal(text, &list); err != nil || code != http.StatusOK {
		w.t.Fatalf("records of %s: %d %s", node, code, text)
	}
	out := map[string]string{}
	for _, r := range list.Records {
		out[r.Kind+"/"+r.Name] += string(r.Envelope)
	}
	return out
}

// holds waits until a node holds exactly these records.
func (w *world) holds(node string, want map[string]string) {
	w.t.Helper()
	w.eventually(node+" holds what the ring holds", func(context.Context) error {
		if got := w.held(node); !maps.Equal(got, want) {
			return fmt.Errorf("it holds %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		return nil
	})
}

// version is that of a daemon's record on a node.
func (w *world) version(node, daemon string) record.Version {
	w.t.Helper()
	code, text := w.request(node, http.MethodGet, "/v1/records/daemon/"+daemon, nil)
	var r api.Record
	if err := json.Unmarshal(text, &r); err != nil || code != http.StatusOK {
		w.t.Fatalf("record of %s on %s: %d %s", daemon, node, code, text)
	}
	digest, err := record.ParseDigest(r.Digest)
	w.must(err)
	return record.Version{Generation: r.Generation, Digest: digest}
}

// putSigned signs a record with the lab's operator key and gives it to a node.
func (w *world) putSigned(node string, key record.Key, body []byte) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.Home(), ".config", "agentd", "operator.key"))
	w.must(err)
	operator, err := record.ParsePrivateKey(text)
	w.must(err)
	var list api.Records
	_, records := w.request(node, http.MethodGet, "/v1/records", nil)
	w.must(json.Unmarshal(records, &list))
	id, err := record.ParseRingID(list.Ring)
	w.must(err)
	envelope, err := record.Sign(record.Header{Ring: id, Key: key, Generation: 1, Author: "test", Created: time.Now()}, body, operator)
	w.must(err)
	if code, said := w.request(node, http.MethodPut, "/v1/records/"+string(key.Kind)+"/"+key.Name, envelope); code >= 300 {
		w.t.Fatalf("put %s on %s: %d %s", key, node, code, said)
	}
}

// Two versions make one ring: the older one runs what it understands, and
// stores and passes on the rest; and one data_dir serves both, forth and back.
//
// conformance: F4
func TestTwoVersions(t *testing.T) {
	lab.Require(t, "root", "containerd", "netns", "nft", "bin")
	bin, err := olderPrograms()
	if err != nil {
		t.Fatal(err)
	}
	if bin == "" {
		t.Skip("needs a whole clone of the repository: an older version is built from its history")
	}
	w := newWorld(t)
	for _, name := range []string{"n1", "n2", "n3"} {
		_, err := w.AddNode(w.ctx, name)
		w.must(err)
	}
	n1, n2, n3 := w.Node("n1"), w.Node("n2"), w.Node("n3")
	w.must(w.Enter(w.ctx, n1))
	w.must(w.Prepare(w.ctx, n2))
	w.startOlder("n2", bin)
	w.must(w.Agree(w.ctx, settle))

	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1", "n2")
	// A daemon with keys that the older one does not know is held there, and says
	// what helps: running it without them would be something else.
	w.apply("n1", "later", "[update]\nmin_ready = \"1s\"\n")
	w.one("n1", "later")
	w.state("n2", "later", api.StateBlocked, func(d api.NodeDaemon) bool { return strings.Contains(d.Reason, "upgrade agentd on this node") })
	// It keeps what it cannot read: the word of an operator about a rollout, and a
	// kind that no version knows.
	pause, err := record.EncodePause(record.Pause{Daemon: "web", Paused: true, Version: w.version("n1", "web")})
	w.must(err)
	w.putSigned("n1", record.PauseKey("web"), pause)
	w.putSigned("n1", record.Key{Kind: "gadget", Name: "x"}, []byte(`{"schema":9,"size":1}`))
	all := w.held("n1")
	w.holds("n2", all)

	// Whoever comes later gets it all from the older one alone.
	w.must(n1.StopAgent())
	token, err := n2.Token(w.ctx)
	w.must(err)
	w.must(n3.Join(w.ctx, token))
	w.must(n3.StartAgent(w.ctx))
	w.holds("n3", all)
	w.one("n3", "web")
	w.must(n1.StartAgent(w.ctx))
	w.must(w.Agree(w.ctx, settle))

	// An older agentctl reads a newer agentd.
	status, err := n1.Exec(w.ctx, filepath.Join(bin, "agentctl"), "--socket", n1.Socket(), "status")
	w.must(err)
	if status.Code != 0 || !strings.Contains(status.Stdout, "web") {
		t.Errorf("an older agentctl: exit %d: %s", status.Code, status.Output())
	}
	// The newer one tells of the difference.
	if out := w.ok("n1", "version"); !strings.Contains(out, "0.0.9-older on n2") || !strings.Contains(out, "2 versions of agentd run") {
		t.Errorf("agentctl version tells nothing of the older agentd:\n%s", out)
	}

	// Upgraded and downgraded in place, with nothing lost and nothing restarted.
	// What the newer one started, the older one leaves alone.
	var later map[string]lab.Container
	for _, to := range []string{"newer", "older", "newer", "older"} {
		w.must(n2.StopAgent())
		if to == "newer" {
			w.must(n2.StartAgent(w.ctx))
		} else {
			w.startOlder("n2", bin)
		}
		w.must(w.Agree(w.ctx, settle))
		w.holds("n2", all)
		if later == nil {
			later = w.everywhere("later", "n2")
		}
		w.untouched("web", seen, "n2")
		w.untouched("later", later, "n2")
	}
	// And the ring goes on: what the newer one writes now, the older one runs.
	w.apply("n3", "side", "")
	w.everywhere("side", "n1", "n2", "n3")
	w.untouched("web", seen, "n1", "n2")
}
