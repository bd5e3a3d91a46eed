package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

// maxAddresses is how many addresses a token carries: enough for one of them to
// be up, and short enough to paste.
const maxAddresses = 6

func (a *app) tokenCommand() *cobra.Command {
	dir := defaultDir
	cmd := &cobra.Command{
		Use: "token", GroupID: groupRing, Short: "Print what another machine needs to join the ring",
		Long: `Prints one line, the token: the ring's id and key, the operators' public keys,
addresses of nodes and, when agentd answers, the versions of all records, below
which a new node starts nothing. Whoever has the token can join the ring: treat
it as a secret. Nothing needs to run for it.`,
		Example: `  sudo agentctl token > ring.token
  ssh web-1 sudo agentctl token | ssh web-2 sudo agentctl join -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cannot("make a token", a.token(cmd.Context(), dir))
		},
	}
	cmd.Flags().StringVar(&dir, "config-dir", defaultDir, "folder of agentd.toml")
	return cmd
}

func (a *app) token(ctx context.Context, dir string) error {
	loaded, ok, err := configured(dir)
	if err != nil {
		return err
	}
	if !ok {
		return withHint(fmt.Errorf("there is no %s", filepath.Join(dir, "agentd.toml")), "make a ring first: sudo agentctl init")
	}
	t := config.Token{RingName: loaded.Ring.Name}
	if t.Key, err = config.ReadRingKey(loaded.Ring.KeyFile); err != nil {
		return err
	}
	if t.Operators, err = config.ReadTrustDir(loaded.Trust.Dir); err != nil {
		return err
	}
	if len(t.Operators) == 0 {
		return withHint(fmt.Errorf("no operator is trusted: %s is empty", loaded.Trust.Dir), "put an operator's .pub file there; agentctl key list shows yours")
	}
	roster := a.rosterOf(ctx, loaded, t.Key)
	t.Addresses = a.seeds(loaded, roster)
	if len(t.Addresses) == 0 {
		return withHint(errors.New("no address is known that others could reach this machine at"), "set [ring] advertise in agentd.toml")
	}
	t.Floor = a.floor(roster)
	fmt.Fprintln(a.stdout, t.String())
	return nil
}

// rosterOf asks the ring's agentd on this machine; the zero Roster when there
// is none, which a note tells.
func (a *app) rosterOf(ctx context.Context, loaded *config.Loaded, key config.RingKey) api.Roster {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := api.NewClient(a.socketFor(loaded))
	defer c.Close()
	roster, err := c.Roster(ctx)
	switch {
	case err != nil:
		a.notef("agentd does not answer, so the token does not tell which records are current; a new node relies on its peers for that (%v)", err)
		return api.Roster{}
	case roster.Ring != key.ID.String():
		a.notef("the agentd at %s is of another ring; the token does not tell which records are current", c.Socket())
		return api.Roster{}
	}
	return roster
}

func (a *app) floor(roster api.Roster) map[string]record.Version {
	floor := map[string]record.Version{}
	for key, v := range roster.Floor {
		digest, err := record.ParseDigest(v.Digest)
		if err != nil {
			a.warnf("agentd gave no valid digest for %s; the token leaves it out", key)
			continue
		}
		floor[key] = record.Version{Generation: v.Generation, Digest: digest}
	}
	return floor
}

// seeds lists addresses to join at: this node's first, then other members'.
func (a *app) seeds(loaded *config.Loaded, roster api.Roster) []string {
	var list []string
	host, port, err := net.SplitHostPort(loaded.Ring.Bind)
	if err != nil {
		host, port = loaded.Ring.Bind, "7946"
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case loaded.Ring.Advertise != "":
		list = append(list, withPort(loaded.Ring.Advertise, port))
	case err == nil && !ip.IsUnspecified():
		list = append(list, net.JoinHostPort(host, port))
	default:
		for _, n := range roster.Nodes {
			if n.Name == roster.Self && n.Address != "" {
				list = append(list, n.Address)
			}
		}
		if len(list) == 0 {
			for _, addr := range a.addresses() {
				list = append(list, net.JoinHostPort(addr, port))
			}
		}
	}
	for _, n := range roster.Nodes {
		if n.Name != roster.Self && n.State == "alive" && n.Address != "" {
			list = append(list, n.Address)
		}
	}
	list = unique(list)
	return list[:min(len(list), maxAddresses)]
}

// withPort adds a port to a host that has none.
func withPort(addr, port string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), port)
}

// localAddresses lists this machine's addresses that others may reach, IPv4
// first. Bridges and pairs that container engines make lead nowhere.
func localAddresses() []string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var v4, v6 []string
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || virtual(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, addr := range addrs {
			prefix, err := netip.ParsePrefix(addr.String())
			if err != nil || !prefix.Addr().IsGlobalUnicast() {
				continue
			}
			if prefix.Addr().Is4() {
				v4 = append(v4, prefix.Addr().String())
			} else {
				v6 = append(v6, prefix.Addr().String())
			}
		}
	}
	return append(v4, v6...)
}

func virtual(name string) bool {
	for _, prefix := range []string{"docker", "veth", "cni", "virbr", "cali", "flannel", "lxc"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
