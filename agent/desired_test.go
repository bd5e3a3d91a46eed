package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// fakeLedger is a store in memory.
type fakeLedger struct {
	accepted record.Version
	history  []record.Record
	refuse   string
	full     bool
}

func (l *fakeLedger) Allowed(record.Record) (bool, string) { return l.refuse == "", l.refuse }
func (l *fakeLedger) Accepted(record.Key) record.Version   { return l.accepted }
func (l *fakeLedger) Ratchet(_ record.Key, v record.Version) error {
	if l.full {
		return errors.New("no space left on device")
	}
	l.accepted = v
	return nil
}

func (l *fakeLedger) Find(_ record.Key, d record.Digest) (record.Record, bool) {
	for _, r := range l.history {
		if r.Digest == d {
			return r, true
		}
	}
	return record.Record{}, false
}

type signer struct {
	t     *testing.T
	key   record.PrivateKey
	trust *record.Trust
	ring  record.RingID
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := record.GenerateKey("alice")
	if err != nil {
		t.Fatal(err)
	}
	return signer{t, key, record.NewTrust(key.Public()), record.RingID{1}}
}

// sign makes a verified record of the daemon x that follows prev.
func (s signer) sign(prev record.Entry, image string, change func(*record.Header)) record.Record {
	s.t.Helper()
	key := record.Key{Kind: record.KindDaemon, Name: "x"}
	h := record.Next(prev, s.ring, key, "alice", time.Unix(1700000000, 0))
	var body []byte
	if image != "" {
		ds, err := spec.Parse([]byte("name = \"x\"\nimage = \""+image+"\"\n"), "x.toml")
		if err != nil {
			s.t.Fatal(err)
		}
		if body, err = record.EncodeDaemon(record.DaemonBody{Spec: spec.Encode(ds[0]), Revision: int(h.Generation), Rollout: record.Rollout{K: 1}}); err != nil {
			s.t.Fatal(err)
		}
	} else {
		h.Delete = true
	}
	if change != nil {
		change(&h)
	}
	env, err := record.Sign(h, body, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := record.Verify(env, s.ring, s.trust)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func entry(rs ...record.Record) record.Entry {
	var e record.Entry
	for _, r := range rs {
		e = record.Merge(e, record.Entry{Records: []record.Record{r}})
	}
	return e
}

func TestDecideTakesTheNewestAndPersistsItFirst(t *testing.T) {
	s := newSigner(t)
	one := s.sign(record.Entry{}, "example.test/x:1", nil)
	l := &fakeLedger{}
	got := decide(entry(one), l)
	if got.want.Hold != "" || got.want.Daemon.Image != "example.test/x:1" || got.want.Digest == "" || got.want.Generation != 1 {
		t.Fatalf("wanted %+v", got.want)
	}
	if l.accepted != one.Version() {
		t.Fatal("acted upon before it was persisted as accepted")
	}
}

// Whatever keeps the newest from being taken, the last accepted revision stays
// wanted: a crash in the middle of trouble still brings the daemon back.
func TestDecideKeepsTheLastAccepted(t *testing.T) {
	s := newSigner(t)
	one := s.sign(record.Entry{}, "example.test/x:1", nil)
	two := s.sign(entry(one), "example.test/x:2", nil)
	rival := s.sign(entry(one), "example.test/x:3", nil)
	newer := s.sign(entry(one), "example.test/x:4", func(h *record.Header) { h.Schema = record.Schema + 1 })
	deleted := s.sign(entry(one), "", nil)
	cases := []struct {
		name  string
		entry record.Entry
		set   func(*fakeLedger)
		says  string
	}{
		{name: "two operators wrote the same generation", entry: entry(one, two, rival), says: "generation 2"},
		{name: "a deletion and a change of the same generation", entry: entry(one, two, deleted), says: "generation 2"},
		{name: "a newer schema", entry: entry(one, newer), says: "upgrade agentd"},
		{name: "older than accepted, or below the floor", entry: entry(one, two), set: func(l *fakeLedger) { l.refuse = "below the floor" }, says: "below the floor"},
		{name: "the ratchet can't be written", entry: entry(one, two), set: func(l *fakeLedger) { l.full = true }, says: "no space left"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := &fakeLedger{accepted: one.Version(), history: []record.Record{one}}
			if c.set != nil {
				c.set(l)
			}
			got := decide(c.entry, l)
			if got.want.Hold != "" || got.want.Delete || got.want.Generation != 1 || got.want.Daemon.Image != "example.test/x:1" {
				t.Errorf("the last accepted one is not wanted: %+v", got.want)
			}
			if l.accepted != one.Version() {
				t.Error("the refused one was persisted as accepted")
			}
			if said := got.view.conflict + got.view.problem; !strings.Contains(said, c.says) {
				t.Errorf("reason %q does not say %q", said, c.says)
			}
			// Without anything accepted before, nothing starts, with the same reason.
			l = &fakeLedger{refuse: l.refuse, full: l.full}
			if got := decide(c.entry, l); got.want.Hold == "" || got.want.Delete {
				t.Errorf("started without being accepted: %+v", got.want)
			}
		})
	}
}

func TestDecideDelete(t *testing.T) {
	s := newSigner(t)
	one := s.sign(record.Entry{}, "example.test/x:1", nil)
	gone := s.sign(entry(one), "", nil)
	l := &fakeLedger{accepted: one.Version(), history: []record.Record{one}}
	got := decide(entry(one, gone), l)
	if !got.want.Delete || !got.view.deleted || l.accepted != gone.Version() {
		t.Fatalf("not deleted: %+v, accepted %v", got.want, l.accepted)
	}
}
