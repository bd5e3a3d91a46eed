package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Kind is what a fault does.
type Kind string

const (
	KillInit   Kind = "kill init"       // SIGKILL to a daemon's program
	KillShim   Kind = "kill shim"       // SIGKILL to its shim
	KillServer Kind = "kill containerd" // SIGKILL to containerd, started again after Down
	KillAgent  Kind = "kill agent"      // SIGKILL to the agent, started again after Down
	CutCall    Kind = "cut call"        // the agent's connection breaks, at a chosen moment of a chosen call
	NewSpec    Kind = "new revision"    // no fault: another revision of everything is wanted from now on
)

// When is the moment of a call at which the connection breaks.
type When string

const (
	Before When = "before" // containerd never hears of the call
	During When = "during" // it does, and answers nobody
	After  When = "after"  // it is done, and the answer is lost
)

// Cut says which call is cut and when.
type Cut struct {
	When   When
	Method string        // end of the gRPC method's path; "": the next call, whatever it is
	Delay  time.Duration // During only: from the request's end to the break
}

// Fault is one entry of a schedule.
type Fault struct {
	N      int // counts from 1
	Kind   Kind
	Pause  time.Duration // since the fault before
	Daemon int           // index; when it has nothing to hit the next daemon is hit
	Down   time.Duration // KillServer, KillAgent: until it is started again
	Cut    Cut           // CutCall
}

// String is for the log.
func (f Fault) String() string {
	s := fmt.Sprintf("%d +%v %s", f.N, f.Pause, f.Kind)
	switch f.Kind {
	case KillInit, KillShim:
		s += fmt.Sprintf(" of daemon %d", f.Daemon)
	case KillServer, KillAgent:
		s += fmt.Sprintf(" for %v", f.Down)
	case CutCall:
		s += fmt.Sprintf(" %s %q of daemon %d", f.Cut.When, f.Cut.Method, f.Daemon)
		if f.Cut.When == During {
			s += fmt.Sprintf(" after %v", f.Cut.Delay)
		}
	}
	return s
}

// weights of the kinds, of 100.
var weights = []struct {
	kind  Kind
	share int
}{
	{KillInit, 34}, {KillShim, 20}, {CutCall, 25}, {KillAgent, 13}, {KillServer, 6}, {NewSpec, 2},
}

// methods are the calls of the agent that are worth cutting: all that change
// something, and those that decisions hang on.
var methods = []string{
	"Tasks/Create", "Tasks/Start", "Tasks/Delete", "Tasks/Kill", "Tasks/Wait", "Tasks/Get", "Tasks/List",
	"Containers/Create", "Containers/Update", "Containers/Delete", "Containers/Get",
	"Snapshots/Prepare", "Snapshots/Remove",
}

// Schedule deals out faults, the same ones for the same seed and number of
// daemons.
type Schedule struct {
	rng     *rand.Rand
	daemons int
	n       int
}

// NewSchedule is the schedule of a seed.
func NewSchedule(seed uint64, daemons int) *Schedule {
	return &Schedule{rng: rand.New(rand.NewPCG(seed, 0)), daemons: daemons}
}

// Next is the next fault. Every value is drawn for every fault, so that the
// schedule does not depend on which of them a kind uses.
func (s *Schedule) Next() Fault {
	s.n++
	f := Fault{N: s.n}
	draw := s.rng.IntN(100)
	for _, w := range weights {
		if draw -= w.share; draw < 0 {
			f.Kind = w.kind
			break
		}
	}
	// A third come on top of each other, the others while things recover.
	ms := func(n int) time.Duration { return time.Duration(s.rng.IntN(n)) * time.Millisecond }
	burst, soon, later := s.rng.IntN(3) == 0, ms(15), ms(250)
	f.Pause = later
	if burst {
		f.Pause = soon
	}
	f.Daemon, f.Down = s.rng.IntN(s.daemons), ms(250)
	f.Cut.When = []When{Before, During, After}[s.rng.IntN(3)]
	f.Cut.Delay = ms(60)
	if i := s.rng.IntN(len(methods) + 3); i < len(methods) {
		f.Cut.Method = methods[i]
	}
	return f
}
