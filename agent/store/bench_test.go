package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/agentd/agentd/spec/record"
)

func thousand(b *testing.B) (operators, []signed) {
	b.Helper()
	ops := newOperators(b, 1)
	var out []signed
	for i := range 1000 {
		out = append(out, ops.write(b, record.Entry{}, daemon(fmt.Sprintf("d%d", i)), "{}"))
	}
	return ops, out
}

// BenchmarkOffer is one new record from the ring, on the real disk.
func BenchmarkOffer(b *testing.B) {
	ops := newOperators(b, 1)
	s := open(b, Config{Dir: b.TempDir(), Trust: ops.trust()})
	var e record.Entry
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		x := ops.write(b, e, daemon("web"), "{}")
		e = record.Merge(e, record.EntryOf(x.rec))
		b.StartTimer()
		if _, err := s.Offer(context.Background(), x.env); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOfferKnown is a record that is held already.
func BenchmarkOfferKnown(b *testing.B) {
	ops := newOperators(b, 1)
	s := open(b, Config{Trust: ops.trust(), disk: newMemDisk()})
	x := ops.chain(b, daemon("web"), 1)[0]
	offer(b, s, x)
	for b.Loop() {
		if _, err := s.Offer(context.Background(), x.env); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen1000(b *testing.B) {
	ops, list := thousand(b)
	cfg := Config{Dir: b.TempDir(), Trust: ops.trust()}
	offer(b, open(b, cfg), list...)
	for b.Loop() {
		if s := open(b, cfg); len(s.List("")) != len(list) {
			b.Fatal("not all there")
		}
	}
}
