package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

type logsOptions struct {
	follow bool
	tail   tailFlag
	since  string
	node   string
	times  bool
}

func (a *app) logsCommand() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use: "logs NAME", GroupID: groupDaemons, Short: "Show the output of a daemon's container",
		Long: `Shows what a daemon's container on this node printed, and those before it as far
as it is kept, oldest first: stdout and stderr as they came. Needs root.

With -f it goes on until it is interrupted; a restart of the container or of
agentd does not end it. -o wide tells time and stream of each line, and -o json
is a document per line. Where agentd logs to the journal, journalctl -t NAME
reads the same.`,
		Example: `  sudo agentctl logs node-exporter --tail 100
  sudo agentctl logs node-exporter -f --since 10m`,
		Annotations: formats("json"), Args: between(1, 1, "the name of a daemon"),
		RunE: func(cmd *cobra.Command, args []string) error {
			since, err := parseSince(o.since, a.now())
			if err != nil {
				return err
			}
			q := api.LogQuery{Daemon: args[0], Follow: o.follow, Tail: int(o.tail), Since: since}
			return a.logs(cmd.Context(), q, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what comes")
	addTail(cmd, &o.tail, &o.since)
	f.StringVar(&o.node, "node", "", "of `NODE`; in this version only this one")
	f.BoolVar(&o.times, "timestamps", false, "the time before each line")
	return cmd
}

func (a *app) logs(ctx context.Context, q api.LogQuery, o logsOptions) error {
	c := a.client()
	defer c.Close()
	if err := onlyHere(ctx, c, o.node, "logs "+q.Daemon); err != nil {
		return cannot("show the logs of "+q.Daemon, err)
	}
	w := logWriter{app: a, times: o.times, screen: isTerminal(a.stdout)}
	read := func() error { return c.Logs(ctx, w.from(q), w.write) }
	err := read
	if q.Follow {
		err = func() error { return a.follow(ctx, func() bool { return w.begun }, read) }
	}
	return a.orMissing(ctx, c, q.Daemon, cannot("show the logs of "+q.Daemon, err()))
}

// logWriter prints lines, and remembers where it is for when the stream breaks.
type logWriter struct {
	app    *app
	times  bool
	screen bool

	begun bool
	last  time.Time // of the newest line
	same  int       // lines printed that have this time
	skip  int       // of those, how many are still to come again
}

// from is what to ask for after a break: not again what was printed.
func (w *logWriter) from(q api.LogQuery) api.LogQuery {
	switch {
	case !w.begun:
	case w.last.IsZero(): // nobody noted when lines came
		q.Tail = 0
	default:
		q.Since, q.Tail, w.skip = w.last, api.AllLines, w.same
	}
	return q
}

func (w *logWriter) write(l api.LogLine) error {
	w.begun = true
	switch {
	case w.skip > 0 && l.Time.Equal(w.last):
		w.skip--
		return nil
	case l.Time.After(w.last):
		w.last, w.same = l.Time, 1
	case l.Time.Equal(w.last):
		w.same++
	}
	w.skip = 0
	if w.app.output == "json" {
		return json.NewEncoder(w.app.stdout).Encode(l)
	}
	text := l.Line
	if w.screen {
		text = forScreen(text)
	}
	at := "-"
	if !l.Time.IsZero() {
		at = l.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	switch {
	case w.app.output == "wide":
		text = fmt.Sprintf("%s %-6s %s", at, cell(l.Stream), text)
	case w.times:
		text = at + " " + text
	}
	_, err := fmt.Fprintln(w.app.stdout, text)
	return err
}

// forScreen lets colours and tabs through to a terminal, and nothing else that
// drives it: a container's output may be anybody's.
func forScreen(line string) string {
	var b strings.Builder
	for len(line) > 0 {
		plain := strings.IndexByte(line, '\x1b')
		if plain < 0 {
			plain = len(line)
		}
		for i, part := range strings.Split(line[:plain], "\t") {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(clean(part))
		}
		line = line[plain:]
		if n := colorLength(line); n > 0 {
			b.WriteString(line[:n])
			line = line[n:]
		} else if line != "" {
			b.WriteByte('?')
			line = line[1:]
		}
	}
	return b.String()
}

// colorLength is the length of the colour sequence (ECMA-48 SGR) that s begins
// with; 0 when it does not.
func colorLength(s string) int {
	rest, ok := strings.CutPrefix(s, "\x1b[")
	if !ok {
		return 0
	}
	end := len(rest) - len(strings.TrimLeft(rest, "0123456789;:"))
	if end >= len(rest) || rest[end] != 'm' {
		return 0
	}
	return len("\x1b[") + end + 1
}
