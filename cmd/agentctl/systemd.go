package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/agentd/agentd/api"
)

// unit is agentd's systemd unit.
const unit = "agentd.service"

// upWithin is how long init and join wait for agentd, and for the ring; a
// fresh node needs a few seconds.
const upWithin = 30 * time.Second

// systemctl runs it and returns what it said.
func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hasUnit reports whether agentd of this folder is run by systemd here.
func (a *app) hasUnit(ctx context.Context, dir string) bool {
	if dir != defaultDir {
		return false
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	return a.systemctl(ctx, "cat", unit) == nil
}

func (a *app) startUnit(ctx context.Context) error {
	if err := a.systemctl(ctx, "enable", "--now", unit); err != nil {
		return withHint(err, "see: sudo journalctl -u agentd")
	}
	return nil
}

// start runs agentd by systemd and waits for it, or says how to run it.
func (a *app) start(ctx context.Context, n node, noStart, others bool) error {
	if noStart || !a.hasUnit(ctx, n.dir) {
		command := "sudo agentd"
		if n.dir != defaultDir {
			command = "agentd --config " + n.configFile()
		}
		fmt.Fprintf(a.stdout, "next: start agentd: %s\n", command)
		return nil
	}
	if err := a.startUnit(ctx); err != nil {
		return err
	}
	c := api.NewClient(n.socket())
	defer c.Close()
	if err := a.untilUp(ctx, c, others); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "agentd is running")
	return nil
}

// untilUp waits until agentd answers and, with others, until it sees another
// node of the ring.
func (a *app) untilUp(ctx context.Context, c *api.Client, others bool) error {
	limited, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	for {
		nodes, err := c.Nodes(limited)
		if err == nil {
			alive := 0
			for _, n := range nodes.Nodes {
				if n.State == "alive" {
					alive++
				}
			}
			if !others || alive > 1 {
				return nil
			}
		}
		if wait(limited, 200*time.Millisecond) {
			continue
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return withHint(fmt.Errorf("agentd was started and does not answer: %w", err), "see: sudo journalctl -u agentd")
		}
		return withHint(fmt.Errorf("agentd is running, but has met no other node for %s", upWithin),
			"it goes on trying; check that the ring's addresses can be reached (TCP and UDP 7946, TCP 7947), then: agentctl nodes")
	}
}
