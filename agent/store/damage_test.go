package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec/record"
)

// damages returns every way in which a file is cut or has one bit flipped; of
// most bytes one bit, of the first line all.
func damages(b []byte) map[string][]byte {
	out := map[string][]byte{}
	for i := range b {
		out[fmt.Sprintf("cut at byte %d", i)] = b[:i]
		for bit := range 8 {
			if i%8 == bit || i < bytes.IndexByte(b, '\n')+1 {
				c := bytes.Clone(b)
				c[i] ^= 1 << bit
				out[fmt.Sprintf("bit %d of byte %d flipped", bit, i)] = c
			}
		}
	}
	out["a byte too many"] = append(bytes.Clone(b), 'x')
	out["zeros"] = make([]byte, len(b))
	return out
}

// Whatever happens to a file, it costs its own record only, an older one is not
// acted upon, and the ring brings it back.
func TestDamagedRecord(t *testing.T) {
	ops := newOperators(t, 1)
	web, db := ops.chain(t, daemon("web"), 2), ops.chain(t, daemon("db"), 1)
	disk := newMemDisk()
	cfg := Config{Trust: ops.trust(), disk: disk}
	s := open(t, cfg)
	put(t, s, append(web, db...)...)
	root := s.Root()
	newest := web[1].rec
	path := "/data/records/" + recordName(newest, shortDigits)
	good, err := disk.ReadFile(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for what, bad := range damages(good) {
		cfg.disk = disk.clone()
		cfg.disk.(*memDisk).edit(path, func([]byte) []byte { return bad })
		s := open(t, cfg)
		e, _ := s.Get(newest.Key)
		if e.Winner().Digest != web[0].rec.Digest {
			t.Fatalf("%s: the winner is %v", what, e.Winner().Version())
		}
		if ok, reason := s.Allowed(e.Winner()); ok || !strings.Contains(reason, "generation 2") {
			t.Fatalf("%s: an older record is allowed (%v, %q)", what, ok, reason)
		}
		if _, ok := s.Get(daemon("db")); !ok {
			t.Fatalf("%s: another record is gone, too", what)
		}
		if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], "generation 2 of daemon/web was damaged") {
			t.Fatalf("%s: problems %q", what, p)
		}
		if aside, err := cfg.disk.ReadFile("/data/records/corrupt/"+filepath.Base(path), 1<<20); err != nil || !bytes.Equal(aside, bad) {
			t.Fatalf("%s: the damaged file is not kept: %v", what, err)
		}
		if s.Root() == root || !s.Wants(Item(newest)) {
			t.Fatalf("%s: the ring would not bring it back", what)
		}
		if n++; n%50 != 0 {
			continue // the rest takes a signature's time and is the same for all
		}
		if s = open(t, cfg); len(s.Problems()) != 1 {
			t.Fatalf("%s: after a restart the damage is forgotten", what)
		}
		offer(t, s, web[1])
		if s.Root() != root || len(s.Problems()) > 0 {
			t.Fatalf("%s: refilled, and still %q", what, s.Problems())
		}
		if ok, reason := s.Allowed(newest); !ok {
			t.Fatalf("%s: refilled, and not allowed: %s", what, reason)
		}
		if s = open(t, cfg); s.Root() != root || len(s.Problems()) > 0 {
			t.Fatalf("%s: refilled, and after a restart %q", what, s.Problems())
		}
	}
	t.Logf("%d ways to damage a file of %d bytes", n, len(good))
}

// A tombstone is damaged: the daemon that it deleted does not rise.
func TestDamagedDeleteResurrectsNothing(t *testing.T) {
	ops := newOperators(t, 1)
	web := ops.chain(t, daemon("web"), 1)
	tomb := ops.write(t, record.EntryOf(web[0].rec), daemon("web"), "delete")
	disk := newMemDisk()
	cfg := Config{Trust: ops.trust(), disk: disk}
	put(t, open(t, cfg), web[0], tomb)
	disk.edit("/data/records/"+recordName(tomb.rec, shortDigits), func(b []byte) []byte { return b[:20] })
	s := open(t, cfg)
	e, _ := s.Get(daemon("web"))
	if ok, _ := s.Allowed(e.Winner()); ok {
		t.Error("a deleted daemon is allowed to run again")
	}
	again := ops.write(t, e, daemon("web"), "again")
	if _, _, err := s.Put(t.Context(), again.env); err == nil && again.rec.Digest.String() < tomb.rec.Digest.String() {
		t.Error("a node that lacks the newest record admits another in its place")
	}
}

func TestDamagedRatchet(t *testing.T) {
	ops := newOperators(t, 1)
	web := ops.chain(t, daemon("web"), 3)
	disk := newMemDisk()
	cfg := Config{Trust: ops.trust(), disk: disk}
	s := open(t, cfg)
	put(t, s, web...)
	if err := s.Ratchet(daemon("web"), web[2].rec.Version()); err != nil {
		t.Fatal(err)
	}
	const path = "/data/ratchet/daemon.web"
	good, err := disk.ReadFile(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range damages(good) {
		cfg.disk = disk.clone()
		cfg.disk.(*memDisk).edit(path, func([]byte) []byte { return bad })
		s := open(t, cfg)
		if v := s.Accepted(daemon("web")); !v.IsZero() {
			t.Fatalf("%s: taken for %v", what, v)
		}
		if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], path) {
			t.Fatalf("%s: problems %q", what, p)
		}
		if ok, reason := s.Allowed(web[2].rec); !ok {
			t.Fatalf("%s: %s", what, reason)
		}
	}
}

// A stale peer refills what is lost here: held, since the ring agrees on it,
// and not acted upon.
func TestRatchetHoldsAgainstAStaleRefill(t *testing.T) {
	ops := newOperators(t, 1)
	web := ops.chain(t, daemon("web"), 3)
	disk := newMemDisk()
	cfg := Config{Trust: ops.trust(), disk: disk}
	s := open(t, cfg)
	put(t, s, web...)
	if err := s.Ratchet(daemon("web"), web[2].rec.Version()); err != nil {
		t.Fatal(err)
	}
	if err := s.Ratchet(daemon("web"), web[0].rec.Version()); err != nil {
		t.Fatal(err)
	}
	for _, x := range web { // the files are gone without a trace
		if err := disk.Remove("/data/records/" + recordName(x.rec, shortDigits)); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, cfg)
	offer(t, s, web[:2]...)
	if ok, reason := s.Allowed(web[1].rec); ok || !strings.Contains(reason, "accepted here before") {
		t.Errorf("an older record is allowed: %q", reason)
	}
	e, _ := s.Get(daemon("web"))
	third := ops.write(t, e, daemon("web"), "another third")
	_, _, err := s.Put(t.Context(), third.env)
	if older := third.rec.Version().Compare(web[2].rec.Version()) < 0; older != (err != nil) {
		t.Errorf("older %v, error %v", older, err)
	}
	offer(t, s, web[2])
	if ok, reason := s.Allowed(web[2].rec); !ok {
		t.Errorf("not allowed: %s", reason)
	}
}

func TestFloor(t *testing.T) {
	ops := newOperators(t, 1)
	web := ops.chain(t, daemon("web"), 4)
	s := open(t, Config{Trust: ops.trust(), disk: newMemDisk(), Floor: map[string]record.Version{"daemon/web": web[2].rec.Version()}})
	if _, _, err := s.Put(t.Context(), web[0].env); err == nil || !strings.Contains(err.Error(), "when this node joined") {
		t.Errorf("a first generation is admitted below the floor: %v", err)
	}
	offer(t, s, web...)
	for i, x := range web {
		if ok, reason := s.Allowed(x.rec); ok != (i >= 2) {
			t.Errorf("generation %d: allowed %v %s", i+1, ok, reason)
		}
	}
}

// The keys in trust.d decide at every start; nothing is lost in between.
func TestTrustChangesBetweenRuns(t *testing.T) {
	ops := newOperators(t, 3)
	disk := newMemDisk()
	both := Config{Trust: ops[:2].trust(), disk: disk}
	s := open(t, both)
	a, b := ops[:1].chain(t, daemon("a"), 2), ops[1:2].chain(t, daemon("b"), 1)
	shared := ops[:2].chain(t, daemon("shared"), 1)
	put(t, s, append(append(a, b...), shared...)...)
	root := s.Root()

	one := Config{Trust: ops[:1].trust(), disk: disk}
	for range 2 {
		s = open(t, one)
		if _, ok := s.Get(daemon("b")); ok {
			t.Error("a record of a key that is no longer trusted is held")
		}
		if e, _ := s.Get(daemon("shared")); len(e.Winner().Signers) != 1 {
			t.Errorf("signers %v", e.Winner().Signers)
		}
		if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], ops[1].Public().ID()) || !strings.Contains(p[0], "come back") {
			t.Errorf("problems %q", p)
		}
	}
	s = open(t, Config{Trust: ops[2:].trust(), disk: disk})
	if len(s.List("")) != 0 || len(s.Problems()) != 1 {
		t.Errorf("%d entries, problems %q", len(s.List("")), s.Problems())
	}
	for range 2 {
		if s = open(t, both); s.Root() != root || len(s.Problems()) > 0 {
			t.Errorf("the keys are back, and not everything else: %q", s.Problems())
		}
	}
}

func TestFolderOfAnotherRing(t *testing.T) {
	ops := newOperators(t, 1)
	disk := newMemDisk()
	put(t, open(t, Config{Trust: ops.trust(), disk: disk}), ops.chain(t, daemon("web"), 2)...)
	other, err := Open(Config{Dir: "/data", Ring: record.RingID{9}, Trust: ops.trust(), disk: disk})
	if err != nil {
		t.Fatal(err)
	}
	if p := other.Problems(); len(other.List("")) != 0 || len(p) != 1 || !strings.Contains(p[0], "another ring") {
		t.Errorf("%d entries, problems %q", len(other.List("")), p)
	}
	if s := open(t, Config{Trust: ops.trust(), disk: disk}); len(s.List("")) != 1 {
		t.Error("back in its ring, and the record is gone")
	}
}

// A file under a wrong name is taken for what it says, not for what it is called.
func TestFileNamesAreNotBelieved(t *testing.T) {
	ops := newOperators(t, 1)
	dir := t.TempDir()
	web := ops.chain(t, daemon("web"), 1)[0]
	put(t, open(t, Config{Dir: dir, Trust: ops.trust()}), web)
	path := filepath.Join(dir, "records", recordName(web.rec, shortDigits))
	for _, name := range []string{"daemon.other.9.000000000000.rec", "x.rec"} {
		if err := os.Rename(path, filepath.Join(dir, "records", name)); err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(dir, "records", name)
		s := open(t, Config{Dir: dir, Trust: ops.trust()})
		if got := s.List(""); len(got) != 1 || got[0].Winner().Key != web.rec.Key || len(s.Problems()) > 0 {
			t.Errorf("%s: %v, problems %q", name, got, s.Problems())
		}
	}
	for _, foreign := range []string{"README", "sub/x.rec", "fifo.rec"} {
		full := filepath.Join(dir, "records", foreign)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/zero", full); err != nil {
			t.Fatal(err)
		}
	}
	if s := open(t, Config{Dir: dir, Trust: ops.trust()}); len(s.List("")) != 1 || len(s.Problems()) > 0 {
		t.Errorf("foreign files disturb: %q", s.Problems())
	}
}

func TestBody(t *testing.T) {
	ops := newOperators(t, 1)
	web := ops.chain(t, daemon("web"), 12)
	s := open(t, Config{Trust: ops.trust(), disk: newMemDisk()})
	put(t, s, web...)
	for i, x := range web {
		_, ok := s.Body("daemon/web", gossip.Hash(x.rec.Digest))
		if want := i >= len(web)-record.MaxHistory; ok != want {
			t.Errorf("generation %d: body %v, want %v", i+1, ok, want)
		}
	}
	if got := len(s.History("web")); got != record.MaxHistory-1 {
		t.Errorf("%d superseded revisions", got)
	}
}
