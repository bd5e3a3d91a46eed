package rollout

import (
	"math"
	"slices"
	"time"

	"github.com/agentd/agentd/spec/record"
)

// Input is all that Step looks at.
type Input struct {
	Daemon string // its name, for the reasons
	Self   NodeID
	State  State // as persisted
	Newest Plan  // the newest record that this node may act upon
	Peers  map[NodeID]State
	// Down are the nodes that this one can't reach now. It never frees a slot.
	Down map[NodeID]bool
	// Words are the nodes that are down or gone by an operator's signed word
	// (skip, forget) or by their own (left), with a number that grows with each
	// new word about the same node.
	Words map[NodeID]uint64
	// Paused is why an operator lets nobody begin; "": nobody asked for it.
	Paused string
	// Forgiven are the nodes whose failures an operator's resume forgave.
	Forgiven map[NodeID]bool
	Here     Here
	Names    map[NodeID]string // for the reasons

	off rule // rules that the model switches off to see what each is for
}

// Plan is what the newest record says, resolved.
type Plan struct {
	Version  record.Version
	Delete   bool
	First    bool   // nothing ran before: no turns
	Digest   string // of the running part
	Lanes    [][]NodeID
	Canaries []NodeID
	// Fallback is what a rollback goes to, FallbackDigest its running part; ""
	// while its body is not here.
	Fallback       record.Version
	FallbackDigest string
	// Held is why nobody may go on to it or away from it now: a conflict, lanes
	// that are not here yet.
	Held string

	Strategy    Strategy
	Rollback    bool // on failure; otherwise pause
	MaxFailures int  // at least 1
	MinReady    time.Duration
	HandOver    time.Duration // a turn is kept at least this long after its container is ready
	Bake        time.Duration // more, for canaries
	Deadline    time.Duration // 0: none
}

// LeftWord is the number, in Input.Words, of a node's own word that it stopped
// everything and left. It counts as done, and is taken back when the node joins
// again.
const LeftWord = math.MaxUint64

// Strategy is the spec's update.strategy.
type Strategy int

const (
	Rolling   Strategy = iota
	AllAtOnce          // without turns, but each node holds a slot while it changes
	OnDelete           // only where an operator says so
)

// Here is what this node's supervisor says of the daemon.
type Here struct {
	Known  bool // the runtime was looked at
	Placed bool // the daemon is meant for this node
	// Closed is why nothing is started or changed here though it is meant for
	// this node: cordoned, a NoSchedule taint.
	Closed string
	Alive  bool   // some container of the daemon has processes
	Digest string // of the running part of the container that stands for it
	// Ready: that container is, and the supervisor decided to keep it after it
	// was told what State.Current names. One that it may be about to replace is
	// not ready, or a turn would be given back just before it is used.
	Ready bool
	// ReadyFor is for how long it has been ready without interruption.
	ReadyFor time.Duration
	// Tried is for how long the wanted digest has been tried: since its
	// container first ran, or preparing it first failed.
	Tried time.Duration
	// Rebooted: the machine was booted since State was written.
	Rebooted bool
	// Told: an operator asked this node to take the newest, see OnDelete.
	Told bool
}

// Decision is what follows.
type Decision struct {
	State  State   // to be persisted before anything else
	Run    Current // what is wanted here; zero: nothing that this node may start
	Delete bool    // nothing is wanted here any more
	Wait   Wait    // why Run is not the newest; zero when it is
}

// Wait says why a node does not go on.
type Wait struct {
	Code   Code
	Reason string   // in words
	On     []NodeID // whom it waits for
}

// Code names the kind of a wait.
type Code string

const (
	WaitTurn     Code = "turn"     // a node before it in its lane is not done
	WaitPast     Code = "past"     // a node of its lane is not past the older versions
	WaitCanary   Code = "canary"   // a canary is not done
	WaitPaused   Code = "paused"   // an operator's word
	WaitFailures Code = "failures" // too many nodes failed
	WaitHeld     Code = "held"     // a conflict, lanes that are not here
	WaitDeath    Code = "death"    // a node went down after it began to start it
	WaitClosed   Code = "closed"   // cordoned or tainted
	WaitStops    Code = "stops"    // not meant for this node any more, and still running
	WaitLent     Code = "lent"     // its own turn is lent
	WaitLate     Code = "late"     // not in the roster; it needs a lent turn
	WaitTold     Code = "told"     // on-delete
	WaitFallback Code = "fallback" // the body to go back to is not here
	WaitUnknown  Code = "unknown"  // the runtime was not looked at yet
	WaitDisk     Code = "disk"     // the state could not be written down
)

// rule is one of the protocol's rules, so that the model can try what happens
// without it. agentd never switches one off.
type rule uint

const (
	rulePast     rule = 1 << iota // past(m, g) of every lane peer
	ruleBefore                    // done(m, g) of those before it in its lane
	ruleCanary                    // done(c, g) of every canary
	ruleSince                     // a holder that goes on in place keeps since
	ruleFree                      // only done frees a slot
	ruleLoan                      // a loan counts as the lender's slot
	ruleLate                      // late nodes with something running borrow
	ruleTotal                     // versions are compared, never bare generations
	ruleOldest                    // the lender's whole lane is done
	ruleEvidence                  // no evidence is asked for at all (a mutation)
)

func (in Input) on(r rule) bool { return in.off&r == 0 }

// lane returns the index of the lane that n is in, and n's place; -1 when n is
// in none.
func (p Plan) lane(n NodeID) (lane, place int) {
	for i, l := range p.Lanes {
		if j := slices.Index(l, n); j >= 0 {
			return i, j
		}
	}
	return -1, -1
}

// down reports whether n is down or gone by somebody's signed word.
func (in Input) down(n NodeID) bool { return in.Words[n] > 0 }

// name is for reasons.
func (in Input) name(n NodeID) string {
	if s := in.Names[n]; s != "" {
		return s
	}
	return "node " + n.String()[:8]
}

// Finished reports whether every node of the lanes is itself done with the
// plan's record (with its veto, if there is one) or left by its own word, none is
// down by somebody else's, and no turn is lent. Only then may its successor deal lanes anew.
func Finished(p Plan, vetoed bool, peers map[NodeID]State, words map[NodeID]uint64) bool {
	g := Version{p.Version, vetoed}
	for _, lane := range p.Lanes {
		for _, m := range lane {
			s, ok := peers[m]
			if words[m] == LeftWord {
				continue
			}
			if !ok || words[m] > 0 || !s.IsDone(g) || s.Slot != nil || s.Lent != nil {
				return false
			}
		}
	}
	return true
}

// Failures returns the members of the lanes that failed the plan's record,
// sorted.
func Failures(p Plan, peers map[NodeID]State) []NodeID {
	var out []NodeID
	for _, lane := range p.Lanes {
		for _, m := range lane {
			if s, ok := peers[m]; ok && s.Failed == p.Version && !p.Version.IsZero() {
				out = append(out, m)
			}
		}
	}
	slices.SortFunc(out, func(a, b NodeID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// Threshold is how many failures stop the rollout.
func (p Plan) Threshold() int {
	return max(1, min(max(1, p.MaxFailures), len(p.Lanes)))
}

// Vetoed reports whether so many failures are known that the record is rolled
// back. There has to be something to go back to.
func (p Plan) Vetoed(failures int) bool {
	return p.Rollback && !p.First && !p.Delete && !p.Fallback.IsZero() && failures >= p.Threshold()
}
