package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/strict"
)

func (a *app) volumesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "volumes", Aliases: []string{"volume"}, GroupID: groupMore, Short: "Volumes of this node",
		Long: `Lists and prunes the volumes of this node: folders under data_dir that daemons
mount by name. Deleting a daemon keeps its volumes.`,
		Example: "  agentctl volumes list", Args: cobra.ArbitraryArgs, RunE: groupHelp,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the volumes of this node",
			Long: `Lists the volumes of this node with their size on disk, the daemons that mount
them and when they were last changed.`,
			Example: "  agentctl volumes list -o wide", Args: noArgs, Annotations: formats("json", "name"),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return cannot("list the volumes", a.listVolumes(cmd.Context()))
			},
		},
		a.pruneCommand(),
	)
	return cmd
}

type pruneOptions struct {
	yes    bool
	dryRun bool
}

func (a *app) pruneCommand() *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use: "prune [NAME…]", Short: "Remove volumes that no daemon uses",
		Long: `Removes the volumes of this node that no daemon of the ring mounts here, with
all that is in them, or only those that are named. Needs root.`,
		Example: `  agentctl volumes prune --dry-run
  sudo agentctl volumes prune old-data`,
		Annotations: formats("json", "name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cannot("prune volumes", a.pruneVolumes(cmd.Context(), unique(args), o))
		},
	}
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would go, remove nothing")
	addYes(cmd, &o.yes)
	return cmd
}

func (a *app) listVolumes(ctx context.Context) error {
	c := a.client()
	defer c.Close()
	list, err := c.Volumes(ctx)
	if err != nil {
		return err
	}
	switch a.output {
	case "json":
		return printJSON(a.stdout, list)
	case "name":
		for _, v := range list.Volumes {
			fmt.Fprintln(a.stdout, clean(v.Name))
		}
		return nil
	}
	t := newTable("NAME", "SIZE", "DAEMONS", "AGE")
	wide := a.output == "wide"
	if wide {
		t.header = append(t.header, "PATH")
	}
	unused := 0
	for _, v := range list.Volumes {
		if len(v.Daemons) == 0 {
			unused++
		}
		row := []string{v.Name, bytesWord(v.Bytes), strings.Join(v.Daemons, ","), a.ageOf(v.ModifiedAt)}
		if wide {
			row = append(row, v.Path)
		}
		t.add(row...)
	}
	a.print(t)
	switch {
	case len(list.Volumes) == 0:
		a.note("%s has no volumes", list.Node)
	case unused > 0:
		a.note("no daemon uses %s; to remove: sudo agentctl volumes prune", plural(unused, "volume"))
	}
	return nil
}

func (a *app) pruneVolumes(ctx context.Context, names []string, o pruneOptions) error {
	c := a.client()
	defer c.Close()
	list, err := c.Volumes(ctx)
	if err != nil {
		return err
	}
	doomed, err := chooseVolumes(list.Volumes, names)
	if err != nil {
		return err
	}
	if o.dryRun || len(doomed) == 0 {
		return a.printPruned(api.Pruned{Schema: api.Schema, Removed: doomed, Kept: map[string]string{}}, o.dryRun)
	}
	var chosen []string
	var bytes uint64
	for _, v := range doomed {
		chosen = append(chosen, v.Name)
		bytes += v.Bytes
	}
	if err := a.confirm(ctx, o.yes, "Remove %s (%s) of %s with all that is in them?", someOf(chosen), bytesWord(bytes), list.Node); err != nil {
		return err
	}
	// Those that were shown, and no other that became unused meanwhile.
	pruned, err := c.PruneVolumes(ctx, chosen)
	if err != nil {
		return err
	}
	if err := a.printPruned(pruned, false); err != nil {
		return err
	}
	var kept errorList
	for _, name := range slices.Sorted(maps.Keys(pruned.Kept)) {
		kept = append(kept, fmt.Errorf("volume %s is kept: %s", name, pruned.Kept[name]))
	}
	if len(kept) > 0 {
		return kept
	}
	return nil
}

// chooseVolumes returns those that are to go: the named ones, which must be
// there and unused, or all that are unused.
func chooseVolumes(all []api.Volume, names []string) ([]api.Volume, error) {
	chosen := []api.Volume{}
	var known []string
	for _, v := range all {
		known = append(known, v.Name)
		if len(names) == 0 && len(v.Daemons) == 0 {
			chosen = append(chosen, v)
		}
	}
	var errs errorList
	for _, name := range names {
		i := slices.Index(known, name)
		switch {
		case i < 0:
			err := fmt.Errorf("there is no volume %q on this node", name)
			if near := strict.Suggest(name, known); near != "" {
				err = withHint(err, "did you mean %s", near)
			}
			errs = append(errs, err)
		case len(all[i].Daemons) > 0:
			errs = append(errs, withHint(fmt.Errorf("volume %s is used by %s", name, someOf(all[i].Daemons)),
				"delete the daemon first: agentctl delete %s", all[i].Daemons[0]))
		default:
			chosen = append(chosen, all[i])
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return chosen, nil
}

func (a *app) printPruned(p api.Pruned, dryRun bool) error {
	if a.output == "json" {
		return printJSON(a.stdout, p)
	}
	for _, v := range p.Removed {
		switch {
		case a.output == "name":
			fmt.Fprintf(a.stdout, "volume/%s\n", clean(v.Name))
		case dryRun:
			fmt.Fprintf(a.stdout, "volume/%s removed (dry run)\n", clean(v.Name))
		default:
			fmt.Fprintf(a.stdout, "volume/%s removed\n", clean(v.Name))
		}
	}
	if len(p.Removed)+len(p.Kept) == 0 && a.output != "name" {
		a.note("no volume is unused")
	}
	return nil
}
