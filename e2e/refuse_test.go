package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/spec/record"
)

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

// request is a raw request to a node's socket, as curl --unix-socket would do it.
func (w *world) request(node, method, path string, body []byte) (int, []byte) {
	w.t.Helper()
	socket := w.Node(node).Socket()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(w.ctx, method, "http://agentd"+path, bytes.NewReader(body))
	w.must(err)
	res, err := client.Do(req)
	w.must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	w.must(err)
	return res.StatusCode, text
}

// Only what a trusted operator signed is taken, whoever asks.
func TestUnsignedRecords(t *testing.T) {
	w := newRing(t, "n1", "n2")
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1", "n2")
	var ring api.Records
	_, list := w.request("n1", http.MethodGet, "/v1/records", nil)
	w.must(json.Unmarshal(list, &ring))
	id, err := record.ParseRingID(ring.Ring)
	w.must(err)
	stranger, err := record.GenerateKey("stranger@nowhere")
	w.must(err)
	mine := ring.Records[0].Envelope
	header := record.Header{Ring: id, Key: record.Key{Kind: "daemon", Name: "evil"}, Generation: 1, Author: "stranger", Created: time.Now()}
	wrong, err := record.Sign(header, []byte(`{}`), stranger)
	w.must(err)
	flipped := bytes.Replace(mine, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
	for _, c := range []struct {
		what, path string
		body       []byte
		words      string
	}{
		{"signed by a stranger", "/v1/records/daemon/evil", wrong, "sign"},
		{"with a broken signature", "/v1/records/daemon/web", flipped, ""},
		{"no envelope at all", "/v1/records/daemon/evil", []byte("name = \"evil\""), ""},
		{"nothing", "/v1/records/daemon/evil", nil, ""},
		{"far too large", "/v1/records/daemon/evil", bytes.Repeat([]byte("x"), 8<<20), ""},
		{"another name than it was signed for", "/v1/records/daemon/evil", mine, ""},
	} {
		code, text := w.request("n1", http.MethodPut, c.path, c.body)
		var p api.Problem
		if err := json.Unmarshal(text, &p); err != nil {
			t.Errorf("a record %s: %d is no problem document: %s", c.what, code, text)
		}
		if code < 400 || code >= 500 || p.Detail == "" || !strings.Contains(p.Detail+p.Hint, c.words) {
			t.Errorf("a record %s: %d %+v, want a 4xx with words", c.what, code, p)
		}
	}
	// The same through agentctl, with a key that nobody trusts.
	key := filepath.Join(w.Dir, "stranger.key")
	w.must(os.WriteFile(key, stranger.Marshal(), 0o600))
	w.refused(1, "n1", []string{"--key", key, "apply", "-f", w.write("evil.toml", daemon("evil", ""))}, "trust", "hint:")
	w.refused(1, "n1", []string{"--key", key + "x", "apply", "-f", w.Dir + "/evil.toml"}, "operator key")
	w.must(os.Chmod(key, 0o644))
	w.refused(1, "n1", []string{"--key", key, "apply", "-f", w.Dir + "/evil.toml"}, "chmod 600")

	w.untouched("web", seen, "n1", "n2")
	w.none("n2", "evil")
	if out := w.ok("n1", "status", "-o", "name"); strings.Contains(out, "evil") {
		t.Errorf("status lists %q", out)
	}
}

// Bad files: every error at once, with line, path and suggestion; nothing sent.
//
// conformance: B2
func TestBadFiles(t *testing.T) {
	w := newRing(t, "n1")
	bad := w.write("bad.toml", `name = "web"
image = "agentd.test/testd:1"
comand = ["/testd"]

[restrat]
policy = "always"

[stop]
grace = "5 minutes"
`)
	w.refused(1, "n1", []string{"apply", "-f", bad}, "bad.toml:3", "command", "bad.toml:5", "restart", "bad.toml:9", "stop.grace")
	w.refused(1, "n1", []string{"apply", "-f", w.write("torn.toml", "name = \"web\nimage")}, "torn.toml:1")
	w.refused(1, "n1", []string{"validate", bad}, "bad.toml:3")
	w.refused(1, "n1", []string{"apply", "-f", w.Dir + "/missing.toml"}, "missing.toml")
	// One bad file keeps all the others back.
	good := w.write("good.toml", daemon("good", ""))
	w.refused(1, "n1", []string{"apply", "-f", good, "-f", bad}, "bad.toml:3")
	if st, err := w.Node("n1").Status(w.ctx); err != nil || len(st.Daemons) != 0 {
		t.Errorf("status after refused files: %+v, %v", st.Daemons, err)
	}
	w.refused(2, "n1", []string{"aply"}, "apply")
	w.refused(2, "n1", []string{"apply"}, "-f")
	w.refused(4, "n1", []string{"why", "nobody"}, "nobody")
	w.refused(4, "n1", []string{"status", "nobody"}, "nobody")

	// agentd's own file, too: it says where and does not start.
	n1 := w.Node("n1")
	w.must(n1.StopAgent())
	drop := filepath.Join(n1.ConfigDir(), "agentd.d", "90-bad.toml")
	w.must(writeFile(drop, "[node]\nnam = \"x\"\n"))
	argv, err := n1.AgentArgs()
	w.must(err)
	for _, more := range [][]string{nil, {"--check"}} {
		res, err := n1.Exec(w.ctx, append(argv, more...)...)
		w.must(err)
		checkRefused(t, res, 1, "90-bad.toml:2", "name")
	}
	w.must(os.Remove(drop))
	w.must(os.Chmod(n1.Config(), 0o666))
	res, err := n1.Exec(w.ctx, argv...)
	w.must(err)
	checkRefused(t, res, 1, "agentd.toml")
	w.must(os.Chmod(n1.Config(), 0o644))
	w.must(n1.StartAgent(w.ctx))
}

// Without a socket, or without the right to it, agentctl says which it is.
func TestSocket(t *testing.T) {
	w := newRing(t, "n1")
	n1 := w.Node("n1")
	argv, err := n1.CtlArgs("status")
	w.must(err)
	// Everything on the way to the socket may be entered by all.
	w.must(os.Chmod(w.Dir, 0o755))
	w.must(os.Chmod(n1.Dir, 0o755))
	program := filepath.Join(w.Dir, "agentctl")
	_, err = lab.Must(w.ctx, "install", "-m", "755", argv[0], program)
	w.must(err)
	nobody := append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program}, argv[1:]...)
	res, err := lab.Exec(w.ctx, nobody...)
	w.must(err)
	checkRefused(t, res, 1, "permission", "hint:")

	w.must(n1.StopAgent())
	w.refused(1, "n1", []string{"status"}, "cannot reach agentd at "+n1.Socket(), "hint:", "agentd")
}

// A full disk refuses the apply and loses nothing; with room again it works.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	n1, err := w.AddNode(w.ctx, "n1")
	w.must(err)
	_, err = lab.Must(w.ctx, "mount", "-t", "tmpfs", "-o", "size=2m", "agentd-test", n1.DataDir())
	w.must(err)
	w.must(w.Enter(w.ctx, n1))
	w.apply("n1", "web", "")
	seen := w.everywhere("web", "n1")
	w.ready("n1", "web", 1)

	hog := filepath.Join(n1.DataDir(), "hog")
	w.must(fill(hog))
	w.refused(1, "n1", []string{"apply", "-f", w.write("next.toml", daemon("next", `env = { BIG = "`+strings.Repeat("x", 20000)+`" }`))}, "no space left", "hint:")
	w.untouched("web", seen, "n1")
	// A full disk must not keep the daemons of a machine that boots from running.
	w.must(n1.KillAgent())
	w.must(n1.StartAgent(w.ctx))
	w.ready("n1", "web", 1)
	w.untouched("web", seen, "n1")
	if log := n1.Agent.Tail(); !strings.Contains(log, "no space left") {
		t.Errorf("agentd does not say that the disk is full:\n%s", log)
	}
	old := seen["n1"].PID
	w.must(syscall.Kill(old, syscall.SIGKILL))
	w.eventually("web runs again", func(context.Context) error {
		if seen = w.everywhere("web", "n1"); seen["n1"].PID == old {
			return errors.New("it is the killed one")
		}
		return nil
	})
	w.ready("n1", "web", 1)

	w.must(os.Remove(hog))
	w.ready("n1", "web", 1)
	w.untouched("web", seen, "n1")
	w.none("n1", "next")
	w.ok("n1", "apply", "-f", w.Dir+"/next.toml")
	w.one("n1", "next")
	w.untouched("web", seen, "n1")
}

// fill writes until the file system is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		_, err := f.Write(make([]byte, size))
		var pathErr *fs.PathError
		switch {
		case errors.As(err, &pathErr) && errors.Is(pathErr.Err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
	return nil
}
