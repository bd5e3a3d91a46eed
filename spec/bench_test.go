package spec_test

import (
	"os"
	"testing"

	"github.com/agentd/agentd/spec"
)

// What an agent does for every daemon that it looks at.
func BenchmarkForAndDigest(b *testing.B) {
	for _, name := range []string{"node-exporter", "node-dns"} {
		b.Run(name, func(b *testing.B) {
			src, err := os.ReadFile("../configs/examples/" + name + ".toml")
			if err != nil {
				b.Fatal(err)
			}
			ds, err := spec.Parse(src, name)
			if err != nil {
				b.Fatal(err)
			}
			n := spec.Node{Name: "n", Address: "10.0.0.7", Labels: map[string]string{"datacenter": "b"}}
			b.ReportAllocs()
			for b.Loop() {
				d, _, err := ds[0].For(n)
				if err != nil || d.Digest() == "" {
					b.Fatal(err)
				}
			}
		})
	}
}
