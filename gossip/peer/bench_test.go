package peer

import (
	"context"
	"testing"
	"time"
)

// What an idle ring costs: nothing is new, over a kept connection. One
// operation is one exchange, both ends of it.
func BenchmarkIdleExchange(b *testing.B) {
	a, c := start(b, "a"), start(b, "c")
	ctx := context.Background()
	if err := a.book.Set(make([]byte, 400)); err != nil {
		b.Fatal(err)
	}
	page, err := c.client.Statements(ctx, a.member(), "", 0, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.client.Statements(ctx, a.member(), page.Instance, page.Cursor, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBody(b *testing.B) {
	for name, size := range map[string]int{"2KiB": 2 << 10, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			a, c := start(b, "a"), start(b, "c")
			it := a.source.put("daemon/x", 1, make([]byte, size))
			ctx := context.Background()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.client.Body(ctx, a.member(), it.Key, it.Digest); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A connection that is not kept: TCP, TLS, one request, close.
func BenchmarkHello(b *testing.B) {
	a, c := start(b, "a"), start(b, "c")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.client.Hello(ctx, a.addr()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBindingsCheck(b *testing.B) {
	bindings, _ := openBindings(b, "")
	b.ReportAllocs()
	for b.Loop() {
		if err := bindings.Check("web-1", nodeID(7)); err != nil {
			b.Fatal(err)
		}
	}
}
