package main

import (
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/agentd/agentd/agent/doctor"
	"github.com/agentd/agentd/api"
)

// Exit codes, as docs/man/agentctl.1 names them.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotReady = 3 // status NAME, why: not ready everywhere it is placed
	exitUnknown  = 4 // status NAME, why: no such daemon
)

// defaultDir is where an installed node has its configuration.
const defaultDir = "/etc/agentd"

// app is one run of agentctl: its streams, its global flags and what it knows
// of the machine that tests replace.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	env    func(string) string
	now    func() time.Time
	agents func() []int // processes named agentd
	// What the machine's interfaces and systemd say.
	addresses func() []string
	systemctl func(ctx context.Context, args ...string) error
	journal   func(ctx context.Context, unit string) string
	booted    func() bool // by systemd
	installed string      // the folder whose agentd is the unit's
	machine   func() doctor.Machine

	socket   string // --socket
	keyFile  string // --key
	output   string // --output
	noHeader bool   // --no-header
	color    string // --color
}

// run is agentctl: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: env, now: time.Now, agents: api.RunningAgents,
		addresses: localAddresses, systemctl: systemctl, journal: lastLines, booted: bootedBySystemd, installed: defaultDir, machine: doctor.This}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	return a.report(err)
}

// client returns a client for the socket that was asked for.
func (a *app) client() *api.Client { return api.NewClient(a.socketPath()) }

func (a *app) socketPath() string {
	if a.socket != "" {
		return a.socket
	}
	if s := a.env("AGENTCTL_SOCKET"); s != "" {
		return s
	}
	return api.DefaultSocket
}

// isTerminal reports whether a stream is one that a person looks at or types on.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colored reports whether words on stdout get colours.
func (a *app) colored() bool {
	switch a.color {
	case "always":
		return true
	case "never":
		return false
	}
	return a.env("NO_COLOR") == "" && a.env("TERM") != "dumb" && isTerminal(a.stdout)
}
