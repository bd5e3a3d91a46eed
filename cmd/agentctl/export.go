package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export [NAME…]", GroupID: groupDaemons, Short: "Print the ring's daemons as files that apply takes",
		Long: `Prints the daemons of the ring, or those named, as TOML that agentctl apply -f
takes back: for a backup, or to move them into another ring. Keys that have
their default are left out.`,
		Example: `  agentctl export > ring.toml
  agentctl export node-exporter | ssh other-ring agentctl apply -f -`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.export(cmd.Context(), args) },
	}
}

func (a *app) export(ctx context.Context, names []string) error {
	c := a.client()
	defer c.Close()
	records, err := c.Records(ctx, string(record.KindDaemon))
	if err != nil {
		return cannot("export", err)
	}
	ring, err := record.ParseRingID(records.Ring)
	if err != nil {
		return cannot("export", fmt.Errorf("read the ring's id: %w", err))
	}
	var daemons []spec.Daemon
	var known []string
	for _, r := range records.Records {
		if r.Delete {
			continue
		}
		known = append(known, r.Name)
		if len(names) > 0 && !slices.Contains(names, r.Name) {
			continue
		}
		entry, err := entryOf(r, ring, record.Key{Kind: record.KindDaemon, Name: r.Name})
		if err != nil {
			return cannot("export", err)
		}
		cur, err := currentOf(entry)
		if err != nil {
			return cannot("export", err)
		}
		daemons = append(daemons, *cur.spec)
	}
	var missing errorList
	for _, name := range names {
		if !slices.Contains(known, name) {
			missing = append(missing, noDaemon(name, known))
		}
	}
	if len(missing) > 0 {
		return missing
	}
	text, err := exportText(daemons)
	if err != nil {
		return cannot("export", err)
	}
	_, err = a.stdout.Write(text)
	return err
}

// exportText writes daemons as one file, and makes sure that it is read back as
// the same: a backup that can't be used is found out now.
func exportText(daemons []spec.Daemon) ([]byte, error) {
	var b bytes.Buffer
	for i, d := range daemons {
		text := spec.Format(d)
		if len(daemons) > 1 {
			if i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString("[[daemon]]\n")
			text = nested(text)
		}
		b.Write(text)
	}
	back, err := spec.Parse(b.Bytes(), "export")
	if err != nil && len(daemons) > 0 {
		return nil, fmt.Errorf("what was written can't be read back: %w", err)
	}
	for i, d := range daemons {
		d.RestartNonce = "" // belongs to the ring, not to the file
		if !bytes.Equal(spec.Encode(d), spec.Encode(back[i])) {
			return nil, fmt.Errorf("daemon %s would not be read back as it is", d.Name)
		}
	}
	return b.Bytes(), nil
}

// nested puts the tables of a daemon's file below [[daemon]]: headers get the
// prefix, lines inside of multi-line strings are left alone. spec.Format
// escapes every quote inside of strings, so that three in a row are a fence.
func nested(text []byte) []byte {
	var out strings.Builder
	inside := false
	for line := range strings.Lines(string(text)) {
		if !inside {
			if rest, ok := strings.CutPrefix(line, "[["); ok {
				line = "[[daemon." + rest
			} else if rest, ok := strings.CutPrefix(line, "["); ok {
				line = "[daemon." + rest
			}
		}
		if strings.Count(line, `"""`)%2 == 1 {
			inside = !inside
		}
		out.WriteString(line)
	}
	return []byte(out.String())
}

func (a *app) deleteCommand() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: "delete NAME…", GroupID: groupDaemons, Short: "Stop daemons everywhere",
		Long: `Stops daemons on every node and keeps their history. The deletion is a signed
record like any other, kept for ever: a node that was away learns of it.`,
		Example: "  agentctl delete node-exporter", Annotations: formats("json", "name"),
		Args: atLeast(1, "the name of a daemon"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.delete(cmd.Context(), unique(args), yes)
		},
	}
	addYes(cmd, &yes)
	return cmd
}

func (a *app) delete(ctx context.Context, names []string, yes bool) error {
	key, err := a.operatorKey()
	if err != nil {
		return cannot("delete", err)
	}
	c := a.client()
	defer c.Close()
	ring, err := readRing(ctx, c)
	if err != nil {
		return cannot("delete", err)
	}
	plan, missing, err := a.planDeletes(ctx, c, ring, names)
	if err != nil {
		return cannot("delete", err)
	}
	if len(missing) > 0 {
		return missing
	}
	warnings, err := checkDepends(ctx, c, ring, plan)
	if err != nil {
		return cannot("delete", err)
	}
	a.showPlan(plan, false)
	a.warnAll(warnings)
	if err := a.confirm(ctx, yes, "Delete %s from ring %s?", someOf(names), ring.name); err != nil {
		return cannot("delete", err)
	}
	results, err := a.sendAll(ctx, c, ring, key, plan)
	if printErr := a.printResults(plan, results, false); err == nil {
		err = printErr
	}
	return err
}

// planDeletes reads all daemons, so that a mistyped name is told before
// anything is sent.
func (a *app) planDeletes(ctx context.Context, c *api.Client, ring ringView, names []string) ([]change, errorList, error) {
	var plan []change
	var missing errorList
	for _, name := range names {
		if !spec.ValidName(name) {
			missing = append(missing, noDaemon(name, a.names(ctx, c)))
			continue
		}
		cur, err := readDaemon(ctx, c, ring.id, name)
		switch {
		case err != nil:
			return nil, nil, err
		case cur.deleted:
			missing = append(missing, fmt.Errorf("daemon %q is deleted already", name))
		case !cur.live():
			missing = append(missing, noDaemon(name, a.names(ctx, c)))
		default:
			plan = append(plan, planDelete(name, cur, ring.roster))
		}
	}
	return plan, missing, nil
}

// names lists the ring's daemons; none when agentd does not say.
func (a *app) names(ctx context.Context, c *api.Client) []string {
	var list []string
	for _, d := range a.daemonsOf(ctx, c) {
		list = append(list, d.Name)
	}
	return list
}
