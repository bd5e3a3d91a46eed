package lab_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// Nodes reach each other, not through a partition, and again after it; two
// nets with the same addresses don't meet.
func TestNet(t *testing.T) {
	lab.Require(t, "root", "netns", "nft")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var first *lab.Net
	for range 2 {
		n, err := lab.NewNet(ctx, lab.NewID("agt"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			if found, _ := os.ReadDir("/run/netns"); strings.Contains(names(found), n.ID) {
				t.Errorf("left in /run/netns: %s", names(found))
			}
		}()
		for _, name := range []string{"a", "b", "c"} {
			if _, err := n.AddNode(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
		if first == nil {
			first = n
		}
	}
	reach := func(from, address string) bool {
		// A datagram to a closed port is answered by ICMP, which the next read sees.
		probe := `exec 3<>/dev/udp/` + address + `/9; echo x >&3; read -t 1 -u 3; [ $? -le 128 ]`
		res, err := lab.Exec(ctx, lab.InNetNS(first.ID+"-"+from, "bash", "-c", probe)...)
		if err != nil {
			t.Fatal(err)
		}
		return res.Code == 0
	}
	if !reach("a", "10.99.0.2") || !reach("c", "10.99.0.1") {
		t.Fatal("nodes do not reach each other")
	}
	if err := first.Partition(ctx, []string{"a"}, []string{"b", "c"}); err != nil {
		t.Fatal(err)
	}
	if reach("a", "10.99.0.2") || reach("c", "10.99.0.1") {
		t.Error("the partition lets packets through")
	}
	if !reach("b", "10.99.0.3") {
		t.Error("the partition cuts nodes on the same side")
	}
	if err := first.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	if !reach("a", "10.99.0.2") || !reach("c", "10.99.0.1") {
		t.Error("healing did not heal")
	}
	if err := first.Partition(ctx, []string{"a"}, []string{"nobody"}); err == nil {
		t.Error("a partition from an unknown node was accepted")
	}
}

func names(entries []os.DirEntry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}
