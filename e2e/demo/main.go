// Command demo tells, step by step, what agentd does: on this one machine it
// makes what looks like four, each with a network namespace and a containerd
// of its own, and lets them run a real daemon as a ring.
//
// Every step shows the command that is run, and is judged by containerd's own
// client and by /proc, never by what agentd says of itself. It ends with exit
// code 0 only if every step held and nothing was left behind.
//
//	demo         the story, then stays up until Ctrl-C
//	demo -down   removes what an interrupted demo left
//
// DEMO_ONCE=1 does not stay up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/agentd/agentd/e2e/lab"
)

func main() {
	// SIGPIPE too: when `make demo | head` closes our output, we still clean up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, os.Args[1:], os.Stdout, os.Getenv)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer, getenv func(string) string) error {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	down := fs.Bool("down", false, "remove what an interrupted demo left, and exit")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("it makes network namespaces and runs containers, so it has to be root: sudo make demo")
	}
	lock, err := takeLock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if *down {
		return sweep(stdout)
	}
	// The commands shown say bin/…: they are typed in the sources' folder.
	root, err := lab.Root()
	if err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("go to the sources: %w", err)
	}
	return tell(ctx, stdout, getenv("DEMO_ONCE") != "")
}
