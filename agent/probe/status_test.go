package probe

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
)

// ask is a probe of one kind with thresholds.
func ask(successes, failures int) *spec.Probe {
	return &spec.Probe{HTTP: "http://127.0.0.1:9100/", Interval: spec.Duration(10 * time.Second), Timeout: spec.Duration(time.Second),
		Successes: successes, Failures: failures}
}

func TestVerdict(t *testing.T) {
	both := spec.Health{Liveness: ask(1, 3), Readiness: ask(2, 2)}
	all := spec.Health{Startup: ask(1, 2), Liveness: ask(1, 1), Readiness: ask(1, 1)}
	tests := []struct {
		name    string
		health  spec.Health
		was     bool
		said    string // per attempt: kind letter, then + passed, - refused, e refused early, ? unknown
		starts  bool
		unready bool
		fails   bool
		dead    bool
		words   string
	}{
		{name: "no probes: always well", said: ""},
		{name: "readiness was not asked yet", health: both, unready: true, words: "readiness GET http://127.0.0.1:9100/ has not succeeded yet"},
		{name: "one success of two", health: both, said: "r+", unready: true},
		{name: "two successes in a row", health: both, said: "r+ r+"},
		{name: "two successes, not in a row", health: both, said: "r+ r- r+", unready: true},
		{name: "ready, one failure of two", health: both, said: "r+ r+ r-"},
		{name: "ready, then failed", health: both, said: "r+ r+ r- r-", unready: true, fails: true, words: "readiness GET http://127.0.0.1:9100/ refused 2 times"},
		{name: "failed, one success of two", health: both, said: "r- r- r+", unready: true, fails: true},
		{name: "failed, recovered", health: both, said: "r- r- r+ r+"},
		{name: "early failures do not count", health: both, said: "re re re re", unready: true, words: "has not succeeded yet: refused"},
		{name: "unknown counts nothing", health: both, said: "r+ r+ r- r? l- l- l? r?"},
		{name: "liveness failed twice of three", health: both, said: "r+ r+ l- l-"},
		{name: "liveness failed", health: both, said: "r+ r+ l- l- l-", unready: true, dead: true, words: "liveness GET http://127.0.0.1:9100/ refused 3 times"},
		{name: "liveness failed, not in a row", health: both, said: "r+ r+ l- l- l+ l-"},
		{name: "liveness recovered before anybody acted", health: both, said: "r+ r+ l- l- l- l+"},
		{name: "startup comes first", health: all, said: "", starts: true, unready: true, words: "startup"},
		{name: "startup passed", health: all, said: "s+", unready: true, words: "readiness"},
		{name: "startup failed", health: all, said: "s- s-", starts: true, unready: true, dead: true, words: "startup GET http://127.0.0.1:9100/ refused 2 times"},
		{name: "all passed", health: all, said: "s+ r+ l+"},
		{name: "once is written as once", health: all, said: "s+ r+ l-", unready: true, dead: true, words: "refused once"},
		{name: "was good under another agent", health: all, was: true},
		{name: "was good, and failed since", health: all, was: true, said: "r-", unready: true, fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := New(tt.health, tt.was)
			for _, a := range strings.Fields(tt.said) {
				k := map[byte]Kind{'s': Startup, 'l': Liveness, 'r': Readiness}[a[0]]
				o := map[byte]Outcome{'+': {Result: Passed}, '-': {Failed, "refused"}, 'e': {Failed, "refused"}, '?': {Unknown, "hung"}}[a[1]]
				s = s.Add(k, o, a[1] == 'e')
			}
			v := s.Verdict()
			if v.Starting != tt.starts || v.Unready != tt.unready || v.Failing != tt.fails || v.Dead != tt.dead {
				t.Fatalf("verdict %+v", v)
			}
			if v.Good() != (v.Reason == "") || !strings.Contains(v.Reason, tt.words) {
				t.Fatalf("reason %q lacks %q", v.Reason, tt.words)
			}
		})
	}
}

// A probe turns bad only after Failures failures in a row, and good only after
// Successes successes in a row, whatever came before.
func TestTallyProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := *ask(rapid.IntRange(0, 4).Draw(rt, "successes"), rapid.IntRange(0, 4).Draw(rt, "failures"))
		var tally Tally
		var passes, fails int // in a row; an unknown interrupts nothing
		for _, r := range rapid.SliceOfN(rapid.SampledFrom([]Result{Passed, Failed, Unknown}), 0, 40).Draw(rt, "results") {
			before := tally
			tally = tally.Add(p, Outcome{Result: r, How: "refused"}, false)
			switch r {
			case Passed:
				passes, fails = passes+1, 0
			case Failed:
				passes, fails = 0, fails+1
			case Unknown:
				if tally != before {
					rt.Fatalf("an unknown changed %+v to %+v", before, tally)
				}
			}
			if tally.Good && tally.Bad {
				rt.Fatalf("both good and bad: %+v", tally)
			}
			if !before.Good && tally.Good && passes < max(1, p.Successes) || !before.Bad && tally.Bad && fails < max(1, p.Failures) {
				rt.Fatalf("changed its mind too soon: %+v to %+v", before, tally)
			}
			if passes >= max(1, p.Successes) && !tally.Good || fails >= max(1, p.Failures) && !tally.Bad {
				rt.Fatalf("did not change its mind: %+v", tally)
			}
		}
	})
}
