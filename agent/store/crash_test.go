package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd/agentd/spec/record"
)

// script is a store's life: puts, a fork and a signature that come from peers,
// a delete, ratchets. Each step returns nil once it is acknowledged.
type step struct {
	name    string
	do      func(*Store) error
	lasting func(*Store) error // must hold for ever once it was acknowledged
}

func script(t testing.TB) (operators, []step) {
	t.Helper()
	const maxHistory = record.MaxHistory
	ops := newOperators(t, 2)
	web, db := ops.chain(t, daemon("web"), 12), ops[:1].chain(t, daemon("db"), 2)
	rival := ops[1:].write(t, record.EntryOf(db[0].rec), daemon("db"), "rival")
	cosigned := ops.chain(t, daemon("db"), 1)[0] // db's first, signed by both
	gone := ops.write(t, record.EntryOf(web[10].rec, web[11].rec), daemon("web"), "delete")

	var steps []step
	add := func(x signed, how string, call func(*Store) error) {
		steps = append(steps, step{
			name: fmt.Sprintf("%s generation %d of %s", how, x.rec.Generation, x.rec.Key),
			do:   call,
			lasting: func(s *Store) error {
				got, ok := s.Find(x.rec.Key, x.rec.Digest)
				if e, _ := s.Get(x.rec.Key); !ok && e.Winner().Generation >= x.rec.Generation+maxHistory {
					return nil // newer ones have made it useless
				}
				if !ok {
					return errors.New("it is not there")
				}
				if len(got.Signers) < len(x.rec.Signers) {
					return errors.New("a signature is missing")
				}
				return nil
			},
		})
	}
	put := func(x signed) {
		add(x, "put", func(s *Store) error { _, _, err := s.Put(context.Background(), x.env); return err })
	}
	offer := func(x signed) {
		add(x, "offer", func(s *Store) error { _, err := s.Offer(context.Background(), x.env); return err })
	}
	ratchet := func(x signed) {
		steps = append(steps, step{
			name: "ratchet " + x.rec.Key.String(),
			do:   func(s *Store) error { return s.Ratchet(x.rec.Key, x.rec.Version()) },
			lasting: func(s *Store) error {
				if s.Accepted(x.rec.Key).Compare(x.rec.Version()) < 0 {
					return errors.New("forgotten")
				}
				return nil
			},
		})
	}
	put(web[0])
	ratchet(web[0])
	put(db[0])
	offer(cosigned)
	put(db[1])
	offer(rival)
	for _, x := range web[1:] {
		put(x) // generations fall out of the entry, and files are removed
	}
	ratchet(web[11])
	put(gone)
	return ops, steps
}

// run does the steps until one fails and returns those acknowledged.
func run(s *Store, steps []step) []step {
	for i, st := range steps {
		if st.do(s) != nil {
			return steps[:i]
		}
	}
	return steps
}

// The power goes at every operation in turn. Afterwards each acknowledged step
// lasts, nothing is half there, and the store goes on working.
func TestPowerCutAtEveryOperation(t *testing.T) {
	ops, steps := script(t)
	trust := ops.trust()
	whole := newMemDisk()
	if done := run(open(t, Config{Trust: trust, disk: whole}), steps); len(done) != len(steps) {
		t.Fatalf("without a crash only %d of %d steps are done", len(done), len(steps))
	}
	want := open(t, Config{Trust: trust, disk: whole.crash(func() bool { return true })}).Root()
	for cut := 1; cut <= whole.ops; cut++ {
		disk := newMemDisk()
		disk.cutAt = cut
		var done []step
		if s, err := Open(Config{Dir: "/data", Ring: ring(), Trust: trust, disk: disk}); err == nil {
			done = run(s, steps)
		}
		for fate, keep := range fates() {
			where := fmt.Sprintf("power cut at operation %d (%s), %s", cut, whole.log[cut-1], fate)
			after := disk.crash(keep)
			s := open(t, Config{Trust: trust, disk: after})
			if p := s.Problems(); len(p) > 0 {
				t.Fatalf("%s: %v", where, p)
			}
			for _, st := range done {
				if err := st.lasting(s); err != nil {
					t.Fatalf("%s: after %s: %v", where, st.name, err)
				}
			}
			for _, dir := range []string{"/data/records", "/data/ratchet"} {
				names, _ := after.ReadDir(dir)
				if i := slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, tmpSuffix) }); i >= 0 {
					t.Fatalf("%s: %s is left over", where, names[i])
				}
			}
			if rest := run(s, steps[len(done):]); len(done)+len(rest) != len(steps) {
				t.Fatalf("%s: the store does not go on", where)
			}
			if s.Root() != want {
				t.Fatalf("%s: another set than without the crash", where)
			}
		}
	}
}

// An operation fails, and the disk lives on (full, for example). The step is
// not acknowledged, nothing changes, and it succeeds when tried again.
func TestFailureOfEveryOperation(t *testing.T) {
	ops, steps := script(t)
	trust := ops.trust()
	whole := newMemDisk()
	clean := open(t, Config{Trust: trust, disk: whole})
	first := whole.ops
	run(clean, steps)
	want := clean.Root()
	for at := first + 1; at <= whole.ops; at++ {
		disk := newMemDisk()
		disk.fail[at] = syscall.ENOSPC
		s := open(t, Config{Trust: trust, disk: disk})
		failed := false
		for _, st := range steps {
			before := s.Root()
			if err := st.do(s); err != nil {
				failed = true
				var de *DiskError
				if !errors.As(err, &de) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
					t.Fatalf("operation %d (%s): error %v", at, whole.log[at-1], err)
				}
				if s.Root() != before {
					t.Fatalf("operation %d (%s): %s failed and changed the set", at, whole.log[at-1], st.name)
				}
				again := open(t, Config{Trust: trust, disk: disk.crash(func() bool { return true })})
				if a, b := versions(s), versions(again); a != b {
					t.Fatalf("operation %d (%s): %s failed, and after a restart there is\n%s, not\n%s", at, whole.log[at-1], st.name, b, a)
				}
				if err := st.do(s); err != nil {
					t.Fatalf("operation %d (%s): tried again: %v", at, whole.log[at-1], err)
				}
			}
			if err := st.lasting(s); err != nil {
				t.Fatalf("operation %d: %s: %v", at, st.name, err)
			}
		}
		if !failed && !strings.HasPrefix(whole.log[at-1], "remove ") {
			t.Fatalf("operation %d (%s) failed and nobody noticed", at, whole.log[at-1])
		}
		after := open(t, Config{Trust: trust, disk: disk.crash(func() bool { return true })})
		if s.Root() != want || after.Root() != want || len(after.Problems()) > 0 {
			t.Fatalf("operation %d (%s): another set; problems %v", at, whole.log[at-1], after.Problems())
		}
	}
}

// versions lists what a store holds, signatures aside: one more good signature
// than was acknowledged does no harm.
func versions(s *Store) string {
	var out []string
	for _, e := range s.List("") {
		for _, r := range e.All() {
			out = append(out, r.Key.String()+" "+r.Version().String())
		}
	}
	return strings.Join(out, "\n")
}

// The order of a write: content, sync, name, sync of the folder.
func TestWriteOrder(t *testing.T) {
	ops := newOperators(t, 1)
	disk := newMemDisk()
	s := open(t, Config{Trust: ops.trust(), disk: disk})
	disk.log = nil
	put(t, s, ops.chain(t, daemon("web"), 1)...)
	var verbs []string
	for _, line := range disk.log {
		verb, _, _ := strings.Cut(line, " ")
		verbs = append(verbs, verb)
	}
	if got, want := strings.Join(verbs, " "), "create write sync rename syncdir"; got != want {
		t.Errorf("a put does %q, want %q", got, want)
	}
}
