package record

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestKeyValid(t *testing.T) {
	long := strings.Repeat("a", MaxName)
	for _, s := range []string{"daemon/web", "blob/a", "control/forget.web-1", "quota/0_9.a", "daemon/" + long} {
		k, err := ParseKey(s)
		if err != nil || k.String() != s {
			t.Errorf("ParseKey(%q) = %v, %v", s, k, err)
		}
	}
	for _, s := range []string{"", "daemon", "/web", "daemon/", "Daemon/web", "a1/web", "daemon/-web", "daemon/web.", "daemon/../x",
		"daemon/Web", "daemon/a b", "daemon/wéb", "daemon/" + long + "a", strings.Repeat("k", 17) + "/web", "daemon/a/b"} {
		if k, err := ParseKey(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseKey(%q) = %v, %v, want ErrMalformed", s, k, err)
		}
	}
}

func TestForgetKey(t *testing.T) {
	seen := map[Key]string{}
	for _, node := range []string{"web-1", "WEB-1", "web-1.example.com", strings.Repeat("n", 56), strings.Repeat("n", 57), "hash.x", "ünicode", "-"} {
		k := ForgetKey(node)
		if err := k.Valid(); err != nil {
			t.Errorf("ForgetKey(%q) = %v: %v", node, k, err)
		}
		if other, dup := seen[k]; dup {
			t.Errorf("%q and %q have the same key %s", node, other, k)
		}
		seen[k] = node
		f, err := DecodeForget(EncodeForget(Forget{Node: node, ID: NodeID{7}.String()}))
		if err != nil || f.Node != node || f.ID != (NodeID{7}).String() {
			t.Errorf("forget %q came back as %+v, %v", node, f, err)
		}
	}
	if got := ForgetKey("web-1").String(); got != "control/forget.web-1" {
		t.Errorf("ForgetKey(web-1) = %s", got)
	}
}

func TestAdmit(t *testing.T) {
	p := follow(t, Entry{}, daemonKey(), "alice", daemonBody(t, "p", 1))
	a := follow(t, EntryOf(p), daemonKey(), "alice", daemonBody(t, "a", 2))
	b := follow(t, EntryOf(p), daemonKey(), "bob", daemonBody(t, "b", 2))
	c := follow(t, EntryOf(p, a), daemonKey(), "carol", daemonBody(t, "c", 3))
	nonsense := follow(t, EntryOf(p), daemonKey(), "alice", "no daemon at all")
	newer := follow(t, EntryOf(p), daemonKey(), "alice", `{"schema":2,"revision":1,"rollout":{}}`+"\n{}")
	tests := []struct {
		name  string
		cur   Entry
		r     Record
		words string // "" for admitted
	}{
		{"the first", Entry{}, p, ""},
		{"follows the winner", EntryOf(p), a, ""},
		{"the winner once more", EntryOf(p, a), a, ""},
		{"the loser of a fork once more", EntryOf(p, a, b), b, ""},
		{"was made before somebody else's", EntryOf(p, a), b, "was changed meanwhile: it is now at generation 2 (" + a.Digest.Short() + ") by alice"},
		{"was superseded since", EntryOf(p, a, c), a, "generation 3"},
		{"jumps over a generation", EntryOf(p), c, "was changed meanwhile"},
		{"follows what is not here", Entry{}, a, "not known here"},
		{"nonsense for a body", EntryOf(p), nonsense, "no spec"},
		{"a body of a newer agentd", EntryOf(p), newer, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Admit(tt.cur, tt.r)
			switch {
			case tt.words == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.words != "" && (err == nil || !strings.Contains(err.Error(), tt.words)):
				t.Errorf("error %v, want one with %q", err, tt.words)
			}
		})
	}
}

func TestNextNamesTheChain(t *testing.T) {
	var e Entry
	var chain []Digest
	for i := range 2 * MaxAncestors {
		r := follow(t, e, daemonKey(), "alice", fmt.Sprint(i))
		if r.Generation != uint64(i+1) || len(r.Ancestors) != min(i, MaxAncestors) {
			t.Fatalf("record %d: generation %d with %d ancestors", i, r.Generation, len(r.Ancestors))
		}
		for j, a := range r.Ancestors {
			if a != chain[len(chain)-1-j] {
				t.Fatalf("record %d: ancestor %d is %s", i, j, a.Short())
			}
		}
		chain = append(chain, r.Digest)
		e = Merge(e, EntryOf(r))
	}
}

// Hashes that are brought up to date step by step equal those of a set that was
// filled at once, and tell any two different sets apart.
func TestSetHashes(t *testing.T) {
	var records []Record
	for i := range 60 {
		e := Entry{}
		key := Key{KindDaemon, fmt.Sprintf("d%d", i)}
		for g := range 3 {
			r := follow(t, e, key, "alice", fmt.Sprint(g))
			e = Merge(e, EntryOf(r))
			records = append(records, r)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfNDistinct(rapid.SampledFrom(records), 1, 40, func(r Record) Digest { return r.Digest }).Draw(t, "records")
		step, once := NewSet(), NewSet()
		for _, r := range list {
			step.Offer(r)
			step.Root()
		}
		for _, r := range list {
			once.Offer(r)
		}
		if step.Root() != once.Root() || step.BucketHashes() != once.BucketHashes() {
			t.Fatal("hashes depend on when they were asked for")
		}
		n := 0
		hashes := step.BucketHashes()
		for b := range Buckets {
			items := step.Items([]uint8{uint8(b)})
			n += len(items)
			if (hashes[b] == [32]byte{}) != (len(items) == 0) {
				t.Fatalf("bucket %d: %d items, hash %x", b, len(items), hashes[b])
			}
			for _, it := range items {
				if it.Key.Bucket() != uint8(b) {
					t.Fatalf("%s is in bucket %d", it.Key, b)
				}
			}
		}
		if n != len(list) {
			t.Fatalf("%d items of %d records", n, len(list))
		}
		less := NewSet()
		for _, r := range list[1:] {
			less.Offer(r)
		}
		if less.Root() == step.Root() {
			t.Fatal("a record less, and the same root")
		}
	})
}

func TestSetLimitsNames(t *testing.T) {
	set := NewSet()
	for i := range MaxKeys {
		set.Offer(Record{Header: Header{Key: Key{KindDaemon, fmt.Sprintf("d%d", i)}, Generation: 1}, Digest: Digest{byte(i), byte(i >> 8)}})
	}
	extra := follow(t, Entry{}, Key{KindDaemon, "extra"}, "alice", daemonBody(t, "x", 1))
	if err := set.Admit(extra); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one name too many is admitted: %v", err)
	}
	if !set.Offer(extra) {
		t.Error("the limit holds for what another node admitted, too")
	}
}

func TestHistoryKeepsTenRevisions(t *testing.T) {
	set := NewSet()
	key := daemonKey()
	put := func(revision int, fallback Version) Record {
		t.Helper()
		b, err := EncodeDaemon(DaemonBody{Spec: []byte("{}"), Revision: revision, Rollout: Rollout{K: 1, Fallback: fallback}})
		if err != nil {
			t.Fatal(err)
		}
		r := follow(t, set.Entry(key), key, "alice", string(b))
		set.Offer(r)
		return r
	}
	first := put(1, Version{})
	for rev := 2; rev <= 30; rev++ {
		for range 3 { // three generations of each revision
			put(rev, first.Version())
		}
	}
	want := []int{29, 28, 27, 26, 25, 24, 23, 22, 21}
	history := set.History("web")
	var got []int
	for _, r := range history {
		n, _ := revision(r)
		got = append(got, n)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("history %v, want %v", got, want)
	}
	if _, ok := set.Find(key, first.Digest); !ok {
		t.Error("the fallback of a rollout under way is gone")
	}
	if n := len(set.Held(key)); n > 1+MaxAncestors+MaxHistory+1 {
		t.Errorf("%d records held", n)
	}
	h := Next(set.Entry(key), ringA(), key, "alice", epoch())
	h.Delete = true
	k := testKey(1)
	set.Offer(mustVerify(t, mustSign(t, h, nil, k), trustOf(k)))
	if got := set.History("web"); len(got) == 0 {
		t.Error("no history after a delete")
	} else if n, _ := revision(got[0]); n != 30 {
		t.Errorf("after a delete the newest revision is %d, want 30", n)
	}
}
