package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Net is a switch with nodes on it, as if they were machines on one network.
//
// The switch is a bridge in a network namespace of its own, and so are the
// partition's rules: nothing of it is in the host's network, any number of
// Nets use the same addresses side by side, and deleting the namespaces
// removes everything.
type Net struct {
	ID     string
	IPv6   bool // nodes get addresses fd00:99::N and no IPv4; set before the first
	nodes  []NetNode
	madeNS bool                // /run/netns was not there before
	trace  func(argv []string) // told of every command; may be nil
}

// NetNode is a network namespace with one interface, eth0.
type NetNode struct {
	Name    string
	NetNS   string // name under /run/netns
	Address string // without prefix length
}

// addAddress gives the node its address; an IPv6 one without the detection of
// duplicates, during which it could not be used.
func (n NetNode) addAddress() []string {
	if strings.Contains(n.Address, ":") {
		return []string{"ip", "-n", n.NetNS, "addr", "add", n.Address + "/64", "dev", "eth0", "nodad"}
	}
	return []string{"ip", "-n", n.NetNS, "addr", "add", n.Address + "/24", "dev", "eth0"}
}

// Subnet is the first three bytes of all addresses of a Net (a /24).
const Subnet = "10.99.0"

// NewNet makes the switch. Its namespaces are called ID-switch and ID-NODE.
func NewNet(ctx context.Context, id string) (*Net, error) { return newNet(ctx, id, nil) }

func newNet(ctx context.Context, id string, trace func(argv []string)) (*Net, error) {
	_, err := os.Stat("/run/netns")
	n := &Net{ID: id, madeNS: errors.Is(err, os.ErrNotExist), trace: trace}
	steps := [][]string{
		{"ip", "netns", "add", n.switchNS()},
		{"ip", "-n", n.switchNS(), "link", "set", "lo", "up"},
		{"ip", "-n", n.switchNS(), "link", "add", "br0", "type", "bridge"},
		{"ip", "-n", n.switchNS(), "link", "set", "br0", "up"},
	}
	if err := n.mustAll(ctx, steps); err != nil {
		return nil, errors.Join(fmt.Errorf("make switch: %w", err), n.Close())
	}
	return n, nil
}

func (n *Net) switchNS() string { return n.ID + "-switch" }

// AddNode plugs a new node in; the first gets 10.99.0.1 (fd00:99::1) and so on.
func (n *Net) AddNode(ctx context.Context, name string) (NetNode, error) {
	i := len(n.nodes) + 1
	node := NetNode{Name: name, NetNS: n.ID + "-" + name, Address: n.address(i)}
	n.nodes = append(n.nodes, node)
	port := fmt.Sprintf("port%d", i)
	// A fixed MAC address: bridge rules match on it, too.
	mac := fmt.Sprintf("02:99:00:00:00:%02x", i)
	steps := [][]string{
		{"ip", "netns", "add", node.NetNS},
		{"ip", "link", "add", port, "netns", n.switchNS(), "type", "veth", "peer", "name", "eth0", "netns", node.NetNS},
		{"ip", "-n", n.switchNS(), "link", "set", port, "master", "br0", "up"},
		{"ip", "-n", node.NetNS, "link", "set", "lo", "up"},
		{"ip", "-n", node.NetNS, "link", "set", "eth0", "address", mac, "up"},
		node.addAddress(),
	}
	if err := n.mustAll(ctx, steps); err != nil {
		return node, fmt.Errorf("plug in node %s: %w", name, err)
	}
	return node, nil
}

// Partition cuts every packet between the nodes of a and those of b, both
// ways, on top of earlier partitions. Names are as given to AddNode.
func (n *Net) Partition(ctx context.Context, a, b []string) error {
	from, err := n.addresses(a)
	if err != nil {
		return err
	}
	to, err := n.addresses(b)
	if err != nil {
		return err
	}
	family := "ip"
	if n.IPv6 {
		family = "ip6"
	}
	rules := fmt.Sprintf(`table bridge partition {
	chain forward {
		type filter hook forward priority 0; policy accept;
		%[3]s saddr { %[1]s } %[3]s daddr { %[2]s } drop
		%[3]s saddr { %[2]s } %[3]s daddr { %[1]s } drop
	}
}`, from, to, family)
	return n.nft(ctx, rules)
}

// Unplug takes the network from a node: its interface is down, without an address.
func (n *Net) Unplug(ctx context.Context, name string) error {
	node, err := n.node(name)
	if err != nil {
		return err
	}
	return n.mustAll(ctx, [][]string{
		{"ip", "-n", node.NetNS, "addr", "flush", "dev", "eth0"},
		{"ip", "-n", node.NetNS, "link", "set", "eth0", "down"},
	})
}

// Replug undoes Unplug.
func (n *Net) Replug(ctx context.Context, name string) error {
	node, err := n.node(name)
	if err != nil {
		return err
	}
	return n.mustAll(ctx, [][]string{
		{"ip", "-n", node.NetNS, "link", "set", "eth0", "up"},
		node.addAddress(),
	})
}

// Renumber gives a node another address instead of its own; its number is the
// last byte.
func (n *Net) Renumber(ctx context.Context, name string, number int) error {
	i := slices.IndexFunc(n.nodes, func(node NetNode) bool { return node.Name == name })
	if i < 0 {
		return fmt.Errorf("renumber node %s: it is not plugged in", name)
	}
	node := &n.nodes[i]
	node.Address = n.address(number)
	return n.mustAll(ctx, [][]string{
		{"ip", "-n", node.NetNS, "addr", "flush", "dev", "eth0"},
		node.addAddress(),
	})
}

func (n *Net) address(number int) string {
	if n.IPv6 {
		return fmt.Sprintf("fd00:99::%x", number)
	}
	return fmt.Sprintf("%s.%d", Subnet, number)
}

func (n *Net) node(name string) (NetNode, error) {
	i := slices.IndexFunc(n.nodes, func(node NetNode) bool { return node.Name == name })
	if i < 0 {
		return NetNode{}, fmt.Errorf("find node %s: it is not plugged in", name)
	}
	return n.nodes[i], nil
}

// Lose drops a share of all packets between nodes, in percent.
func (n *Net) Lose(ctx context.Context, percent int) error {
	return n.nft(ctx, fmt.Sprintf(`table bridge loss {
	chain forward {
		type filter hook forward priority 1; policy accept;
		ether type ip numgen random mod 100 < %d drop
	}
}`, percent))
}

// Heal removes all partitions and losses.
func (n *Net) Heal(ctx context.Context) error { return n.nft(ctx, "flush ruleset") }

func (n *Net) nft(ctx context.Context, rules string) error {
	_, err := Must(ctx, InNetNS(n.switchNS(), "nft", rules)...)
	if err != nil {
		return fmt.Errorf("set packet filter: %w", err)
	}
	return nil
}

func (n *Net) addresses(names []string) (string, error) {
	var all []string
	for _, name := range names {
		for _, node := range n.nodes {
			if node.Name == name {
				all = append(all, node.Address)
			}
		}
	}
	if len(all) != len(names) || len(all) == 0 {
		return "", fmt.Errorf("partition %q: no such node", names)
	}
	return strings.Join(all, ", "), nil
}

// Close unplugs everything. Processes inside have to be gone already.
func (n *Net) Close() error {
	err := SweepNetNS(n.ID)
	if n.madeNS {
		dropNetNSFolder()
	}
	n.nodes = nil
	return err
}

// SweepNetNS removes all network namespaces of the lab with this id.
func SweepNetNS(id string) error {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("list network namespaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), id+"-") {
			continue
		}
		path := "/run/netns/" + e.Name()
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
		}
		errs = append(errs, removeFile(path))
	}
	return errors.Join(errs...)
}

// dropNetNSFolder undoes what the first `ip netns add` of a machine does:
// /run/netns, mounted on itself. It stays as soon as anybody uses it.
func dropNetNSFolder() {
	if entries, err := os.ReadDir("/run/netns"); err != nil || len(entries) > 0 {
		return
	}
	_ = syscall.Unmount("/run/netns", 0)
	_ = removeIfEmpty("/run/netns")
}

func (n *Net) mustAll(ctx context.Context, steps [][]string) error {
	for _, argv := range steps {
		if n.trace != nil {
			n.trace(argv)
		}
		if _, err := Must(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}
