package gossip

import (
	"log"
	"net"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"
)

const (
	maxNotes = 32
	noteLife = 5 * time.Minute  // after the last occurrence it is no news any more
	noteMute = 30 * time.Minute // between two log lines of the same cause
)

// notes keeps in words what is wrong with the ring as seen from here, once per
// cause. It is called under memberlist's locks and calls nothing under its own.
type notes struct {
	mu sync.Mutex
	m  map[string]*noteEntry
}

type noteEntry struct {
	text         string
	last, logged time.Time
}

// add keeps text and reports whether it is time to log it.
func (n *notes) add(key, text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	e, ok := n.m[key]
	if !ok {
		for k, old := range n.m {
			if now.Sub(old.logged) > noteMute {
				delete(n.m, k)
			}
		}
		if len(n.m) >= maxNotes {
			return false
		}
		if n.m == nil {
			n.m = make(map[string]*noteEntry)
		}
		e = &noteEntry{}
		n.m[key] = e
	}
	e.text, e.last = text, now
	if !e.logged.IsZero() && now.Sub(e.logged) < noteMute {
		return false
	}
	e.logged = now
	return true
}

func (n *notes) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, e := range n.m {
		if time.Since(e.last) <= noteLife {
			out = append(out, e.text)
		}
	}
	sort.Strings(out)
	return out
}

// forget drops what was said of a node, so that its next trouble is logged anew.
func (n *notes) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range n.m {
		for _, kind := range []string{"moved ", "conflict ", "refused "} {
			if strings.HasPrefix(k, kind+name) {
				delete(n.m, k)
			}
		}
	}
}

// clear says that a cause is gone.
func (n *notes) clear(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e, ok := n.m[key]; ok {
		e.last = time.Time{}
	}
}

// note remembers what is wrong, for status, and logs it now and then.
func (r *Ring) note(kind, subject, text string) {
	if r.notes.add(kind+" "+subject, text) {
		r.say(func() { r.log.Warn(text, "cause", kind) })
	}
}

// Notes tells in words what is wrong with the ring as seen from this node and was
// so within the last five minutes.
func (r *Ring) Notes() []string { return r.notes.list() }

// Lines of memberlist's log that tell something no callback does. The module's
// version is pinned, and a test fails should one of them change.
var (
	lineSuspect = regexp.MustCompile(`Suspect (\S+) has failed, no acks received`)
	lineDecrypt = regexp.MustCompile(`(?i)no installed keys could decrypt the message.*from=(\S+)`)
	linePlain   = regexp.MustCompile(`encryption is configured but remote state is not encrypted.*from=(\S+)`)
	lineLabel   = regexp.MustCompile(`discarding (?:packet|stream) with unacceptable label.*from=(\S+)`)
	lineUDP     = regexp.MustCompile(`Was able to connect to (\S+) over TCP but UDP probes failed`)
)

// logger returns a memberlist logger: everything goes to debug, what an operator
// can act upon is put in words.
func (h *hooks) logger() *log.Logger { return log.New(h, "", 0) }

// Write takes one line of memberlist's log, often under its locks.
func (h *hooks) Write(p []byte) (int, error) {
	if h.closed.Load() {
		return len(p), nil
	}
	line := strings.TrimSpace(string(p))
	r := h.r
	switch {
	case match(lineSuspect, line) != "":
		r.view.suspect(match(lineSuspect, line))
	case match(lineDecrypt, line) != "":
		host := hostOf(match(lineDecrypt, line))
		r.note("key", host, "a packet from "+host+" could not be decrypted: another ring key?")
	case match(linePlain, line) != "":
		host := hostOf(match(linePlain, line))
		r.note("key", host, "a packet from "+host+" was not encrypted: is something else sending to this port?")
	case match(lineLabel, line) != "":
		host := hostOf(match(lineLabel, line))
		r.note("label", host, "a packet from "+host+" belongs to another ring")
	case match(lineUDP, line) != "":
		name := match(lineUDP, line)
		r.note("udp", name, "node "+name+" answers over TCP but not over UDP: does a firewall drop UDP between us?")
	}
	r.say(func() { r.log.Debug(line) })
	return len(p), nil
}

func match(re *regexp.Regexp, line string) string {
	if m := re.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return ""
}

func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
