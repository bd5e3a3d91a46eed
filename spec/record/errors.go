package record

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrUnsigned: no signature by a trusted key.
	ErrUnsigned = errors.New("not signed by a trusted operator")
	// ErrRing: signed for another ring.
	ErrRing = errors.New("a record of another ring")
	// ErrTooLarge: beyond a size limit.
	ErrTooLarge = errors.New("record too large")
	// ErrMalformed: not a record, or one that breaks the rules of its schema.
	ErrMalformed = errors.New("malformed record")
	// ErrNewer: written by a newer agentd than this one; it is stored and
	// forwarded, and what it says is not understood.
	ErrNewer = errors.New("written by a newer agentd")
)

// RefusedError says why Verify refused an envelope, and which payload it was
// about, so that the same bytes need not be fetched again.
type RefusedError struct {
	Digest Digest   // of the payload
	KeyIDs []string // that the envelope claims as signers, sorted
	// Trusted: a trusted key did sign the payload, so that it is the payload
	// itself that is refused, whoever sends it.
	Trusted bool
	// Forged: a signature under a trusted key's id does not match. The same
	// payload with other signatures may be good.
	Forged bool
	Err    error
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

func unsigned(trust *Trust, ids, forged []string) error {
	switch {
	case trust.Empty():
		return fmt.Errorf("%w: this node trusts no operator, so it refuses every record", ErrUnsigned)
	case len(forged) > 0:
		return fmt.Errorf("%w: the signature of %s does not match", ErrUnsigned, words("key", forged))
	default:
		return fmt.Errorf("%w: signed by %s, which this node does not trust", ErrUnsigned, words("key", ids))
	}
}

// words lists at most three of ids after a noun; ids come from the network.
func words(noun string, ids []string) string {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	shown := make([]string, 0, 4)
	for _, id := range ids[:min(len(ids), 3)] {
		if !printable(id) {
			id = fmt.Sprintf("%q", id)
		}
		shown = append(shown, id)
	}
	if more := len(ids) - len(shown); more > 0 {
		shown = append(shown, fmt.Sprintf("%d more", more))
	}
	if len(ids) > 1 {
		noun += "s"
	}
	return noun + " " + strings.Join(shown, ", ")
}

// ConflictError refuses a new record because the entry is not, or no longer,
// what the record says it replaces.
type ConflictError struct {
	Key     Key
	Have    []Version // what is held: none, one, or two when forked
	Authors []string  // of Have
	Got     Version   // the refused record
	Parent  Digest    // that it wants to replace
}

func (e *ConflictError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("%s is not known here, but the change is generation %d and wants to replace %s; "+
			"this node may not have caught up with the ring yet", e.Key, e.Got.Generation, orNothing(e.Parent))
	}
	have := make([]string, len(e.Have))
	for i, v := range e.Have {
		have[i] = fmt.Sprintf("generation %d (%s)", v.Generation, v.Digest.Short())
		if i < len(e.Authors) && e.Authors[i] != "" {
			have[i] += " by " + e.Authors[i]
		}
	}
	return fmt.Sprintf("%s was changed meanwhile: it is now at %s, and this change (generation %d) was made to replace %s; "+
		"look at what is there and apply again", e.Key, strings.Join(have, " and "), e.Got.Generation, orNothing(e.Parent))
}

func orNothing(d Digest) string {
	if d.IsZero() {
		return "nothing"
	}
	return d.Short()
}
