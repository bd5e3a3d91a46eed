package record

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// pool is records of one key with arbitrary generations and ancestors, honest
// or not, each signed by one, the other or both of two keys.
func pool(t testing.TB, kind Kind) []Record {
	t.Helper()
	a, b := testKey(1), testKey(2)
	trust := trustOf(a, b)
	rng := rand.New(rand.NewPCG(1, 2))
	var out []Record
	var digests []Digest
	for i := range 40 {
		h := Header{Ring: ringA(), Key: Key{kind, "web"}, Generation: 1 + uint64(rng.IntN(14)), Author: fmt.Sprint(i), Created: epoch()}
		for _, d := range rng.Perm(len(digests)) {
			if len(h.Ancestors) < rng.IntN(MaxAncestors+1) {
				h.Ancestors = append(h.Ancestors, digests[d])
			}
		}
		if len(h.Ancestors) > 0 {
			h.Parent = h.Ancestors[0]
		}
		body := []byte(fmt.Sprint(rng.IntN(5)))
		if kind == KindBlob {
			h.Key.Name = BlobName([]byte("one"))
			body = []byte("one")
		}
		for _, keys := range [][]PrivateKey{{a}, {b}, {a, b}} {
			out = append(out, mustVerify(t, mustSign(t, h, body, keys...), trust))
		}
		digests = append(digests, out[len(out)-1].Digest)
	}
	return out
}

func equalEntries(a, b Entry) bool { return same(a, b) && slices.Equal(a.Items(), b.Items()) }

func drawRecords(t *rapid.T, from []Record, label string) []Record {
	return rapid.SliceOfN(rapid.SampledFrom(from), 0, 12).Draw(t, label)
}

func TestMergeIsASemilattice(t *testing.T) {
	for _, kind := range []Kind{KindDaemon, KindBlob, "quota"} {
		records := pool(t, kind)
		t.Run(string(kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				x, y, z := drawRecords(t, records, "x"), drawRecords(t, records, "y"), drawRecords(t, records, "z")
				a, b, c := EntryOf(x...), EntryOf(y...), EntryOf(z...)
				if !equalEntries(Merge(a, b), Merge(b, a)) {
					t.Fatal("not commutative")
				}
				if !equalEntries(Merge(Merge(a, b), c), Merge(a, Merge(b, c))) {
					t.Fatal("not associative")
				}
				if !equalEntries(Merge(a, a), a) {
					t.Fatal("not idempotent")
				}
				if !equalEntries(Merge(a, b), EntryOf(slices.Concat(x, y)...)) {
					t.Fatal("the merge of two entries is not the entry of all their records")
				}
			})
		})
	}
}

// Any order of arrival, with any duplicates, ends in the same entry, the same
// hashes and the same words about conflicts.
func TestAnyOrderOfArrivalConverges(t *testing.T) {
	records := pool(t, KindDaemon)
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.SampledFrom(records), 1, 20).Draw(t, "records")
		one, other := NewSet(), NewSet()
		for _, r := range list {
			one.Offer(r)
		}
		again := append(rapid.Permutation(list).Draw(t, "order"), rapid.SliceOfN(rapid.SampledFrom(list), 0, 10).Draw(t, "duplicates")...)
		for _, r := range rapid.Permutation(again).Draw(t, "order with duplicates") {
			other.Offer(r)
		}
		k := daemonKey()
		if !equalEntries(one.Entry(k), other.Entry(k)) {
			t.Fatalf("entries differ:\n%v\n%v", one.Entry(k).Items(), other.Entry(k).Items())
		}
		if one.Root() != other.Root() || one.BucketHashes() != other.BucketHashes() {
			t.Fatal("hashes differ")
		}
		if one.Entry(k).Conflict() != other.Entry(k).Conflict() {
			t.Fatal("words differ")
		}
	})
}

// Wants must never say no to what would change the set, or nodes stay apart;
// and never yes to what would not, or they swap for ever.
func TestWantsAgreesWithOffer(t *testing.T) {
	records := pool(t, KindDaemon)
	rapid.Check(t, func(t *rapid.T) {
		set := NewSet()
		for _, r := range drawRecords(t, records, "held") {
			set.Offer(r)
		}
		r := rapid.SampledFrom(records).Draw(t, "offered")
		wants := set.Wants(EntryOf(r).Items()[0])
		held, was := set.Find(r.Key, r.Digest)
		changed := set.Offer(r)
		if changed && !wants {
			t.Fatal("did not want what changed the set")
		}
		// A peer that holds fewer signatures looks different, and only looking
		// tells that it has nothing new.
		fewer := was && len(held.Signers) > len(r.Signers)
		if wants && !changed && !fewer {
			t.Fatal("wanted what did not change the set")
		}
	})
}

func TestEntryOrder(t *testing.T) {
	p := follow(t, Entry{}, daemonKey(), "alice", "p")
	a := follow(t, EntryOf(p), daemonKey(), "alice", "a")
	b := follow(t, EntryOf(p), daemonKey(), "bob", "b")
	if a.Version().Compare(b.Version()) < 0 {
		a, b = b, a
	}
	e := EntryOf(b, p, a)
	if e.Winner().Digest != a.Digest || !e.Forked() || e.Records[1].Digest != b.Digest {
		t.Errorf("fork: %v", e.Items())
	}
	if len(e.Past) != 1 || e.Past[0].Digest != p.Digest {
		t.Errorf("past: %v", e.Past)
	}
	for _, want := range []string{"generation 2 was written twice", "by " + a.Author, "by " + b.Author, "which counts"} {
		if !strings.Contains(e.Conflict(), want) {
			t.Errorf("conflict %q does not say %q", e.Conflict(), want)
		}
	}
	if c := EntryOf(p, a).Conflict(); c != "" {
		t.Errorf("a plain change is called a conflict: %s", c)
	}
}

// A and B follow P, C follows A: B must not vanish, whoever learns what first.
func TestLostUpdateIsShownInAnyOrder(t *testing.T) {
	p := follow(t, Entry{}, daemonKey(), "alice", "p")
	a := follow(t, EntryOf(p), daemonKey(), "alice", "a")
	b := follow(t, EntryOf(p), daemonKey(), "bob", "b")
	c := follow(t, EntryOf(p, a), daemonKey(), "carol", "c")
	permute([]Record{p, a, b, c}, func(order []Record) {
		var e Entry
		for _, r := range order {
			e = Merge(e, EntryOf(r))
		}
		if lost := e.Lost(); len(lost) != 1 || lost[0].Digest != b.Digest {
			t.Fatalf("order %v: lost %v, want b", authors(order), lost)
		}
		if words := e.Conflict(); !strings.Contains(words, "by bob") || !strings.Contains(words, "by carol") {
			t.Fatalf("conflict %q", words)
		}
	})
	e := EntryOf(p, a, b, c)
	d := follow(t, e, daemonKey(), "dave", "d")
	e = Merge(e, EntryOf(d))
	if words := e.Conflict(); words != "" {
		t.Errorf("a record written after looking at all of them does not settle it: %s", words)
	}
}

func permute(list []Record, f func([]Record)) {
	var rec func(i int)
	rec = func(i int) {
		if i == len(list) {
			f(list)
			return
		}
		for j := i; j < len(list); j++ {
			list[i], list[j] = list[j], list[i]
			rec(i + 1)
			list[i], list[j] = list[j], list[i]
		}
	}
	rec(0)
}

func authors(list []Record) []string {
	var out []string
	for _, r := range list {
		out = append(out, r.Author)
	}
	return out
}

func TestWritingTheSameTwiceIsNoConflict(t *testing.T) {
	p := follow(t, Entry{}, daemonKey(), "alice", "p")
	a := follow(t, EntryOf(p), daemonKey(), "alice", "same")
	b := follow(t, EntryOf(p), daemonKey(), "bob", "same")
	e := EntryOf(p, a, b)
	if !e.Forked() || e.Conflict() != "" {
		t.Errorf("forked %v, conflict %q", e.Forked(), e.Conflict())
	}
}

// A delete is a record like any other: what follows it wins over it, and what
// it replaced never comes back.
func TestDeleteIsNotUndoneByOldRecords(t *testing.T) {
	k := testKey(1)
	e := EntryOf(follow(t, Entry{}, daemonKey(), "alice", "p"))
	for i := range 3 * MaxAncestors {
		e = Merge(e, EntryOf(follow(t, e, daemonKey(), "alice", fmt.Sprint(i))))
	}
	before := e
	h := Next(e, ringA(), daemonKey(), "alice", epoch())
	h.Delete = true
	tomb := mustVerify(t, mustSign(t, h, nil, k), trustOf(k))
	if len(tomb.Envelope) > 2<<10 {
		t.Errorf("a tombstone of %d bytes", len(tomb.Envelope))
	}
	e = Merge(e, EntryOf(tomb))
	e = Merge(e, before)
	if !e.Winner().Delete || e.Conflict() != "" {
		t.Errorf("winner %v, conflict %q", e.Winner().Header, e.Conflict())
	}
	if len(e.Past) != MaxAncestors {
		t.Errorf("%d past generations, want %d", len(e.Past), MaxAncestors)
	}
}

func TestMergeUnitesSignatures(t *testing.T) {
	a, b := testKey(1), testKey(2)
	h := Header{Ring: ringA(), Key: daemonKey(), Generation: 1, Created: epoch()}
	ra := mustVerify(t, mustSign(t, h, nil, a), trustOf(a, b))
	rb := mustVerify(t, mustSign(t, h, nil, b), trustOf(a, b))
	both := mustVerify(t, mustSign(t, h, nil, a, b), trustOf(a, b))
	e := Merge(EntryOf(ra), EntryOf(rb))
	if e.Forked() || !bytes.Equal(e.Winner().Envelope, both.Envelope) || !slices.Equal(e.Winner().Signers, both.Signers) {
		t.Errorf("%s\nwant\n%s", e.Winner().Envelope, both.Envelope)
	}
}

// Operators who look before they write, on replicas that swap now and then:
// whatever the winner does not descend from is shown, and one record that
// follows the entry settles everything.
func TestNothingVanishesInSilence(t *testing.T) {
	k := testKey(1)
	rapid.Check(t, func(t *rapid.T) {
		replicas := make([]Entry, rapid.IntRange(1, 3).Draw(t, "replicas"))
		written := map[Digest]Record{}
		follows := map[Digest]map[Digest]bool{} // every record that the author had seen
		generations := map[uint64]int{}
		pick := rapid.IntRange(0, len(replicas)-1)
		steps := rapid.IntRange(1, 16).Draw(t, "steps")
		write := func(i, n int) Record {
			h := Next(replicas[i], ringA(), daemonKey(), fmt.Sprintf("op-%d-%d", i, n), epoch())
			env, err := Sign(h, []byte(fmt.Sprint(n)), k)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Verify(env, ringA(), trustOf(k))
			if err != nil {
				t.Fatal(err)
			}
			if err := Admit(replicas[i], r); err != nil && !strings.Contains(err.Error(), "daemon") {
				t.Fatal(err)
			}
			seen := map[Digest]bool{}
			for _, old := range replicas[i].All() {
				seen[old.Digest] = true
				for d := range follows[old.Digest] {
					seen[d] = true
				}
			}
			follows[r.Digest], written[r.Digest] = seen, r
			replicas[i] = Merge(replicas[i], EntryOf(r))
			generations[r.Generation]++
			return r
		}
		for n := range steps {
			if rapid.Bool().Draw(t, "write") {
				write(pick.Draw(t, "at"), n)
			} else {
				i, j := pick.Draw(t, "from"), pick.Draw(t, "to")
				replicas[j] = Merge(replicas[j], replicas[i])
			}
		}
		var all Entry
		for _, e := range replicas {
			all = Merge(all, e)
		}
		if all.Empty() {
			return
		}
		w := all.Winner()
		shown := map[Digest]bool{}
		for _, r := range all.Unsettled() {
			shown[r.Digest] = true
		}
		for d, r := range written {
			crowded := generations[r.Generation] > 2 // only two of a generation are kept
			old := w.Generation-r.Generation > MaxAncestors
			if d != w.Digest && !follows[w.Digest][d] && !shown[d] && !crowded && !old {
				if !all.Forked() || !follows[all.Records[1].Digest][d] {
					t.Fatalf("%v by %s is nowhere to be seen; winner %v", r.Version(), r.Author, w.Version())
				}
			}
		}
		for i := range replicas {
			replicas[i] = all
		}
		write(0, 99)
		if c := replicas[0].Conflict(); c != "" && len(all.Unsettled()) < MaxAncestors {
			t.Fatalf("not settled by a record that follows everything: %s", c)
		}
	})
}
