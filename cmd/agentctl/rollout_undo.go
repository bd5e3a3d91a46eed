package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

type undoOptions struct {
	to   int // revision; 0: the newest older one
	yes  bool
	wait time.Duration // 0: don't
}

func (a *app) rolloutUndoCommand() *cobra.Command {
	var o undoOptions
	cmd := &cobra.Command{
		Use: "undo NAME [--to N]", Short: "Go back to an older revision",
		Long: `Goes back to the newest older revision that differs in what runs, or to
revision N of rollout history: its whole file is applied once more, as a new
revision, in turns like any other update. Nodes that still run it are left
alone. After a delete it brings back what was deleted.`,
		Example: `  agentctl rollout undo node-exporter
  agentctl rollout undo node-exporter --to 3 --wait`,
		Annotations: formats("json", "name"), Args: oneDaemon,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.wait < 0:
				return usagef("", "--wait is negative")
			case o.to < 0 || o.to == 0 && cmd.Flags().Changed("to"):
				return usagef("see: agentctl rollout history "+args[0], "--to is not the number of a revision")
			}
			return cannot("undo "+args[0], a.undo(cmd.Context(), args[0], o))
		},
	}
	cmd.Flags().IntVar(&o.to, "to", 0, "the `revision` to go back to")
	addWait(cmd, &o.wait)
	addYes(cmd, &o.yes)
	return cmd
}

func (a *app) rolloutRestartCommand() *cobra.Command {
	var yes bool
	var atMost time.Duration
	cmd := &cobra.Command{
		Use: "restart NAME", Short: "Restart a daemon everywhere, in turns",
		Long: `Restarts a daemon on every node, in turns, as a new revision that differs in
nothing else. To restart it on this node only: agentctl restart.`,
		Example:     "  agentctl rollout restart node-exporter --wait",
		Annotations: formats("json", "name"), Args: oneDaemon,
		RunE: func(cmd *cobra.Command, args []string) error {
			if atMost < 0 {
				return usagef("", "--wait is negative")
			}
			return cannot("restart "+args[0], a.restartAll(cmd.Context(), args[0], yes, atMost))
		},
	}
	addWait(cmd, &atMost)
	addYes(cmd, &yes)
	return cmd
}

func addWait(cmd *cobra.Command, d *time.Duration) {
	cmd.Flags().DurationVar(d, "wait", 0, "wait until it runs everywhere, at most this long")
	cmd.Flags().Lookup("wait").NoOptDefVal = "5m"
}

func (a *app) undo(ctx context.Context, name string, o undoOptions) error {
	c := a.client()
	defer c.Close()
	s, err := a.steer(ctx, c, name)
	if err != nil && !s.cur.deleted {
		return err
	}
	history, err := c.History(ctx, name)
	if err != nil {
		return err
	}
	rev, err := revisionToUndo(history, s.cur, o.to)
	if err != nil {
		return err
	}
	want, err := spec.Decode(rev.Spec)
	if err != nil {
		return newer(record.Key{Kind: record.KindDaemon, Name: name}, err)
	}
	if want.Name != name {
		return fmt.Errorf("agentd answered with daemon %q", want.Name)
	}
	a.notef("back to revision %d of %s: %s", rev.Revision, rev.Created.UTC().Format(time.RFC3339), rev.Image)
	return a.again(ctx, c, s, redo{want: want, result: resultUndone, yes: o.yes, wait: o.wait,
		question: fmt.Sprintf("Bring daemon %s of ring %s back to revision %d?", name, s.ring.name, rev.Revision)})
}

// revisionToUndo picks from a history, newest first: revision to, or the newest
// one whose running part is not what the ring has now. What was deleted differs
// from what the ring has, which is nothing.
func revisionToUndo(h api.History, cur current, to int) (api.Revision, error) {
	var now string
	if cur.live() {
		now = cur.spec.Digest()
	}
	var kept []int
	for _, r := range h.Revisions {
		if r.Delete || len(r.Spec) == 0 {
			continue
		}
		kept = append(kept, r.Revision)
		if to == r.Revision || to == 0 && r.Digest != now {
			return r, nil
		}
	}
	if to == 0 {
		return api.Revision{}, errors.New("there is no older revision that differs in what runs")
	}
	err := fmt.Errorf("there is no revision %d", to)
	if len(kept) > 0 {
		return api.Revision{}, withHint(err, "revisions %d to %d are kept; see: agentctl rollout history %s", kept[len(kept)-1], kept[0], h.Daemon)
	}
	return api.Revision{}, err
}

func (a *app) restartAll(ctx context.Context, name string, yes bool, atMost time.Duration) error {
	c := a.client()
	defer c.Close()
	s, err := a.steer(ctx, c, name)
	if err != nil {
		return err
	}
	want := *s.cur.spec
	if want.RestartNonce, err = newNonce(); err != nil {
		return err
	}
	return a.again(ctx, c, s, redo{want: want, result: resultRestarted, yes: yes, wait: atMost,
		question: fmt.Sprintf("Restart daemon %s of ring %s everywhere?", name, s.ring.name)})
}

// newNonce makes the digest another one than any before.
func newNonce() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw a random number: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// redo is a daemon that is applied, and did not come from a file.
type redo struct {
	want     spec.Daemon
	result   string // what it is called when it landed
	question string
	yes      bool
	wait     time.Duration
}

func (a *app) again(ctx context.Context, c *api.Client, s steered, r redo) error {
	key, err := a.operatorKey()
	if err != nil {
		return err
	}
	ch, err := planExactly(r.want, s.cur, s.ring, s.seen)
	if err != nil {
		return err
	}
	if ch.result != resultUnchanged {
		ch.result = r.result
	}
	plan := []change{ch}
	warnings, err := checkDepends(ctx, c, s.ring, plan)
	if err != nil {
		return err
	}
	a.showPlan(plan, false)
	a.warnAll(warnings)
	a.warnAll(ch.warnings())
	if ch.result != resultUnchanged {
		if err := a.confirm(ctx, r.yes, "%s", r.question); err != nil {
			return err
		}
	}
	if err := a.carryOut(ctx, c, s.ring, key, plan, r.wait); err != nil {
		return &saidError{err} // it was not the wish that failed
	}
	return nil
}
