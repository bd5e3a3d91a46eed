package supervise

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// listenLimit bounds reading a container's last words, since the next
	// attempt waits for it: it is no longer than the shortest back-off.
	listenLimit = 500 * time.Millisecond
	// saidLimit is how much of a line is quoted, in bytes.
	saidLimit = 200
)

// Said is what a container said last before it failed.
type Said struct {
	Line   string // the last line, or the last one that tells of a taken port
	Taken  bool   // the line tells of a taken port
	Port   int    // which; 0: it names none
	Holder string // the daemon of this node that listens there; "": none of ours is known to
	Own    bool   // that is this very daemon, beside which it started
}

// words are the reasons that follow from it. A taken port is concluded from
// what the program itself wrote, which is quoted; who has it, from the kernel.
func (s Said) words() []string {
	switch {
	case s.Line == "":
		return nil
	case s.Own:
		return []string{fmt.Sprintf("port %d is taken by the instance that it shall replace; with update.surge both need it", s.Port), "it said: " + s.Line}
	case s.Holder != "":
		return []string{fmt.Sprintf("port %d is taken by daemon %s, which was first", s.Port, s.Holder), "it said: " + s.Line}
	case s.Taken:
		return []string{"its port is taken", "it said: " + s.Line}
	}
	return []string{"it said last: " + s.Line}
}

// listen reads what the daemon's container said last, and who listens on the
// port that it wanted.
func (w *worker) listen(ctx context.Context, beside bool) Said {
	ctx, cancel := context.WithTimeout(ctx, listenLimit)
	defer cancel()
	said := readSaid(w.s.cfg.LastOutput(ctx, w.name))
	if said.Port != 0 {
		others := w.s.neighbours()
		if !beside {
			delete(others, w.name)
		}
		said.Holder = holderOf(procDir, said.Port, others)
		said.Own = said.Holder == w.name
	}
	return said
}

// neighbours are the daemons that run here, with their init's pid.
func (s *Supervisor) neighbours() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for other, r := range s.reports {
		if r.PID != 0 {
			out[other] = r.PID
		}
	}
	return out
}

// taken matches what programs write of EADDRINUSE: the C library's words, in
// which most languages say it, and the name, in which Node does.
var taken = regexp.MustCompile(`(?i)address already in use|EADDRINUSE|address in use`)

// ports matches "127.0.0.1:80", "[::]:80", ":80" and "port 80".
var ports = regexp.MustCompile(`(?i)(?::|port[ =]+)(\d{1,5})\b`)

// readSaid picks the line that tells most out of a container's last output.
func readSaid(output string) Said {
	var said Said
	for line := range strings.Lines(output) {
		line = strings.Join(strings.Fields(strings.ToValidUTF8(line, "?")), " ")
		is := taken.MatchString(line)
		if line == "" || said.Taken && !is {
			continue
		}
		said = Said{Line: line, Taken: is}
		if is {
			said.Port = portIn(line)
		}
	}
	if len(said.Line) > saidLimit {
		said.Line = strings.ToValidUTF8(said.Line[:saidLimit], "") + "…"
	}
	return said
}

// portIn finds the port of a line; the last one, since times of day, which look
// alike, come first. 0: none, or not surely one.
func portIn(line string) int {
	all := ports.FindAllStringSubmatch(line, -1)
	if len(all) == 0 {
		return 0
	}
	n, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil || n < 1 || n > 65535 {
		return 0
	}
	return n
}
