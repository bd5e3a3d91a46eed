package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

// reconnectEvery is how often a stream that broke off is asked for again.
const reconnectEvery = time.Second

// parseSince reads a point in time: a duration before now (Go's, and days as in
// 2d), or a time, which is local unless it says otherwise.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); err != nil && ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err == nil {
		if d < 0 {
			return time.Time{}, usagef("use a duration without a sign: --since 10m", "--since %s lies in the future", text)
		}
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("use a duration or a time: --since 10m, --since 2d, --since 2006-01-02T15:04:05Z", "--since does not understand %q", text)
}

// tailFlag is --tail: a number of lines, or all.
type tailFlag int

func (t *tailFlag) String() string {
	if *t < 0 {
		return "all"
	}
	return strconv.Itoa(int(*t))
}

func (t *tailFlag) Set(text string) error {
	if text == "all" {
		*t = api.AllLines
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("use a number of lines, or all")
	}
	*t = tailFlag(n)
	return nil
}

func (t *tailFlag) Type() string { return "N" }

// addTail adds --tail and --since.
func addTail(cmd *cobra.Command, tail *tailFlag, since *string) {
	*tail = api.AllLines
	cmd.Flags().Var(tail, "tail", "only the newest `N`")
	cmd.Flags().StringVar(since, "since", "", "only what is not older than this `TIME`: 10m, 2d, 2006-01-02T15:04:05Z")
}

// follow calls read, which returns when its stream ends. A stream that ends
// because agentd is restarted is asked for again; begun says whether read got
// an answer at all, since nobody waits for an agentd that never was there.
func (a *app) follow(ctx context.Context, begun func() bool, read func() error) error {
	told := false
	for {
		err := read()
		select {
		case <-ctx.Done():
			return nil // somebody had enough
		default:
		}
		switch {
		case !begun() || !restarting(err):
			return err
		case !told:
			told = true
			a.notef("agentd went away (%v); waiting for it", err)
		}
		if !wait(ctx, reconnectEvery) {
			return nil
		}
	}
}

// restarting reports whether an error may be one of an agentd that comes back.
func restarting(err error) bool {
	var unreachable *api.UnreachableError
	var problem *api.Problem
	return errors.As(err, &unreachable) || errors.As(err, &problem) && problem.Status == http.StatusServiceUnavailable
}

// onlyHere refuses another node than this one: what it holds of its containers
// is only asked for on the spot.
func onlyHere(ctx context.Context, c *api.Client, node, what string) error {
	if node == "" {
		return nil
	}
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	if node == info.Node {
		return nil
	}
	if err := checkNode(ctx, c, node); err != nil {
		return err
	}
	return withHint(fmt.Errorf("this is %s, and another node's containers can't be reached from here in this version", info.Node),
		"on %s: sudo agentctl %s", node, what)
}
