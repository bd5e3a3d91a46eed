package supervise

import (
	"context"
	"strings"
	"time"
)

const (
	// listenLimit bounds reading a container's last words.
	listenLimit = 2 * time.Second
	// saidLimit is how much of a line is quoted.
	saidLimit = 200
)

// Said is what a container said last before it failed.
type Said struct {
	Line   string // the last line, or the one that tells of a taken port
	Port   int    // that was taken; 0: none was named
	Holder string // the daemon of this node that listens there; "": not known
}

// words are reasons that follow from it.
func (s Said) words() []string {
	if s.Line == "" {
		return nil
	}
	return []string{"it said last: " + s.Line}
}

// listen reads what the daemon's container said last.
func (w *worker) listen(ctx context.Context) Said {
	ctx, cancel := context.WithTimeout(ctx, listenLimit)
	defer cancel()
	return readSaid(w.s.cfg.LastOutput(ctx, w.name))
}

// readSaid picks the line that tells most out of a container's last output.
func readSaid(output string) Said {
	last := ""
	for line := range strings.Lines(output) {
		if line = strings.Join(strings.Fields(strings.ToValidUTF8(line, "?")), " "); line != "" {
			last = line
		}
	}
	if len(last) > saidLimit {
		last = strings.ToValidUTF8(last[:saidLimit], "") + "…"
	}
	return Said{Line: last}
}
