package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
)

// installedMain is agentctl on a machine that systemd runs, and whose agentd is
// installed for the folder $INSTALLED instead of /etc/agentd. systemctl and
// journalctl come from PATH.
func installedMain() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, now: time.Now, agents: api.RunningAgents,
		addresses: localAddresses, systemctl: systemctl, journal: lastLines,
		booted: func() bool { return true }, installed: os.Getenv("INSTALLED")}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// What systemd says is not enough when agentd does not come up: its own last
// words are shown.
func TestFailedStartShowsTheJournal(t *testing.T) {
	a, _, stderr := testApp(t)
	a.systemctl = func(context.Context, ...string) error { return errors.New("Job for agentd.service failed") }
	a.journal = func(_ context.Context, unit string) string {
		return "agentd: /etc/agentd/agentd.toml:3: unknown key\n\x1b[2J" + unit + "\n\n"
	}
	err := a.startUnit(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Job for agentd.service failed") {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"agentd.toml:3: unknown key\n", "?[2Jagentd.service\n"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr %q lacks %q", stderr, want)
		}
	}
	if hints := a.hints(err); len(hints) != 1 || !strings.Contains(hints[0], "systemctl start agentd") {
		t.Errorf("hints %q", hints)
	}
}
