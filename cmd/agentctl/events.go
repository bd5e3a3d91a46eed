package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

type eventsOptions struct {
	names  []string
	follow bool
	tail   tailFlag
	since  string
}

func (a *app) eventsCommand() *cobra.Command {
	var o eventsOptions
	cmd := &cobra.Command{
		Use: "events [NAME…]", GroupID: groupMore, Short: "Show what happened, with reasons",
		Long: `Shows what happened on this node and why, oldest first: changes of state, exits,
pulls, probes, what was applied, other nodes that came and went. With NAMEs only
what is about those daemons. agentd keeps the newest 4 MiB, over restarts and
reboots.

With -f it goes on until it is interrupted; a restart of agentd does not end it.
-o json is a document per line.`,
		Example: `  agentctl events --since 1h
  agentctl events node-exporter -f --tail 10
  agentctl events -o json | jq 'select(.type == "exit")'`,
		Annotations: formats("json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = unique(args)
			since, err := parseSince(o.since, a.now())
			if err != nil {
				return err
			}
			return cannot("show the events", a.events(cmd.Context(), since, o))
		},
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with what comes")
	addTail(cmd, &o.tail, &o.since)
	return cmd
}

func (a *app) events(ctx context.Context, since time.Time, o eventsOptions) error {
	c := a.client()
	defer c.Close()
	var list []api.Event
	seen := uint64(0)
	err := c.Events(ctx, since, false, func(e api.Event) error {
		seen = e.Seq
		if o.wants(e) {
			list = append(list, e)
			if extra := len(list) - int(o.tail); o.tail >= 0 && extra > 0 {
				list = slices.Delete(list, 0, extra)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w := newEventWriter(a, list)
	for _, e := range list {
		if err := w.write(e); err != nil {
			return err
		}
	}
	if !o.follow {
		return nil
	}
	next := func(e api.Event) error {
		if e.Seq <= seen {
			return nil
		}
		seen = e.Seq
		if !o.wants(e) {
			return nil
		}
		return w.write(e)
	}
	return a.follow(ctx, func() bool { return true }, func() error { return c.Events(ctx, since, true, next) })
}

func (o eventsOptions) wants(e api.Event) bool {
	return len(o.names) == 0 || slices.Contains(o.names, e.Daemon)
}

// eventWriter prints events as they come, in columns that are as wide as the
// first ones need.
type eventWriter struct {
	app   *app
	width []int // of all columns but the last
	begun bool
}

// eventColumns are those of the table; REASON has blanks and stays last.
func (w *eventWriter) header() []string {
	if w.app.output == "wide" {
		return []string{"TIME", "DAEMON", "TYPE", "NODE", "SEQ", "EXIT", "REASON"}
	}
	return []string{"TIME", "DAEMON", "TYPE", "REASON"}
}

func newEventWriter(a *app, list []api.Event) *eventWriter {
	w := &eventWriter{app: a}
	header := w.header()
	w.width = make([]int, len(header)-1)
	for _, row := range append([][]string{header}, w.rows(list)...) {
		for i := range w.width {
			w.width[i] = max(w.width[i], len([]rune(row[i])))
		}
	}
	return w
}

func (w *eventWriter) rows(list []api.Event) [][]string {
	var rows [][]string
	for _, e := range list {
		rows = append(rows, w.cells(e))
	}
	return rows
}

func (w *eventWriter) cells(e api.Event) []string {
	row := []string{cell(e.Time.UTC().Format(time.RFC3339)), cell(e.Daemon), cell(e.Type)}
	if w.app.output == "wide" {
		exit := ""
		if e.ExitCode != nil {
			exit = exitWord(api.NodeDaemon{ExitCode: e.ExitCode, OOM: e.OOM})
		}
		row = append(row, cell(e.Node), fmt.Sprint(e.Seq), cell(exit))
	}
	return append(row, cell(eventReason(e)))
}

// eventReason is "running -> backoff: exit code 1; next start in 2s".
func eventReason(e api.Event) string {
	if e.From == "" && e.To == "" {
		return e.Reason
	}
	change := cell(e.From) + " -> " + cell(e.To)
	if e.From == "" {
		change = e.To
	}
	if e.Reason == "" {
		return change
	}
	return change + ": " + e.Reason
}

func (w *eventWriter) write(e api.Event) error {
	if w.app.output == "json" {
		enc := json.NewEncoder(w.app.stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	}
	if !w.begun && !w.app.noHeader {
		if err := w.line(w.header()); err != nil {
			return err
		}
	}
	w.begun = true
	return w.line(w.cells(e))
}

func (w *eventWriter) line(row []string) error {
	var b strings.Builder
	for i, width := range w.width {
		fmt.Fprintf(&b, "%-*s  ", width, row[i])
	}
	_, err := fmt.Fprintln(w.app.stdout, b.String()+row[len(row)-1])
	return err
}
