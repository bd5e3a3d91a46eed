package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// table is rows of cells under a header, printed in columns two spaces apart.
type table struct {
	header []string
	rows   [][]string
	colors map[int]bool // columns whose words are coloured
}

func newTable(header ...string) *table { return &table{header: header} }

// add appends a row; an empty cell becomes "-".
func (t *table) add(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = cell(c)
	}
	t.rows = append(t.rows, row)
}

// print writes the table; nothing when it has no rows.
func (a *app) print(t *table) {
	if len(t.rows) == 0 {
		return
	}
	rows := t.rows
	if !a.noHeader {
		rows = append([][]string{t.header}, rows...)
	}
	widths := make([]int, len(t.header))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	colored := a.colored()
	for n, row := range rows {
		var b strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2)
			if i == len(row)-1 {
				pad = ""
			}
			if colored && t.colors[i] && (n > 0 || a.noHeader) {
				c = paint(c)
			}
			b.WriteString(c + pad)
		}
		fmt.Fprintln(a.stdout, strings.TrimRight(b.String(), " "))
	}
}

// paint colours a state by its first word: green is well, yellow is on its
// way, red needs somebody.
func paint(state string) string {
	word := state
	if end := strings.IndexAny(state, " ,"); end >= 0 {
		word = state[:end]
	}
	color := ""
	switch word {
	case "ok", "running", "completed", "alive", "done", "finished":
		color = "32"
	case "rolling", "waiting", "pulling", "starting", "stopping", "deleting", "suspect", "paused", "rolled-back", "warn", "updating", "late", "under-way":
		color = "33"
	case "degraded", "fail", "failed", "unhealthy", "backoff", "blocked", "unknown", "stopped":
		color = "31"
	default:
		return state
	}
	return "\x1b[" + color + "m" + word + "\x1b[0m" + state[len(word):]
}

// note writes a "# " line after a table.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stdout, "# %s\n", clean(fmt.Sprintf(format, args...)))
}

// printJSON writes v, indented.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// cell makes s fit into a table: one line, "-" when empty.
func cell(s string) string {
	s = clean(strings.TrimSpace(s))
	if s == "" {
		return "-"
	}
	return s
}

// clean makes a line of text that came from elsewhere harmless to a terminal:
// other nodes write reasons and names, and may lie.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// cleanLines is clean for text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range lines {
		lines[i] = clean(l)
	}
	return strings.Join(lines, "\n")
}

// age tells how long ago t was in at most two units: 12s, 5m, 4h12m, 3d4h. A
// time in the future (clocks differ between nodes) is 0s.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(now.Sub(t), 0)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < day:
		return two(d/time.Hour, "h", d%time.Hour/time.Minute, "m")
	}
	return two(d/day, "d", d%day/time.Hour, "h")
}

func two(a time.Duration, unitA string, b time.Duration, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unitA)
	}
	return fmt.Sprintf("%d%s%d%s", a, unitA, b, unitB)
}

// ageOf is age of an optional time.
func (a *app) ageOf(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return age(a.now(), *t)
}

// short cuts a digest to the 7 digits that tables show.
func short(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	if len(digest) > 7 {
		return digest[:7]
	}
	return digest
}

// plural is "1 node", "2 nodes".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// someOf lists at most three, and how many more there are.
func someOf(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
