package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/agent/doctor"
	"github.com/agentd/agentd/api"
)

// testApp is an app without a machine around it.
func testApp(t *testing.T) (a *app, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	env := map[string]string{"HOME": t.TempDir(), "USER": "alice"}
	return &app{
		stdin: strings.NewReader(""), stdout: stdout, stderr: stderr,
		env: func(k string) string { return env[k] }, now: time.Now,
		agents:    func() []int { return nil },
		addresses: func() []string { return []string{"10.0.0.1"} },
		systemctl: func(context.Context, ...string) error { return errors.New("no systemd here") },
		journal:   func(context.Context, string) string { return "" },
		booted:    func() bool { return false }, installed: defaultDir,
		machine: doctor.This,
	}, stdout, stderr
}

// The words for an agentd that is not there, exactly.
func TestUnreachableExactly(t *testing.T) {
	if _, err := os.Lstat(api.DefaultSocket); err == nil {
		t.Skip("an agentd runs on this machine")
	}
	a, stdout, stderr := testApp(t)
	if code := a.run(t.Context(), []string{"status"}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	want := `agentctl: cannot reach agentd at /run/agentd/agentd.sock: no such file
hint: agentd is not running; try: sudo systemctl start agentd
`
	if stderr.String() != want || stdout.Len() > 0 {
		t.Errorf("stdout %q, stderr:\n%s", stdout, stderr)
	}

	// Another agentd on the machine is worth a line.
	a, _, stderr = testApp(t)
	a.agents = func() []int { return []int{4242} }
	a.run(t.Context(), []string{"status"})
	if want += "hint: an agentd runs as process 4242, with another [api] socket; see --socket\n"; stderr.String() != want {
		t.Errorf("stderr:\n%s", stderr)
	}
}

// Every command can be explained: generated pages need all three texts.
func TestEveryCommandIsDocumented(t *testing.T) {
	a, _, _ := testApp(t)
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s: short %q, long %q, example %q", cmd.CommandPath(), cmd.Short, cmd.Long, cmd.Example)
		}
		if strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 60 {
			t.Errorf("%s: short text %q", cmd.CommandPath(), cmd.Short)
		}
		for _, line := range strings.Split(cmd.Long, "\n") {
			if len(line) > 80 {
				t.Errorf("%s: a line of %d bytes: %q", cmd.CommandPath(), len(line), line)
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(a.rootCommand())
}

// The surface that the contract names, so that none is lost.
func TestSurface(t *testing.T) {
	a, _, _ := testApp(t)
	root := a.rootCommand()
	for _, line := range []string{"init", "token", "join", "leave", "apply", "diff", "export", "validate", "convert", "delete", "status", "why", "nodes",
		"rollout status", "rollout history", "rollout undo", "rollout pause", "rollout resume", "rollout restart", "rollout skip",
		"logs", "exec", "restart", "label", "taint", "cordon", "uncordon", "drain", "forget", "events",
		"key new", "key list", "key rotate", "image import", "image list", "image prune", "doctor", "completion", "version"} {
		words := strings.Fields(line)
		cmd, rest, err := root.Find(words)
		if err != nil || len(rest) > 0 || cmd.Name() != words[len(words)-1] {
			t.Errorf("%s: %v %q %v", line, cmd.CommandPath(), rest, err)
		}
	}
}

func TestSocketPath(t *testing.T) {
	a, _, _ := testApp(t)
	if got := a.socketPath(); got != api.DefaultSocket {
		t.Errorf("default %q", got)
	}
	a.env = func(k string) string { return map[string]string{"AGENTCTL_SOCKET": "/env"}[k] }
	if got := a.socketPath(); got != "/env" {
		t.Errorf("environment %q", got)
	}
	a.socket = "/flag"
	if got := a.socketPath(); got != "/flag" {
		t.Errorf("flag %q", got)
	}
}

// An installed node is started by systemd; init waits until agentd answers.
func TestStartBySystemd(t *testing.T) {
	a, _, _ := testApp(t)
	var calls []string
	a.systemctl = func(_ context.Context, args ...string) error {
		calls = append(calls, strings.Join(args, " "))
		return nil
	}
	if a.hasUnit(t.Context(), t.TempDir()) {
		t.Error("a folder that is not /etc/agentd is systemd's")
	}
	if err := a.startUnit(t.Context()); err != nil || calls[len(calls)-1] != "enable --now agentd.service" {
		t.Errorf("%q: %v", calls, err)
	}
	a.systemctl = func(context.Context, ...string) error { return errors.New("unit failed") }
	if err := a.startUnit(t.Context()); err == nil || len(a.hints(err)) == 0 {
		t.Errorf("a failed start: %v", err)
	}
}

// What is configured for /etc/agentd keeps the standard places.
func TestInstalledNodeKeepsStandardPlaces(t *testing.T) {
	n := node{dir: defaultDir, name: "web-1", ring: "prod"}
	text := string(n.toml())
	for _, key := range []string{"data_dir", "socket"} {
		if strings.Contains(text, key) {
			t.Errorf("%s is set:\n%s", key, text)
		}
	}
	if n.socket() != api.DefaultSocket || !strings.Contains(text, `key_file = "/etc/agentd/ring.key"`) {
		t.Errorf("socket %s, configuration:\n%s", n.socket(), text)
	}
}

// A failure in the middle takes back what was written.
func TestWriteNewIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := writeNew([]newFile{{path: filepath.Join(dir, "a"), data: []byte("a"), mode: 0o600}, {path: taken, data: []byte("new"), mode: 0o600}})
	if err == nil {
		t.Fatal("no error")
	}
	if _, err := os.Lstat(filepath.Join(dir, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first file stayed: %v", err)
	}
	if b, _ := os.ReadFile(taken); string(b) != "old" {
		t.Errorf("the file that was there is now %q", b)
	}
}
