package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	goruntime "runtime"
	"runtime/debug"
	"syscall"

	"github.com/agentd/agentd/agent"
	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/runtime/containerd"
)

// Version and Commit are set by the linker.
var (
	version = "0.1.0-dev"
	commit  = ""
)

const usage = `agentd keeps one container of each daemon of its ring running on this machine.

Usage:
  agentd [--config FILE]           run (normally done by systemd: agentd.service)
  agentd --check [--config FILE]   validate the configuration and print what is in effect
  agentd --version

Flags:
`

// run is the whole program. It exits 0 after a clean stop, 1 when it failed and
// 2 when it was called wrongly. Containers run on whatever happens here.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("agentd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "/etc/agentd/agentd.toml", "configuration `FILE`; drop-ins beside it in agentd.d/*.toml are merged over it")
	check := flags.Bool("check", false, "validate the configuration, print it with the file each value came from, and exit")
	showVersion := flags.Bool("version", false, "print version, commit and Go version, and exit")
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "agentd: unexpected argument %q\nhint: agentctl is the command for operators\n", flags.Arg(0))
		return 2
	}
	if *showVersion {
		fmt.Fprintf(stdout, "agentd %s (commit %s, %s)\n", version, commitOf(), goruntime.Version())
		return 0
	}
	loaded, err := config.Load(*path)
	if err != nil {
		return fail(stderr, err)
	}
	if *check {
		loaded.Print(stdout)
		if err := agent.CheckKeys(loaded.Config); err != nil {
			return fail(stderr, err)
		}
		return 0
	}
	if err := serve(ctx, loaded, stderr); err != nil {
		return fail(stderr, err)
	}
	return 0
}

// serve runs the agent until ctx ends.
func serve(ctx context.Context, loaded *config.Loaded, stderr io.Writer) error {
	cfg := loaded.Config
	level := new(slog.LevelVar)
	level.Set(levelOf(cfg.Log))
	log := slog.New(handler(cfg, level, stderr))
	// From here on a hang-up, be it of a terminal or for a reload, ends nothing.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	// An agent mostly waits, and wakes up some ten times a second: every further
	// thread that Go wakes to look for work then costs more than it does. One
	// core is plenty for what is left to do; GOMAXPROCS overrides it.
	if os.Getenv("GOMAXPROCS") == "" {
		goruntime.GOMAXPROCS(1)
	}
	rt, err := containerd.New(containerd.Config{
		Address: cfg.Runtime.Address, Namespace: cfg.Runtime.Namespace, Node: cfg.Node.Name,
		Snapshotter: cfg.Runtime.Snapshotter, RegistryDir: cfg.Runtime.RegistryDir, AuthFile: cfg.Runtime.AuthFile,
		Log: log,
	})
	if err != nil {
		return err
	}
	c := agent.Config{
		Config: loaded, Version: version, Commit: commitOf(), Runtime: rt, Log: log,
		Service: manager(log), Socket: passedSocket(log),
	}
	limits := wireOutput(&c, cfg, log)
	c.Reloaded = func(now config.Config) {
		level.Set(levelOf(now.Log))
		limits.Store(&now.Log)
	}
	a, err := agent.New(c)
	if err != nil {
		return err
	}
	log.Info("agentd runs", "version", version, "node", cfg.Node.Name, "ring", cfg.Ring.Name)
	defer reloadOn(hangup, a)()
	err = a.Run(ctx)
	if err == nil {
		log.Info("agentd stopped; containers go on")
	}
	return err
}

// fail prints what went wrong and, where somebody knows, what to do about it.
func fail(stderr io.Writer, err error) int {
	// systemd reads the number as the line's priority (sd-daemon(3)): error.
	level := ""
	if toJournal(stderr) {
		level = "<3>"
	}
	fmt.Fprintf(stderr, "%sagentd: %v\n", level, err)
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hinted.Hint())
	}
	var p *api.Problem
	if errors.As(err, &p) && p.Hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", p.Hint)
	}
	return 1
}

// commitOf falls back on what the Go tool recorded.
func commitOf() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
