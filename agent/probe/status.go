package probe

import (
	"fmt"
	"strings"

	"github.com/agentd/agentd/spec"
)

// Kind is what a probe is for.
type Kind string

const (
	Startup   Kind = "startup"   // until it passes, the others are not asked
	Liveness  Kind = "liveness"  // when it fails, the instance is restarted
	Readiness Kind = "readiness" // decides whether the daemon is ready
)

// Result is what an attempt says.
type Result int

const (
	Unknown Result = iota // nothing about the instance: it does not count
	Passed
	Failed
)

// Outcome is the end of one attempt.
type Outcome struct {
	Result Result
	How    string // of a failure or of an unknown, in words: "refused", "answered 503"
}

// Tally is where one probe stands. The zero value has not been asked yet.
type Tally struct {
	Good   bool   // passed Successes times in a row, and did not become bad since
	Bad    bool   // failed Failures times in a row, and did not become good since
	Passes int    // in a row
	Fails  int    // in a row
	How    string // of the failure that made it bad, or else of the last one
}

// Add returns t with one more outcome. A failure that comes early, while an
// instance may still be on its way, is remembered in How and does not count.
func (t Tally) Add(p spec.Probe, o Outcome, early bool) Tally {
	switch o.Result {
	case Passed:
		t.Passes, t.Fails = t.Passes+1, 0
		if t.Passes >= max(1, p.Successes) {
			t.Good, t.Bad, t.How = true, false, ""
		}
	case Failed:
		t.Passes = 0
		if !t.Bad {
			t.How = o.How
		}
		if early {
			break
		}
		t.Fails++
		if t.Fails >= max(1, p.Failures) {
			t.Good, t.Bad = false, true
		}
	}
	return t
}

// Status is where all probes of one instance stand.
type Status struct {
	health spec.Health
	tally  map[Kind]Tally // never changed in place
}

// New returns the status of an instance that has just started. wasGood: it was
// good when another agent looked last, and counts as good until a probe says
// otherwise.
func New(h spec.Health, wasGood bool) Status {
	s := Status{health: h, tally: map[Kind]Tally{}}
	if wasGood {
		for _, k := range []Kind{Startup, Liveness, Readiness} {
			s.tally[k] = Tally{Good: true}
		}
	}
	return s
}

// Probe returns the probe of a kind, or nil.
func Probe(h spec.Health, k Kind) *spec.Probe {
	switch k {
	case Startup:
		return h.Startup
	case Liveness:
		return h.Liveness
	case Readiness:
		return h.Readiness
	}
	return nil
}

// Any reports whether h has a probe.
func Any(h spec.Health) bool {
	return h.Startup != nil || h.Liveness != nil || h.Readiness != nil
}

// Started reports whether the instance is past its startup probe.
func (s Status) Started() bool { return s.health.Startup == nil || s.tally[Startup].Good }

// Content reports whether every probe passed, and none failed since: what
// proves health, where a good verdict may only mean that nothing is known yet.
func (s Status) Content() bool {
	for _, k := range []Kind{Startup, Liveness, Readiness} {
		if t := s.tally[k]; Probe(s.health, k) != nil && (!t.Good || t.Fails > 0) {
			return false
		}
	}
	return true
}

// Tally returns where the probe of a kind stands.
func (s Status) Tally(k Kind) Tally { return s.tally[k] }

// Add returns s with one more outcome of a probe that s has.
func (s Status) Add(k Kind, o Outcome, early bool) Status {
	p := Probe(s.health, k)
	if p == nil {
		return s
	}
	next := make(map[Kind]Tally, len(s.tally)+1)
	for k, t := range s.tally {
		next[k] = t
	}
	next[k] = s.tally[k].Add(*p, o, early)
	s.tally = next
	return s
}

// Verdict is what follows from a status. The zero value is a good one, and that
// of an instance without probes.
type Verdict struct {
	Starting bool   // the startup probe has not passed yet
	Unready  bool   // the readiness probe has not passed yet, or failed
	Failing  bool   // Unready because it failed, not because it never passed
	Dead     bool   // startup or liveness failed: restart it
	Reason   string // of all that is not good
}

// Good reports whether the instance is started, ready and alive.
func (v Verdict) Good() bool { return !v.Starting && !v.Unready && !v.Dead }

// Verdict says what s means. It is pure, and its reason names no ages.
func (s Status) Verdict() Verdict {
	h := s.health
	if h.Startup != nil {
		switch t := s.tally[Startup]; {
		case t.Bad:
			return Verdict{Starting: true, Unready: true, Dead: true, Reason: failed(Startup, *h.Startup, t)}
		case !t.Good:
			return Verdict{Starting: true, Unready: true, Reason: pending(Startup, *h.Startup, t)}
		}
	}
	var v Verdict
	if h.Readiness != nil {
		switch t := s.tally[Readiness]; {
		case t.Bad:
			v = Verdict{Unready: true, Failing: true, Reason: failed(Readiness, *h.Readiness, t)}
		case !t.Good:
			v = Verdict{Unready: true, Reason: pending(Readiness, *h.Readiness, t)}
		}
	}
	if h.Liveness != nil {
		if t := s.tally[Liveness]; t.Bad {
			v.Dead, v.Unready, v.Reason = true, true, failed(Liveness, *h.Liveness, t)
		}
	}
	return v
}

// failed tells of a probe that failed often enough to matter.
func failed(k Kind, p spec.Probe, t Tally) string {
	n := max(1, p.Failures)
	times := fmt.Sprintf("%d times", n)
	if n == 1 {
		times = "once"
	}
	return fmt.Sprintf("%s %s %s %s", k, What(p), t.How, times)
}

// pending tells of a probe that never passed.
func pending(k Kind, p spec.Probe, t Tally) string {
	s := fmt.Sprintf("%s %s has not succeeded yet", k, What(p))
	if t.How != "" {
		s += ": " + t.How
	}
	return s
}

// What names what a probe asks: "GET http://127.0.0.1:9100/".
func What(p spec.Probe) string {
	switch {
	case p.HTTP != "":
		return "GET " + p.HTTP
	case p.TCP != "":
		return "connection to " + p.TCP
	}
	return "command " + clip(strings.Join(p.Exec, " "), 80)
}

// clip keeps a text to n bytes on one line.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
