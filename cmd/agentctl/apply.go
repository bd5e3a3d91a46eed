package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

type applyOptions struct {
	files  []string
	dryRun bool
	prune  bool
	yes    bool
	wait   time.Duration // 0: don't
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use: "apply -f FILE…", GroupID: groupDaemons, Short: "Make the ring run the daemons of files",
		Long: `Makes the ring run the daemons that files describe. All files are checked before
anything is sent. Then the difference to what the ring has is shown, each
changed daemon is signed with the operator key and handed to agentd, one by one;
the first refusal stops it. It returns when three nodes (or as many as are
alive) have each daemon on their disks, and warns when that takes over 5 s.

A line per daemon says: created, configured, unchanged, failed or not-sent.
Exit code 1 unless all landed.

With --wait it also waits until every alive node that a daemon is placed on is
updated and available, showing how far it is. Exit code 1 when it was paused,
failed, was rolled back or takes too long. Cordoned nodes are not waited for.
Ctrl-C ends only the waiting.

A change of what runs goes over the nodes as [update] of the daemon says: the
difference tells the order. A node that is down is left out, and follows when it
is back.`,
		Example: `  agentctl apply -f node-exporter.toml
  agentctl apply -f daemons/ --prune --dry-run
  agentctl export | ssh other agentctl apply -f - --wait=10m`,
		Annotations: formats("json", "name"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if _, err := time.ParseDuration(args[0]); err == nil {
					return usagef("use --wait="+args[0], "apply takes no argument, but got %q", args[0])
				}
				return usagef("use: agentctl apply -f "+args[0], "apply takes its files with -f")
			}
			return needFiles(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.wait < 0 {
				return usagef("", "--wait is negative")
			}
			return a.apply(cmd.Context(), o)
		},
	}
	addFiles(cmd, &o.files)
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would change, send nothing")
	f.DurationVar(&o.wait, "wait", 0, "wait until it runs everywhere, at most this long")
	f.Lookup("wait").NoOptDefVal = "5m"
	f.BoolVar(&o.prune, "prune", false, "delete the ring's daemons that are in none of the files")
	addYes(cmd, &o.yes)
	return cmd
}

func addFiles(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "filename", "f", nil, "`FILE`, folder of .toml files, or - for stdin; may be repeated")
}

func needFiles(cmd *cobra.Command) error {
	if files, err := cmd.Flags().GetStringArray("filename"); err != nil || len(files) == 0 {
		return usagef("use: "+cmd.UseLine(), "%s needs a file: -f FILE", commandName(cmd))
	}
	return nil
}

func (a *app) apply(ctx context.Context, o applyOptions) error {
	daemons, err := a.readDaemons(o.files)
	if err != nil {
		return cannot("apply", fmt.Errorf("%w; nothing was sent", err))
	}
	if len(daemons) == 0 {
		return cannot("apply", errors.New("the files describe no daemon"))
	}
	var key record.PrivateKey
	if !o.dryRun {
		if key, err = a.operatorKey(); err != nil {
			return cannot("apply", err)
		}
	}
	c := a.client()
	defer c.Close()
	ring, plan, err := makePlan(ctx, c, daemons, o.prune)
	if err != nil {
		return cannot("apply", err)
	}
	warnings, err := checkDepends(ctx, c, ring, plan)
	if err != nil {
		return cannot("apply", fmt.Errorf("%w; nothing was sent", err))
	}
	a.showPlan(plan, o.dryRun)
	a.warnAll(warnings)
	a.warnPlan(plan)
	if o.dryRun {
		return a.printResults(plan, nil, true)
	}
	if n := changes(plan); n > 0 {
		if err := a.confirm(ctx, o.yes, "Apply %s to ring %s?", plural(n, "change"), ring.name); err != nil {
			return cannot("apply", err)
		}
	}
	return a.carryOut(ctx, c, ring, key, plan, o.wait)
}

// carryOut sends a plan, prints what became of it and, if so wished, waits.
func (a *app) carryOut(ctx context.Context, c *api.Client, ring ringView, key record.PrivateKey, plan []change, atMost time.Duration) error {
	results, err := a.sendAll(ctx, c, ring, key, plan)
	if printErr := a.printResults(plan, results, false); err == nil {
		err = printErr
	}
	if err != nil || atMost == 0 {
		return err
	}
	return a.waitFor(ctx, c, plan, results, atMost)
}

// warnPlan tells what an operator should know before this is signed.
func (a *app) warnPlan(plan []change) {
	for _, ch := range plan {
		a.warnAll(ch.warnings())
		ro := ch.seen.rollout
		if ch.result != resultUnchanged || ro == nil {
			continue
		}
		switch {
		case ro.RolledBack:
			a.notef("daemon/%s: revision %d was rolled back; to try it again: agentctl rollout restart %s", ch.name, ro.Revision, ch.name)
		case ro.Paused:
			a.notef("daemon/%s: %s", ch.name, advised(ro.PausedReason, "to go on: agentctl rollout resume %s", ch.name))
		}
	}
}

// makePlan compares the daemons with the ring; with prune, those that the ring
// has besides them are to be deleted.
func makePlan(ctx context.Context, c *api.Client, daemons []spec.Daemon, prune bool) (ringView, []change, error) {
	ring, err := readRing(ctx, c)
	if err != nil {
		return ring, nil, err
	}
	var plan []change
	for _, d := range daemons {
		cur, err := readDaemon(ctx, c, ring.id, d.Name)
		if err != nil {
			return ring, nil, err
		}
		seen, err := readSeen(ctx, c, d.Name, cur)
		if err != nil {
			return ring, nil, err
		}
		ch, err := planChange(d, cur, ring, seen)
		if err != nil {
			return ring, nil, fmt.Errorf("daemon %s: %w", d.Name, err)
		}
		plan = append(plan, ch)
	}
	if !prune {
		return ring, plan, nil
	}
	records, err := c.Records(ctx, string(record.KindDaemon))
	if err != nil {
		return ring, nil, err
	}
	for _, r := range records.Records {
		if r.Delete || slices.ContainsFunc(daemons, func(d spec.Daemon) bool { return d.Name == r.Name }) {
			continue
		}
		cur, err := readDaemon(ctx, c, ring.id, r.Name)
		if err != nil {
			return ring, nil, err
		}
		plan = append(plan, planDelete(r.Name, cur, ring.roster))
	}
	return ring, plan, nil
}

// showPlan writes the difference: to stderr, for stdout gets the results;
// after a dry run there are none, and the difference is the answer.
func (a *app) showPlan(plan []change, dryRun bool) {
	if a.output == "json" || a.output == "name" {
		return
	}
	w := a.stderr
	if dryRun {
		w = a.stdout
	}
	for _, c := range plan {
		printDiff(w, c)
	}
}

// sent is the outcome of one change.
type sent struct {
	result   string
	accepted api.Accepted
	revision int
	err      error
}

// sendAll signs and sends one by one; after the first refusal the rest is
// not sent. The error is that refusal's.
func (a *app) sendAll(ctx context.Context, c *api.Client, ring ringView, key record.PrivateKey, plan []change) ([]sent, error) {
	results := make([]sent, len(plan))
	var failed error
	for i, ch := range plan {
		switch {
		case ch.result == resultUnchanged:
			results[i].result = resultUnchanged
		case failed != nil:
			results[i].result = resultNotSent
		default:
			results[i] = a.send(ctx, c, ring, key, ch)
			if err := results[i].err; err != nil {
				failed = cannot(verbOf(ch)+" daemon/"+ch.name, err)
			}
		}
	}
	return results, failed
}

func verbOf(c change) string {
	switch c.result {
	case resultDeleted:
		return "delete"
	case resultRestarted:
		return "restart"
	case resultUndone:
		return "undo"
	}
	return "apply"
}

// send signs and sends one change.
func (a *app) send(ctx context.Context, c *api.Client, ring ringView, key record.PrivateKey, ch change) sent {
	out := sent{result: ch.result}
	fail := func(err error) sent {
		var problem *api.Problem
		if errors.As(err, &problem) && problem.Status == 409 && problem.Hint == "" {
			err = withHint(err, "somebody else changed it meanwhile; see: agentctl diff, and apply again")
		}
		return sent{result: resultFailed, err: err}
	}
	header := record.Next(ch.cur.entry, ring.id, record.Key{Kind: record.KindDaemon, Name: ch.name}, a.author(key), a.now())
	var body []byte
	if ch.result == resultDeleted {
		header.Delete = true
	} else {
		if ch.next.blob != nil {
			if err := a.sendBlob(ctx, c, ring, key, ch.next.blob); err != nil {
				return fail(err)
			}
		}
		var err error
		if body, err = record.EncodeDaemon(ch.next.body); err != nil {
			return fail(err)
		}
		out.revision = ch.next.body.Revision
	}
	envelope, err := record.Sign(header, body, key)
	if err != nil {
		return fail(err)
	}
	if out.accepted, err = c.PutRecord(ctx, string(record.KindDaemon), ch.name, envelope); err != nil {
		return fail(err)
	}
	a.warnAccepted("daemon/"+ch.name, out.accepted)
	return out
}

func (a *app) warnAll(warnings []string) {
	for _, w := range warnings {
		a.warnf("%s", w)
	}
}

// warnAccepted passes on agentd's warnings, and says when too few nodes have
// the record on disk.
func (a *app) warnAccepted(what string, acc api.Accepted) {
	for _, w := range acc.Warnings {
		a.warnf("%s: %s", what, w)
	}
	if acc.OnDisk < acc.Wanted && len(acc.Warnings) == 0 {
		a.warnf("%s is on the disks of only %d of %d nodes yet; the ring goes on spreading it", what, acc.OnDisk, acc.Wanted)
	}
}

// sendBlob brings the lanes that are too many for the record itself.
func (a *app) sendBlob(ctx context.Context, c *api.Client, ring ringView, key record.PrivateKey, blob []byte) error {
	k := record.Key{Kind: record.KindBlob, Name: record.BlobName(blob)}
	have, err := readEntry(ctx, c, ring.id, k)
	if err != nil || !have.Empty() {
		return err
	}
	envelope, err := record.Sign(record.Next(have, ring.id, k, a.author(key), a.now()), blob, key)
	if err != nil {
		return err
	}
	_, err = c.PutRecord(ctx, string(k.Kind), k.Name, envelope)
	return err
}

// printResults writes a line per daemon. results is nil for a dry run.
func (a *app) printResults(plan []change, results []sent, dryRun bool) error {
	doc := newChangesJSON(dryRun)
	for i, c := range plan {
		j := c.json()
		if results != nil {
			r := results[i]
			j.Result, j.Generation, j.Revision = r.result, r.accepted.Generation, r.revision
			j.OnDisk, j.Wanted = r.accepted.OnDisk, r.accepted.Wanted
			if r.err != nil {
				j.Error = r.err.Error()
				if hints := a.hints(r.err); len(hints) > 0 {
					j.Hint = hints[0]
				}
			}
		}
		doc.Daemons = append(doc.Daemons, j)
		switch a.output {
		case "json":
		case "name":
			if j.Result != resultFailed && j.Result != resultNotSent {
				fmt.Fprintf(a.stdout, "daemon/%s\n", c.name)
			}
		default:
			suffix := ""
			if dryRun {
				suffix = " (dry run)"
			}
			fmt.Fprintf(a.stdout, "daemon/%s %s%s\n", c.name, j.Result, suffix)
		}
	}
	if a.output == "json" {
		return printJSON(a.stdout, doc)
	}
	return nil
}
