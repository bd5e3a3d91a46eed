package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) diffCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use: "diff -f FILE…", GroupID: groupDaemons, Short: "Show what apply would change, and where",
		Long: `Shows what agentctl apply would change, and on which nodes containers start,
restart or stop. Changes outside the running part (selector, nodes) restart
nothing.

Exit code: 0 when nothing would change, 1 when something would, or on an error.`,
		Example: "  agentctl diff -f daemons/", Annotations: formats("json", "name"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("use: agentctl diff -f "+args[0], "diff takes its files with -f")
			}
			return needFiles(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.diff(cmd.Context(), files) },
	}
	addFiles(cmd, &files)
	return cmd
}

func (a *app) diff(ctx context.Context, files []string) error {
	daemons, err := a.readDaemons(files)
	if err != nil {
		return cannot("compare", err)
	}
	if len(daemons) == 0 {
		return cannot("compare", errors.New("the files describe no daemon"))
	}
	c := a.client()
	defer c.Close()
	ring, plan, err := makePlan(ctx, c, daemons, false)
	if err != nil {
		return cannot("compare with the ring", err)
	}
	warnings, err := checkDepends(ctx, c, ring, plan)
	if err != nil {
		return cannot("compare with the ring", err)
	}
	a.warnAll(warnings)
	a.warnPlan(plan)
	doc := newChangesJSON(true)
	for _, ch := range plan {
		doc.Daemons = append(doc.Daemons, ch.json())
		switch {
		case a.output == "json":
		case a.output == "name":
			if ch.result != resultUnchanged {
				fmt.Fprintf(a.stdout, "daemon/%s\n", ch.name)
			}
		default:
			printDiff(a.stdout, ch)
		}
	}
	if a.output == "json" {
		if err := printJSON(a.stdout, doc); err != nil {
			return err
		}
	}
	if changes(plan) > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "validate FILE…", GroupID: groupDaemons, Short: "Check daemon files",
		Long: `Checks files, folders of .toml files, or stdin (-): every mistake at once, each
with file, line, key and, where one helps, a suggestion. Asks nobody: no agentd
needs to run.`,
		Example: `  agentctl validate daemons/
  agentctl validate - < node-exporter.toml`,
		Annotations: formats("name"), Args: atLeast(1, "a file, a folder or -"),
		RunE: func(_ *cobra.Command, args []string) error {
			daemons, err := a.readDaemons(args)
			if err == nil {
				err = checkCircles(daemons)
			}
			if err != nil {
				return cannot("accept this", err)
			}
			for _, d := range daemons {
				if a.output == "name" {
					fmt.Fprintf(a.stdout, "daemon/%s\n", d.Name)
				} else {
					fmt.Fprintf(a.stdout, "daemon/%s valid\n", d.Name)
				}
			}
			return nil
		},
	}
}
