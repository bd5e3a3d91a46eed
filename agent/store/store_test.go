package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec/record"
)

func TestPutGetListReopen(t *testing.T) {
	ops := newOperators(t, 1)
	cfg := Config{Dir: t.TempDir(), Trust: ops.trust()}
	s := open(t, cfg)
	web, db := ops.chain(t, daemon("web"), 3), ops.chain(t, daemon("db"), 1)
	forget := ops.write(t, record.Entry{}, record.ForgetKey("n1"), string(record.EncodeForget(record.Forget{Node: "n1"})))
	put(t, s, append(append(web, db...), forget)...)
	r, changed, err := s.Put(t.Context(), web[2].env)
	if err != nil || changed || r.Digest != web[2].rec.Digest {
		t.Errorf("putting the same again: changed %v, %v", changed, err)
	}
	for range 2 {
		if e, ok := s.Get(daemon("web")); !ok || e.Winner().Digest != web[2].rec.Digest || len(e.Past) != 2 {
			t.Errorf("Get: %v", e.Items())
		}
		if l := s.List(record.KindDaemon); len(l) != 2 || l[0].Winner().Key != daemon("db") {
			t.Errorf("%d daemons", len(l))
		}
		if l := s.List(""); len(l) != 3 {
			t.Errorf("%d entries", len(l))
		}
		if h := s.History("web"); len(h) != 2 || h[0].Digest != web[1].rec.Digest {
			t.Errorf("%d in the history", len(h))
		}
		root := s.Root()
		if s = open(t, cfg); s.Root() != root || len(s.Problems()) > 0 {
			t.Errorf("another set after a restart: %q", s.Problems())
		}
	}
	files, err := filepath.Glob(cfg.Dir + "/records/*")
	if err != nil || len(files) != 5 {
		t.Errorf("files %q", files)
	}
	for _, f := range append(files, cfg.Dir+"/records") {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: others may read it: %v %v", f, info.Mode(), err)
		}
	}
}

func TestPutRefusals(t *testing.T) {
	ops := newOperators(t, 2)
	web := ops[:1].chain(t, daemon("web"), 2)
	rival := ops[:1].write(t, record.EntryOf(web[0].rec), daemon("web"), "rival")
	s := open(t, Config{Trust: ops[:1].trust(), disk: newMemDisk()})
	put(t, s, web...)
	root := s.Root()
	stranger := ops[1:].chain(t, daemon("web"), 1)[0]
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	s.writing <- struct{}{} // somebody is writing
	if _, _, err := s.Put(cancelled, rival.env); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled wait: %v", err)
	}
	<-s.writing
	var conflict *record.ConflictError
	if _, _, err := s.Put(t.Context(), rival.env); !errors.As(err, &conflict) {
		t.Errorf("made before somebody else's change: %v", err)
	}
	if _, _, err := s.Put(t.Context(), stranger.env); !errors.Is(err, record.ErrUnsigned) {
		t.Errorf("unknown signer: %v", err)
	}
	if s.Root() != root {
		t.Error("a refused record changed the set")
	}
}

func TestChanged(t *testing.T) {
	ops := newOperators(t, 1)
	s := open(t, Config{Trust: ops.trust(), disk: newMemDisk()})
	more := s.Subscribe()
	put(t, s, ops.chain(t, daemon("web"), 3)...)
	for _, ch := range []<-chan struct{}{s.Changed(), more} {
		select {
		case <-ch:
		default:
			t.Error("no token after a change")
		}
		select {
		case <-ch:
			t.Error("tokens add up")
		default:
		}
	}
}

// Peers with other keys in trust.d must not make this node fetch for ever, nor
// may a member keep a good record out by sending it with a bad signature first.
func TestRefusedRecordsAreNotFetchedAgain(t *testing.T) {
	ops := newOperators(t, 2)
	s := open(t, Config{Trust: ops[:1].trust(), disk: newMemDisk()})
	item := func(x signed, signers ...string) gossip.Item {
		it := Item(x.rec)
		it.Signers = record.SignersHash(signers)
		return it
	}
	mine, theirs := ops[0].Public().ID(), ops[1].Public().ID()

	stranger := ops[1:].chain(t, daemon("a"), 1)[0]
	if !s.Wants(Item(stranger.rec)) {
		t.Fatal("does not want what it has not seen")
	}
	for range 3 {
		if _, err := s.Offer(t.Context(), stranger.env); !errors.Is(err, record.ErrUnsigned) {
			t.Fatal(err)
		}
	}
	if s.Wants(Item(stranger.rec)) {
		t.Error("wants a record again that it refused")
	}
	if r := s.Refused(); len(r) != 1 || r[0].Digest != stranger.rec.Digest || r[0].Signers[0] != theirs ||
		r[0].TrustID != ops[:1].trust().ID() || !strings.Contains(r[0].Reason, theirs) {
		t.Errorf("Refused() = %+v", r)
	}
	if !s.Wants(item(stranger, mine)) {
		t.Error("does not want the same record with a signature that it trusts")
	}

	good := ops[:1].chain(t, daemon("b"), 1)[0]
	if _, err := s.Offer(t.Context(), forgeSignature(good.env)); !errors.Is(err, record.ErrUnsigned) {
		t.Fatal(err)
	}
	if !s.Wants(Item(good.rec)) {
		t.Error("a forged signature keeps the good record out")
	}
	offer(t, s, good)

	// Signed by both, of which this node trusts one: the hashes differ for ever,
	// and looking once is enough.
	both := ops.chain(t, daemon("c"), 1)[0]
	if !s.Wants(Item(both.rec)) {
		t.Fatal("does not want a record that it trusts")
	}
	offer(t, s, both)
	if s.Wants(Item(both.rec)) {
		t.Error("wants signatures again that do not count here")
	}
	if e, _ := s.Get(daemon("c")); len(e.Winner().Signers) != 1 || bytes.Contains(e.Winner().Envelope, []byte(theirs)) {
		t.Errorf("kept a signature that was not verified: %v", e.Winner().Signers)
	}

	for i := range maxRefusals + 10 {
		x := ops[1:].write(t, record.Entry{}, daemon("many"), fmt.Sprint(i))
		_, _ = s.Offer(t.Context(), x.env)
	}
	if n := len(s.Refused()); n != maxRefusals || len(s.refused.known) != maxRefusals || len(s.refused.keys) != maxRefusals {
		t.Errorf("%d refusals remembered, want %d", n, maxRefusals)
	}
}

// forgeSignature returns env with its signature replaced by one that is well
// formed and wrong.
func forgeSignature(env []byte) []byte {
	i := bytes.Index(env, []byte(`"sig":"`)) + len(`"sig":"`)
	out := bytes.Clone(env)
	for j := range 8 {
		if out[i+j] == 'A' {
			out[i+j] = 'B'
		} else {
			out[i+j] = 'A'
		}
	}
	return out
}

func TestSourceSwap(t *testing.T) {
	ops := newOperators(t, 1)
	a, b := open(t, Config{Trust: ops.trust(), disk: newMemDisk()}), open(t, Config{Trust: ops.trust(), disk: newMemDisk()})
	put(t, a, ops.chain(t, daemon("web"), 3)...)
	put(t, b, ops.chain(t, daemon("db"), 2)...)
	for _, pair := range [][2]*Store{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		var differ []uint8
		mine, theirs := to.BucketHashes(), from.BucketHashes()
		for i := range mine {
			if mine[i] != theirs[i] {
				differ = append(differ, uint8(i))
			}
		}
		for _, it := range from.Items(differ) {
			if !to.Wants(it) {
				continue
			}
			env, ok := from.Body(it.Key, it.Digest)
			if !ok {
				t.Fatalf("no body of %s", it.Key)
			}
			if changed, err := to.Offer(t.Context(), env); err != nil || !changed {
				t.Fatalf("%s was wanted: changed %v, %v", it.Key, changed, err)
			}
		}
	}
	if a.Root() != b.Root() {
		t.Error("after a swap the roots differ")
	}
	for _, bad := range []string{"", "daemon", "daemon/../x", "DAEMON/x"} {
		if a.Wants(gossip.Item{Key: bad, Generation: 1}) {
			t.Errorf("wants %q", bad)
		}
		if _, ok := a.Body(bad, gossip.Hash{}); ok {
			t.Errorf("has a body of %q", bad)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	ops := newOperators(t, 2)
	var all []signed
	for i := range 4 {
		all = append(all, ops[i%2:i%2+1].chain(t, daemon(fmt.Sprintf("d%d", i)), 6)...)
	}
	want := record.NewSet()
	for _, x := range all {
		want.Offer(x.rec)
	}
	disk := newMemDisk()
	s := open(t, Config{Trust: ops.trust(), disk: disk})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for _, i := range rng.Perm(len(all)) {
				x := all[i]
				if g%2 == 0 {
					_, _, _ = s.Put(context.Background(), x.env) // conflicts are fine
				}
				if _, err := s.Offer(context.Background(), x.env); err != nil {
					t.Error(err)
				}
				_ = s.Ratchet(x.rec.Key, x.rec.Version())
				_, _ = s.Allowed(x.rec)
				s.Root()
				s.Items([]uint8{x.rec.Key.Bucket()})
				s.Wants(Item(x.rec))
				s.List("")
				s.History(x.rec.Key.Name)
				s.Problems()
			}
		}()
	}
	wg.Wait()
	if s.Root() != gossip.Hash(want.Root()) {
		t.Error("another set than one after the other")
	}
	if again := open(t, Config{Trust: ops.trust(), disk: disk}); again.Root() != s.Root() {
		t.Error("another set on disk")
	}
}

// What this node acts upon stays, however many rivals of its generation come.
func TestAcceptedBodyStays(t *testing.T) {
	ops := newOperators(t, 1)
	first := ops.chain(t, daemon("web"), 1)[0]
	e := record.EntryOf(first.rec)
	var rivals []signed
	for i := range 6 {
		rivals = append(rivals, ops.write(t, e, daemon("web"), fmt.Sprint("rival", i)))
	}
	lowest := rivals[0]
	for _, x := range rivals {
		if x.rec.Version().Compare(lowest.rec.Version()) < 0 {
			lowest = x
		}
	}
	disk := newMemDisk()
	s := open(t, Config{Trust: ops.trust(), disk: disk})
	put(t, s, first, lowest)
	if err := s.Ratchet(daemon("web"), lowest.rec.Version()); err != nil {
		t.Fatal(err)
	}
	offer(t, s, rivals...)
	for range 2 {
		if e, _ := s.Get(daemon("web")); len(e.Records) != 2 || e.Conflict() == "" {
			t.Errorf("entry %v", e.Items())
		}
		if _, ok := s.Find(daemon("web"), lowest.rec.Digest); !ok {
			t.Fatal("the record that runs here is gone")
		}
		s = open(t, Config{Trust: ops.trust(), disk: disk})
	}
}
