package record

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// Entry is what a node holds of one key. The zero Entry is empty.
//
// # The lattice
//
// Let S be the set of verified records of a key that a node has ever seen. The
// entry is f(S):
//
//   - of S, records with equal digests are one record with the union of their
//     signatures (per key id the greatest signature);
//   - g is the highest generation in S; generations below g - depth fall out;
//   - of each generation that is left, the width greatest by digest stay.
//
// Merge(a, b) is f(a ∪ b). Each step keeps the greatest elements of a total
// order that does not depend on the node: what f drops, a larger set drops as
// well, since g only rises and a generation's greatest digests only get
// greater. Hence f(f(S) ∪ f(T)) = f(S ∪ T): the entries form a join
// semilattice, Merge is its join, and any order of arrival, with any
// duplicates, ends in the same entry.
//
// Which records conflict is *not* decided while merging. A rule such as "keep
// B if the winner's ancestors do not name it" would depend on which winner met
// B: A and B follow P, C follows A; who learns C before B would have to keep B,
// and who learns it after D, which follows B, would have to keep A, that others
// dropped. Keeping the last generations whole costs a few bodies and makes the
// conflict a function of the entry, so that all nodes show the same one. They
// also serve as the history that a new node gets from the ring.
type Entry struct {
	// Records are those of the highest generation: one, or two when it is
	// forked, greatest first.
	Records []Record
	// Past are the generations before, greatest first: at most MaxAncestors
	// generations back, at most two of each.
	Past []Record
}

// depth is how many generations before the highest one stay in an entry, and
// width how many records of each. A blob is its own content, so that one is
// enough. Kinds that are not known here have to have the values of the others,
// or nodes of two versions would never agree.
func depth(k Kind) uint64 {
	if k == KindBlob {
		return 0
	}
	return MaxAncestors
}

func width(k Kind) int {
	if k == KindBlob {
		return 1
	}
	return 2
}

// EntryOf returns the entry of the given records, which must be of one key.
func EntryOf(records ...Record) Entry {
	if len(records) == 0 {
		return Entry{}
	}
	all := slices.Clone(records)
	slices.SortStableFunc(all, func(a, b Record) int { return b.Version().Compare(a.Version()) })
	kind, top := all[0].Key.Kind, all[0].Generation
	var e Entry
	var gen uint64
	n := 0
	for i := 0; i < len(all); {
		r := all[i]
		for i++; i < len(all) && all[i].Digest == r.Digest; i++ {
			r = unite(r, all[i])
		}
		if r.Generation != gen {
			gen, n = r.Generation, 0
		}
		if n++; n > width(kind) || top-r.Generation > depth(kind) {
			continue
		}
		if r.Generation == top {
			e.Records = append(e.Records, r)
		} else {
			e.Past = append(e.Past, r)
		}
	}
	return e
}

// Merge returns the join of two entries of one key; see Entry.
func Merge(a, b Entry) Entry {
	switch {
	case a.Empty():
		return b
	case b.Empty():
		return a
	}
	return EntryOf(slices.Concat(a.All(), b.All())...)
}

// unite returns a with the signatures of both; a and b have the same digest.
func unite(a, b Record) Record {
	if bytes.Equal(a.Envelope, b.Envelope) {
		return a
	}
	ea, erra := parseEnvelope(a.Envelope)
	eb, errb := parseEnvelope(b.Envelope)
	if erra != nil || errb != nil {
		// Verify made both, so this does not happen; the choice only has to be
		// the same on both sides.
		if bytes.Compare(a.Envelope, b.Envelope) < 0 {
			return b
		}
		return a
	}
	ea.signatures = canonical(append(ea.signatures, eb.signatures...))
	a.Signers = slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.Signers, b.Signers))))
	a.Signers = a.Signers[:min(len(a.Signers), MaxSignatures)]
	a.Envelope = ea.marshal()
	return a
}

// Empty reports whether nothing is held.
func (e Entry) Empty() bool { return len(e.Records) == 0 }

// Winner returns the greatest record, which is the one that counts; the zero
// Record for an empty entry.
func (e Entry) Winner() Record {
	if e.Empty() {
		return Record{}
	}
	return e.Records[0]
}

// Forked reports whether the highest generation was written twice.
func (e Entry) Forked() bool { return len(e.Records) > 1 }

// All returns every record of the entry, greatest first.
func (e Entry) All() []Record { return slices.Concat(e.Records, e.Past) }

// Find returns the record with that digest.
func (e Entry) Find(d Digest) (Record, bool) {
	for _, list := range [][]Record{e.Records, e.Past} {
		for _, r := range list {
			if r.Digest == d {
				return r, true
			}
		}
	}
	return Record{}, false
}

// Lost returns the records that were written over by somebody who had not seen
// them, greatest first: those of past generations that no record of the highest
// generation descends from, as far back as the entry goes.
func (e Entry) Lost() []Record {
	seen := map[Digest]bool{}
	var mark func(r Record)
	mark = func(r Record) {
		for _, a := range r.Ancestors {
			if seen[a] {
				continue
			}
			seen[a] = true
			// Ancestors are cut to MaxAncestors, and those that settle a
			// conflict name more than one per generation; the ancestors of
			// ancestors that are held complete the list.
			if older, ok := e.Find(a); ok && older.Generation < r.Generation {
				mark(older)
			}
		}
	}
	for _, r := range e.Records {
		mark(r)
	}
	var lost []Record
	for _, r := range e.Past {
		if !seen[r.Digest] {
			lost = append(lost, r)
		}
	}
	return lost
}

// Unsettled returns what the next record of the key has to name among its
// ancestors to settle every conflict: the loser of a fork and what was lost.
func (e Entry) Unsettled() []Record {
	if !e.Forked() {
		return e.Lost()
	}
	return append(slices.Clone(e.Records[1:]), e.Lost()...)
}

// Conflict says in words who wrote what without having seen the other; "" when
// there is no conflict. Two that wrote the same do not disagree. It lasts until
// a record that follows all of them arrives.
func (e Entry) Conflict() string {
	if e.Empty() || e.Winner().Key.Kind == KindBlob {
		return ""
	}
	w := e.Winner()
	var parts []string
	for _, r := range e.Unsettled() {
		if r.Delete == w.Delete && bytes.Equal(r.Body, w.Body) {
			continue
		}
		if r.Generation == w.Generation {
			parts = append(parts, fmt.Sprintf("generation %d was written twice: %s, which counts, and %s", w.Generation, by(w), by(r)))
		} else {
			parts = append(parts, fmt.Sprintf("generation %d %s was written over by somebody who had not seen it; generation %d %s counts",
				r.Generation, by(r), w.Generation, by(w)))
		}
	}
	return strings.Join(parts, "; ")
}

// by returns "by alice (51d07be)".
func by(r Record) string {
	author, what := r.Author, ""
	if author == "" {
		author = "an unnamed operator"
	}
	if r.Delete {
		what = ", a delete"
	}
	return fmt.Sprintf("by %s (%s%s)", author, r.Digest.Short(), what)
}

// Understood returns the greatest record for which ok returns true: the newest
// one of a schema that this agentd understands goes on running when a newer
// agentd has written something else.
func (e Entry) Understood(ok func(Record) bool) (Record, bool) {
	for _, r := range e.All() {
		if r.Schema <= Schema && ok(r) {
			return r, true
		}
	}
	return Record{}, false
}

// Item is what two nodes compare of one record.
type Item struct {
	Key     Key
	Version Version
	Signers [32]byte // see SignersHash
}

// Items lists the entry's records, greatest first.
func (e Entry) Items() []Item {
	items := make([]Item, 0, len(e.Records)+len(e.Past))
	for _, r := range e.All() {
		items = append(items, Item{r.Key, r.Version(), SignersHash(r.Signers)})
	}
	return items
}

// SignersHash hashes sorted key ids. It leaves the signatures themselves out: a
// key may sign the same bytes in many ways, all as good as each other.
func SignersHash(ids []string) [32]byte {
	return sha256.Sum256([]byte(strings.Join(ids, "\n")))
}

// wants reports whether a record with that item's version and signers could
// change the entry.
func (e Entry) wants(it Item) bool {
	if e.Empty() {
		return true
	}
	kind, top := it.Key.Kind, e.Winner().Generation
	if it.Version.Generation > top {
		return true
	}
	if top-it.Version.Generation > depth(kind) {
		return false
	}
	greater := 0
	for _, r := range e.All() {
		if r.Generation != it.Version.Generation {
			continue
		}
		if r.Digest == it.Version.Digest {
			return SignersHash(r.Signers) != it.Signers
		}
		if r.Version().Compare(it.Version) > 0 {
			greater++
		}
	}
	return greater < width(kind)
}
