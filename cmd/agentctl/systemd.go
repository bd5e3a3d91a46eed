package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/agentd/agentd/api"
)

// unit is agentd's systemd unit.
const unit = "agentd.service"

const (
	// upWithin is how long init and join wait for agentd, and for the ring; a
	// fresh node needs a few seconds.
	upWithin = 30 * time.Second
	// syncWithin is how long a join waits for the ring's records after it met the
	// ring: they come anyway.
	syncWithin = 10 * time.Second
	// upEvery is how often they look.
	upEvery = 200 * time.Millisecond
)

// systemctl runs it and returns what it said.
func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// lastLines returns what a unit logged last since the machine was booted: its own words
// or, where it had none, systemd's about it.
func lastLines(ctx context.Context, unit string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, which := range []string{"_SYSTEMD_UNIT=" + unit, "--unit=" + unit} {
		out, err := exec.CommandContext(ctx, "journalctl", which, "--boot", "--lines=10", "--no-pager", "--quiet", "--output=cat").Output()
		if err == nil && len(out) > 0 {
			return string(out)
		}
	}
	return "" // there may be no journal
}

// bootedBySystemd reports whether systemd runs this machine (sd_booted(3)).
func bootedBySystemd() bool {
	info, err := os.Stat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// hasUnit reports whether agentd of this folder is run by systemd here.
func (a *app) hasUnit(ctx context.Context, dir string) bool {
	return dir == a.installed && a.booted() && a.systemctl(ctx, "cat", unit) == nil
}

// startUnit returns once the unit said that it is ready.
func (a *app) startUnit(ctx context.Context) error {
	a.notef("starting %s", unit)
	err := a.systemctl(ctx, "enable", "--now", unit)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return a.withJournal(ctx, err)
}

// withJournal shows what agentd logged last.
func (a *app) withJournal(ctx context.Context, err error) error {
	for line := range strings.Lines(a.journal(ctx, unit)) {
		if line = strings.TrimSpace(clean(line)); line != "" {
			fmt.Fprintf(a.stderr, "| %s\n", line)
		}
	}
	return withHint(err, "see: sudo systemctl status agentd, sudo journalctl -u agentd; once it is mended: sudo systemctl start agentd")
}

// start runs agentd by systemd and waits for it, or says how to run it.
func (a *app) start(ctx context.Context, n node, noStart, others bool) error {
	if unit := a.hasUnit(ctx, n.dir); noStart || !unit {
		command := "sudo agentd"
		switch {
		case n.dir != a.installed:
			command = "agentd --config " + n.configFile()
		case unit:
			command = "sudo systemctl enable --now agentd"
		}
		fmt.Fprintf(a.stdout, "next: start agentd: %s\n", command)
		return nil
	}
	if err := a.startUnit(ctx); err != nil {
		return err
	}
	c := api.NewClient(n.socket())
	defer c.Close()
	ring, err := a.untilUp(ctx, c, others)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "agentd is running, and starts with this machine")
	if others {
		words := "all hold the same records"
		if !ring.InSync {
			words = "not all records are here yet, they are on their way"
		}
		fmt.Fprintf(a.stdout, "node %s is in ring %s: %s alive; %s\n", clean(ring.Self), clean(ring.Name), plural(ring.Nodes.Alive, "node"), words)
	}
	for _, note := range ring.Notes {
		a.warnf("%s", note)
	}
	return nil
}

// untilUp waits until agentd answers and, with others, until it sees another
// node of the ring and, for a while, until both hold the same records.
func (a *app) untilUp(ctx context.Context, c *api.Client, others bool) (api.RingStatus, error) {
	limited, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	var met time.Time
	for {
		st, err := c.Status(limited, api.StatusQuery{})
		ring := st.Ring
		switch {
		case err != nil:
		case !others, ring.Nodes.Alive > 1 && ring.InSync:
			return ring, nil
		case ring.Nodes.Alive > 1 && met.IsZero():
			met = a.now()
		case ring.Nodes.Alive > 1 && a.now().Sub(met) > syncWithin:
			return ring, nil
		}
		if wait(limited, upEvery) {
			continue
		}
		switch {
		case ctx.Err() != nil:
			return ring, ctx.Err()
		case err != nil:
			return ring, a.withJournal(ctx, fmt.Errorf("agentd was started and does not answer: %w", err))
		case ring.Nodes.Alive > 1:
			return ring, nil
		}
		for _, note := range ring.Notes {
			a.warnf("%s", note)
		}
		return ring, withHint(errors.New("agentd is running, but has met no other node for "+upWithin.String()),
			"it goes on trying; check that the ring's addresses can be reached (TCP and UDP 7946, TCP 7947), then: agentctl doctor, agentctl nodes")
	}
}
