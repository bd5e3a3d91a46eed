// Package rollout decides whose turn it is: how the nodes of a ring go on to a
// new record of a daemon, at most K of them down at once, with nobody in the
// middle.
//
// The signed record freezes K ordered lanes of nodes. A node takes its lane's
// one slot when every other node of the lane is provably past the older
// versions and those before it are done with this one; only being done frees
// the slot. What a node knows of others it knows from what they signed about
// themselves, each in one piece, and each fact in it, once true, stays true:
// late, lost or repeated news can only make a node wait.
//
// Promises: Step is a pure function of values, and the same function runs in
// agentd, in the model that tries all interleavings, and in the simulation.
// Keeper writes a changed state to the disk before anybody can act upon it or
// hear of it. Membership never frees a slot; missing knowledge only blocks, and
// every wait names whom it waits for.
//
// Bound: the nodes taken down by rollouts, updating or failed, are never more
// than the largest K since the last finished rollout, plus the nodes that an
// operator's word called down (skip, forget, left out) and that are up, or that
// have lent their turn: who borrowed it goes on. With on-delete, nodes that an
// operator told to go on add to that.
package rollout

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/agentd/agentd/spec/record"
)

// NodeID names a node in lanes and in evidence. It is the node's id in the ring,
// unless the node lost its rollout state: then it is a new one, and the node is
// no member of any lane that was dealt before.
type NodeID = record.NodeID

// Version is what nodes go on to: a record, or the way back from it. The veto
// of a record lies right after the record.
type Version struct {
	record.Version
	Vetoed bool
}

// Of returns the version of a record that is not vetoed.
func Of(v record.Version) Version { return Version{Version: v} }

// Compare orders versions totally: by generation, digest, veto.
func (v Version) Compare(o Version) int {
	return cmp.Or(v.Version.Compare(o.Version), boolCompare(v.Vetoed, o.Vetoed))
}

// IsZero reports whether v is no version.
func (v Version) IsZero() bool { return v == Version{} }

// String is for people: "generation 7 (51d07be), vetoed".
func (v Version) String() string {
	s := fmt.Sprintf("generation %d (%s)", v.Generation, v.Digest.Short())
	if v.Vetoed {
		s += ", vetoed"
	}
	return s
}

const vetoMark = "!"

// MarshalText writes GENERATION.DIGEST, with a "!" at the end for the veto.
func (v Version) MarshalText() ([]byte, error) {
	s := strconv.FormatUint(v.Generation, 10) + "." + v.Digest.String()
	if v.Vetoed {
		s += vetoMark
	}
	return []byte(s), nil
}

// UnmarshalText is the inverse of MarshalText.
func (v *Version) UnmarshalText(text []byte) error {
	s, vetoed := strings.CutSuffix(string(text), vetoMark)
	gen, digest, ok := strings.Cut(s, ".")
	n, err := strconv.ParseUint(gen, 10, 64)
	if !ok || err != nil || n > record.MaxGeneration {
		return fmt.Errorf("version %.80q: want GENERATION.DIGEST", text)
	}
	d, err := record.ParseDigest(digest)
	if err != nil {
		return fmt.Errorf("version %.80q: %w", text, err)
	}
	*v = Version{record.Version{Generation: n, Digest: d}, vetoed}
	return nil
}

// State is what a node writes down about its part in a daemon's rollouts, and,
// but for Current, what it tells the others: its word.
//
//	             turn comes                  ready for min_ready
//	waiting ───────────────────▶ slot held ──────────────────────▶ done
//	   ▲                          │  ▲   │                          │
//	   │                          │  └───┘ a newer version:         │
//	   │        missed deadline,  │   goes on in place, keeps Since │
//	   │        rebooted          ▼                                 │
//	   │                 slot held, failed ──── ready after all ───▶│
//	   └───────────────────── a newer version ─────────────────────┘
type State struct {
	// Observed is the newest version that this node knows and is bound by; it
	// never falls.
	Observed Version `json:"observed,omitzero"`
	// Slot is the lane's (or a borrowed) turn that this node holds.
	Slot *Slot `json:"slot,omitempty"`
	// Done is the newest version that this node is through with.
	Done Version `json:"done,omitzero"`
	// Lent is the turn that this node gave to a late one.
	Lent *Loan `json:"lent,omitempty"`
	// Failed is the record that this node could not go on to in time.
	Failed record.Version `json:"failed,omitzero"`
	// Started is the newest version whose container this node began to start as
	// a change. Its death after that may be the version's doing.
	Started Version `json:"started,omitzero"`
	// Asks is the node from which this one, being late, wants to borrow a turn.
	Asks NodeID `json:"asks,omitzero"`
	// Current is what runs here, or is started again in place after a crash.
	Current Current `json:"current,omitzero"`
}

// Slot is a turn that is held.
type Slot struct {
	Since  Version `json:"since"`  // the version it was taken for
	Target Version `json:"target"` // the version it serves by now, Since or newer
}

// Loan is a turn given to a late node.
type Loan struct {
	To  NodeID  `json:"to"`
	For Version `json:"for"`
	// Word is the operator's word about To that was known when it was lent; a
	// later word that To is down ends the loan.
	Word uint64 `json:"word,omitempty"`
}

// Current names what a node runs.
type Current struct {
	Version Version `json:"version"`
	Digest  string  `json:"digest"` // of the running part, as the ring knows it
}

// IsZero reports whether nothing is named.
func (c Current) IsZero() bool { return c == Current{} }

// Word returns what others are told.
func (s State) Word() State {
	s.Current = Current{}
	return s
}

// Equal compares by value.
func (s State) Equal(o State) bool {
	slot := (s.Slot == nil) == (o.Slot == nil) && (s.Slot == nil || *s.Slot == *o.Slot)
	lent := (s.Lent == nil) == (o.Lent == nil) && (s.Lent == nil || *s.Lent == *o.Lent)
	s.Slot, o.Slot, s.Lent, o.Lent = nil, nil, nil, nil
	return slot && lent && s == o
}

// clone returns a state that shares nothing with s.
func (s State) clone() State {
	if s.Slot != nil {
		slot := *s.Slot
		s.Slot = &slot
	}
	if s.Lent != nil {
		lent := *s.Lent
		s.Lent = &lent
	}
	return s
}

// Past reports whether the node can't be down for any version older than g, now
// or ever: it knows g, and neither holds nor lends a turn from before.
func (s State) Past(g Version) bool {
	return s.Observed.Compare(g) >= 0 &&
		(s.Slot == nil || s.Slot.Since.Compare(g) >= 0) &&
		(s.Lent == nil || s.Lent.For.Compare(g) >= 0)
}

// IsDone reports whether the node is through with g.
func (s State) IsDone(g Version) bool { return s.Done.Compare(g) >= 0 }

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
