package main

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/doctor"
	"github.com/agentd/agentd/api"
)

// installedMain is agentctl on a machine that systemd runs, and whose agentd is
// installed for the folder $INSTALLED instead of /etc/agentd. systemctl and
// journalctl come from PATH.
func installedMain() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, now: time.Now, agents: api.RunningAgents,
		addresses: localAddresses, systemctl: systemctl, journal: lastLines,
		booted: func() bool { return true }, installed: os.Getenv("INSTALLED"), machine: fineMachine}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// mksocket makes a socket that nobody serves.
func mksocket() {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: os.Args[1], Net: "unix"})
	if err != nil {
		panic(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if err := os.Chmod(os.Args[1], 0o660); err != nil {
		panic(err)
	}
}

// fineMachine has nothing wrong but for what $UNSYNCED and $NOCONTAINERD say.
func fineMachine() doctor.Machine {
	m := doctor.This()
	m.Run = func(_ context.Context, name string, _ ...string) (string, error) {
		switch name {
		case "ctr":
			return "Server:\n  Version: 2.3.7\n", nil
		case "runc":
			return "runc version 1.4.2\n", nil
		case "systemctl":
			return "LoadState=not-found\n", nil
		}
		return "", errors.New("not here")
	}
	m.Space = func(string) (doctor.Space, error) { return doctor.Space{Free: 50 << 30, Size: 100 << 30}, nil }
	m.Synced = func() (bool, error) { return os.Getenv("UNSYNCED") == "", nil }
	m.Try = func(string, string) error {
		if os.Getenv("LISTENS") != "" {
			return syscall.EADDRINUSE
		}
		return nil
	}
	m.Dial = func(context.Context, string, string) error {
		if os.Getenv("NOCONTAINERD") != "" {
			return errors.New("connection refused")
		}
		return nil
	}
	return m
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
