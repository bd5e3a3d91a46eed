package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/agentd/agentd/spec/record"
)

func ring() record.RingID { return record.RingID{1, 2, 3} }

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// operators are made once per test binary's run: the numbers are what tests
// tell them apart by.
type operators []record.PrivateKey

func newOperators(t testing.TB, n int) operators {
	t.Helper()
	var out operators
	for i := range n {
		k, err := record.GenerateKey(fmt.Sprintf("operator-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, k)
	}
	return out
}

func (o operators) trust() *record.Trust {
	var pubs []record.PublicKey
	for _, k := range o {
		pubs = append(pubs, k.Public())
	}
	return record.NewTrust(pubs...)
}

// signed is an envelope and what it says.
type signed struct {
	env []byte
	rec record.Record
}

// write signs the record that follows cur.
func (o operators) write(t testing.TB, cur record.Entry, key record.Key, body string) signed {
	t.Helper()
	h := record.Next(cur, ring(), key, o[0].Comment, epoch())
	h.Delete = body == "delete"
	b := []byte(body)
	switch {
	case h.Delete:
		b = nil
	case key.Kind == record.KindDaemon:
		var err error
		b, err = record.EncodeDaemon(record.DaemonBody{Spec: b, Revision: int(h.Generation), Rollout: record.Rollout{K: 1}})
		if err != nil {
			t.Fatal(err)
		}
	}
	env, err := record.Sign(h, b, o...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Verify(env, ring(), o.trust())
	if err != nil {
		t.Fatal(err)
	}
	return signed{env, r}
}

// chain signs n records, each following the one before.
func (o operators) chain(t testing.TB, key record.Key, n int) []signed {
	t.Helper()
	var e record.Entry
	var out []signed
	for i := range n {
		s := o.write(t, e, key, fmt.Sprintf("%s %d", key.Name, i))
		e = record.Merge(e, record.EntryOf(s.rec))
		out = append(out, s)
	}
	return out
}

func daemon(name string) record.Key { return record.Key{Kind: record.KindDaemon, Name: name} }

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = "/data"
	}
	cfg.Ring = ring()
	cfg.Now = epoch
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, list ...signed) {
	t.Helper()
	for _, x := range list {
		if _, _, err := s.Put(context.Background(), x.env); err != nil {
			t.Fatalf("put generation %d of %s: %v", x.rec.Generation, x.rec.Key, err)
		}
	}
}

func offer(t testing.TB, s *Store, list ...signed) {
	t.Helper()
	for _, x := range list {
		if _, err := s.Offer(context.Background(), x.env); err != nil {
			t.Fatalf("offer generation %d of %s: %v", x.rec.Generation, x.rec.Key, err)
		}
	}
}
