package record

import (
	"bytes"
	"fmt"
	"testing"
)

func benchRecords(b *testing.B, n int) []Record {
	b.Helper()
	var out []Record
	for i := range n {
		out = append(out, follow(b, Entry{}, Key{KindDaemon, fmt.Sprintf("d%d", i)}, "alice", daemonBody(b, "{}", 1)))
	}
	return out
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{1 << 10, MaxBody} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			key := testKey(1)
			env := mustSign(b, Header{Ring: ringA(), Key: daemonKey(), Generation: 1, Created: epoch()}, bytes.Repeat([]byte("x"), size), key)
			trust := trustOf(key)
			b.SetBytes(int64(len(env)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Verify(env, ringA(), trust); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	var full Entry
	for i := range MaxAncestors + 1 {
		full = Merge(full, EntryOf(follow(b, full, daemonKey(), "alice", fmt.Sprint(i))))
	}
	next := EntryOf(follow(b, full, daemonKey(), "alice", "next"))
	b.ReportAllocs()
	for b.Loop() {
		Merge(full, next)
	}
}

func BenchmarkSetOffer(b *testing.B) {
	records := benchRecords(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		set := NewSet()
		for _, r := range records {
			set.Offer(r)
		}
		set.Root()
	}
}
