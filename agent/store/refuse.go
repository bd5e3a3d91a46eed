package store

import (
	"errors"
	"slices"
	"time"

	"github.com/agentd/agentd/spec/record"
)

// maxRefusals bounds what is remembered; the oldest is forgotten, which costs
// one more fetch.
const maxRefusals = 1024

// Refusal is a record that a peer holds and this node does not take.
type Refusal struct {
	Digest  record.Digest
	Signers []string // key ids that the envelope claimed
	TrustID string   // of the keys trusted here at the time
	Reason  string
	At      time.Time
}

// seen is a payload with certain signers; with the zero signers, a payload that
// is refused whoever signed it.
type seen struct {
	digest  record.Digest
	signers [32]byte
}

// refusals remembers by (digest, signers) what fetching again would not change
// as long as the trusted keys are the same, so that nodes that trust different
// keys do not swap for ever. The signers count because a member of the ring
// could otherwise send a good record with a bad signature first, and the good
// one would never be fetched.
type refusals struct {
	list  []Refusal // oldest first
	keys  []seen    // of list
	known map[seen]bool

	moot     map[seen]bool // signers that bring nothing to a record that is held
	mootKeys []seen        // oldest first
}

// add remembers an error of record.Verify; false when it did already or must
// not.
func (r *refusals) add(err error, trust string, now time.Time) bool {
	var e *record.RefusedError
	if !errors.As(err, &e) {
		return false
	}
	k := seen{digest: e.Digest}
	switch {
	case e.Trusted: // the payload itself is at fault
	case e.Forged: // others may have the right signature
		return false
	default:
		k.signers = record.SignersHash(e.KeyIDs)
	}
	if r.known[k] {
		return false
	}
	if r.known == nil {
		r.known = map[seen]bool{}
	}
	if len(r.list) >= maxRefusals {
		delete(r.known, r.keys[0])
		r.list, r.keys = r.list[1:], r.keys[1:]
	}
	r.known[k] = true
	r.keys = append(r.keys, k)
	r.list = append(r.list, Refusal{e.Digest, slices.Clone(e.KeyIDs), trust, err.Error(), now})
	return true
}

// spend remembers that an envelope was looked at in full: offering the same
// record with the same signers again brings nothing as long as it is held. A
// signature under a trusted key that did not match is no reason to refuse a
// better one from somebody else.
func (r *refusals) spend(rec record.Record, claim record.Claim) {
	k := seen{rec.Digest, claim.Signers}
	if claim.Forged || claim.Signers == record.SignersHash(rec.Signers) || r.moot[k] {
		return
	}
	if r.moot == nil {
		r.moot = map[seen]bool{}
	}
	if len(r.mootKeys) >= maxRefusals {
		delete(r.moot, r.mootKeys[0])
		r.mootKeys = r.mootKeys[1:]
	}
	r.moot[k] = true
	r.mootKeys = append(r.mootKeys, k)
}

// refuses reports whether fetching an item would bring nothing.
func (r *refusals) refuses(it record.Item, held bool) bool {
	k := seen{it.Version.Digest, it.Signers}
	return r.known[seen{digest: it.Version.Digest}] || r.known[k] || held && r.moot[k]
}

// Refused lists what was refused and not yet forgotten, oldest first.
func (s *Store) Refused() []Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused.list)
}
