package record

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxKeys is how many names of one kind may be added through Admit. It keeps
// the summary of a whole set, about 100 bytes an item, near one megabyte; the
// merge knows no such limit, since it would refuse by order of arrival.
const MaxKeys = 10_000

// Next returns the header of the record that replaces cur, written by author at
// now. Its ancestors are the winner, then what is unsettled (naming them says
// that the author has seen them, which ends the conflict), then the winner's
// own, MaxAncestors in all.
func Next(cur Entry, ring RingID, key Key, author string, now time.Time) Header {
	h := Header{
		Schema: Schema, Ring: ring, Key: key, Generation: 1,
		Author: author, Created: now.UTC().Truncate(time.Second),
	}
	if cur.Empty() {
		return h
	}
	w := cur.Winner()
	h.Generation, h.Parent = w.Generation+1, w.Digest
	chain := []Digest{w.Digest}
	for _, r := range cur.Unsettled() {
		chain = append(chain, r.Digest)
	}
	for _, a := range append(chain, w.Ancestors...) {
		if len(h.Ancestors) < MaxAncestors && !slices.Contains(h.Ancestors, a) {
			h.Ancestors = append(h.Ancestors, a)
		}
	}
	return h
}

// Admit decides whether a new record may be written on top of cur: it has to
// follow the winner (compare-and-set on the parent, generation = winner + 1),
// which also keeps generations from jumping. A record that is held as the
// highest generation already is admitted again, so that a repeated PUT and a
// further signature succeed.
//
// It is for new records that a user hands in, and only there: a record that
// comes from a peer was admitted somewhere and is merged, never admitted.
// Errors are *ConflictError or match ErrMalformed.
func Admit(cur Entry, r Record) error {
	conflict := &ConflictError{Key: r.Key, Got: r.Version(), Parent: r.Parent}
	for _, have := range cur.Records {
		if have.Digest == r.Digest {
			return nil
		}
		conflict.Have = append(conflict.Have, have.Version())
		conflict.Authors = append(conflict.Authors, have.Author)
	}
	w := cur.Winner() // the zero Record has generation 0 and a zero digest
	if r.Generation != w.Generation+1 || r.Parent != w.Digest {
		return conflict
	}
	return checkBody(r)
}

// checkBody refuses what this agentd knows to be nonsense. It is no part of
// Verify: what some node admitted, every node stores and forwards.
func checkBody(r Record) error {
	if r.Schema > Schema || r.Delete {
		return nil
	}
	var err error
	switch {
	case r.Key.Kind == KindDaemon:
		_, err = DecodeDaemon(r.Body)
	case r.Key.Kind == KindControl:
		err = checkControl(r)
	case r.Key.Kind == KindNode:
		_, err = DecodeNode(r.Body)
	}
	if err != nil && !errors.Is(err, ErrNewer) {
		return fmt.Errorf("%s: %w", r.Key, err)
	}
	return nil
}
