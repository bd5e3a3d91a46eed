package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/agentd/agentd/api"
)

const (
	barWidth  = 24
	fewLines  = 3 // daemons up to which each gets more than one line
	mostShown = 3 // nodes of one kind that get a line of their own
)

// progress returns what shows how far it is: lines that are redrawn in place
// on a terminal, else a line for each change.
func (a *app) progress() interface{ update([]standing) } {
	f, ok := a.stderr.(*os.File)
	if !ok || !isTerminal(f) || a.env("TERM") == "dumb" {
		return &progressLog{app: a, last: map[string]string{}}
	}
	size := func() (width, height int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return lineWidth, 24
		}
		return width, height
	}
	colored := a.color == "always" || a.color == "auto" && a.env("NO_COLOR") == ""
	return &progressScreen{w: f, size: size, colored: colored, now: a.now, began: a.now()}
}

// progressLog writes a line whenever something changed.
type progressLog struct {
	app  *app
	last map[string]string // by name: the key of what was told
}

func (p *progressLog) update(list []standing) {
	for _, s := range list {
		if key := s.key(); s.known && p.last[s.name] != key {
			p.last[s.name] = key
			p.app.notef("%s", s.text())
		}
	}
}

// progressScreen redraws a few lines in place.
type progressScreen struct {
	w       io.Writer
	size    func() (width, height int)
	colored bool
	now     func() time.Time
	began   time.Time
	drawn   int // lines that are on the screen
}

func (p *progressScreen) update(list []standing) {
	width, height := p.size()
	var lines []string
	for i, s := range list {
		most := height - 1 - (len(list) - i) // a line for each that follows
		mine := p.lines(s, len(list) <= fewLines)
		lines = append(lines, mine[:max(1, min(len(mine), most-len(lines)))]...)
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn) // up
	}
	b.WriteString("\r\x1b[J") // clear from here on
	for _, line := range lines {
		b.WriteString(p.paint(cut(clean(line), width-1)) + "\n")
	}
	p.drawn = len(lines)
	_, _ = io.WriteString(p.w, b.String())
}

// lines is one daemon: how far it is, and with long who holds it up.
func (p *progressScreen) lines(s standing, long bool) []string {
	since := p.now().Sub(p.began).Truncate(time.Second).String()
	if s.gone {
		return []string{fmt.Sprintf("%s  %s to stop  %s", s.name, plural(s.left, "container"), since)}
	}
	if !s.known {
		return []string{fmt.Sprintf("%s  on its way to this node  %s", s.name, since)}
	}
	head := fmt.Sprintf("%s  revision %d  [%s]  %d/%d  %s", s.name, s.revision, s.bar(), s.have, s.want, since)
	if !long || s.done() {
		return []string{head}
	}
	lines := []string{head}
	if text := s.lanes(); text != "" {
		lines = append(lines, labelled("lanes", []string{text})...)
	}
	var updating, failed []string
	for _, r := range s.of(api.TurnUpdating) {
		updating = append(updating, r.node+" "+r.doing())
	}
	for _, r := range s.of(api.TurnFailed) {
		failed = append(failed, r.node+": "+r.reason)
	}
	lines = append(lines, labelled("updating", updating)...)
	lines = append(lines, labelled("failed", failed)...)
	lines = append(lines, labelled("late", reasonsOf(s.of(api.TurnLate)))...)
	if len(updating) == 0 {
		// Nothing moves: say for whom the first one waits.
		lines = append(lines, labelled("waiting", reasonsOf(s.of(api.TurnWaiting)))...)
	}
	if len(lines) == 1 && s.reason != "" {
		lines = append(lines, "  "+s.reason)
	}
	return lines
}

func reasonsOf(rows []standingRow) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.node+": "+r.reason)
	}
	return out
}

// labelled puts a word before the first of a few lines.
func labelled(word string, list []string) []string {
	var lines []string
	for i, text := range list {
		if i == mostShown && len(list) > mostShown+1 {
			text = fmt.Sprintf("and %d more", len(list)-mostShown)
		} else if i > mostShown {
			break
		}
		lines = append(lines, fmt.Sprintf("  %-8s  %s", word, text))
		word = ""
	}
	return lines
}

// mark stands for a node in the lanes.
func mark(turn string) string {
	switch turn {
	case api.TurnDone:
		return "#"
	case api.TurnUpdating:
		return ">"
	case api.TurnFailed:
		return "!"
	case turnAway:
		return "x"
	}
	return "."
}

// bar shows the shares of the nodes that are done, updating and failed; none of
// them vanishes by rounding.
func (s standing) bar() string {
	if s.want == 0 {
		return strings.Repeat("#", barWidth)
	}
	done, updating, failed := s.have, len(s.of(api.TurnUpdating)), len(s.of(api.TurnFailed))
	cells := func(n int) int {
		if n == 0 {
			return 0
		}
		return max(1, n*barWidth/s.want)
	}
	bar := strings.Repeat("!", cells(failed)) // what needs somebody comes last
	bar = strings.Repeat(">", min(cells(updating), barWidth-len(bar))) + bar
	full := min(cells(done), barWidth-len(bar))
	if done == s.want {
		full = barWidth
	}
	bar = strings.Repeat("#", full) + bar
	return bar + strings.Repeat(".", max(0, barWidth-len(bar)))
}

// lanes shows each lane's nodes in the order of their turns; many lanes are
// counted.
func (s standing) lanes() string {
	if s.rollout == nil || s.rollout.First || s.rollout.Lanes == 0 {
		return ""
	}
	lanes := make([]string, s.rollout.Lanes)
	var done, held int
	for _, r := range s.rows {
		if r.lane > 0 && r.lane <= len(lanes) {
			lanes[r.lane-1] += mark(r.turn)
		}
	}
	text := strings.Join(lanes, " ")
	if len(text) <= lineWidth-14 {
		return text
	}
	for _, l := range lanes {
		switch {
		case strings.Trim(l, "#") == "":
			done++
		case strings.Contains(l, "!"):
			held++
		}
	}
	text = fmt.Sprintf("%d of %d through", done, len(lanes))
	if held > 0 {
		text += fmt.Sprintf(", %d held up by a failed node", held)
	}
	return text
}

// cut shortens a line to so many columns.
func cut(line string, width int) string {
	if width < 1 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

// paint colours the word that a line begins with.
func (p *progressScreen) paint(line string) string {
	if !p.colored {
		return line
	}
	for word, color := range map[string]string{"updating": "33", "late": "33", "waiting": "33", "failed": "31"} {
		if rest, ok := strings.CutPrefix(line, "  "+word+" "); ok {
			return "  \x1b[" + color + "m" + word + "\x1b[0m " + rest
		}
	}
	return line
}
