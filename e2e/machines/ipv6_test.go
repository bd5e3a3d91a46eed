package machines

import (
	"strings"
	"testing"
)

// A ring of machines that have no IPv4 address forms with nothing but what the
// manual says, and lives through a restart.
func TestIPv6Only(t *testing.T) {
	r := newWorld(t)
	r.Net.IPv6 = true
	names := []string{"n1", "n2", "n3"}
	for _, name := range names {
		r.boot(name)
	}
	if have := r.run(r.Machine("n1"), "ip", "-brief", "-4", "address", "show", "dev", "eth0"); have != "" {
		t.Fatalf("n1 has IPv4: %s", have)
	}
	r.form(names...)
	seen := r.everywhere(exporter, names...)
	nodes, err := r.Machine("n3").Nodes(r.ctx)
	r.must(err)
	for _, n := range nodes.Nodes {
		if !strings.HasPrefix(n.Address, "[fd00:99::") {
			t.Errorf("%s has the address %s", n.Name, n.Address)
		}
	}
	old := r.agent(r.Machine("n2"), "")
	r.run(r.Machine("n2"), "systemctl", "restart", "agentd")
	r.agent(r.Machine("n2"), old)
	r.agree(names...)
	r.same(seen, names...)
}
