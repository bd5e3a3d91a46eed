package config

import (
	"fmt"
	"strings"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/strict"
)

// resolve fills in what depends on the machine and on other keys.
func (c checker) resolve(cfg *Config, hostname string) {
	c.name(&cfg.Node, hostname)
	ring := &cfg.Ring
	c.metrics(&cfg.Metrics)
	for i, addr := range ring.Join {
		full, err := withPort(addr, DefaultPort)
		if err != nil {
			c.address(strict.Index("ring.join", i), addr, err)
			continue
		}
		ring.Join[i] = full
	}
	bind, err := bindAddr(ring.Bind, DefaultPort)
	if err != nil {
		c.address("ring.bind", ring.Bind, err)
		bind = "0.0.0.0:7946" // to go on with
	}
	ring.Bind = bind
	_, port, _ := hostPort(bind)
	if ring.Advertise != "" {
		full, err := withPort(ring.Advertise, port)
		if err != nil {
			c.address("ring.advertise", ring.Advertise, err)
			return // what follows is derived from it
		}
		ring.Advertise = full
	}
	c.peer(ring, &cfg.Peer)
}

// name takes the host name where the node has none.
func (c checker) name(n *Node, hostname string) {
	if n.Name != "" {
		if !spec.ValidNodeName(n.Name) {
			c.fail("node.name", strict.Quote(n.Name)+" is not the name of a node",
				fmt.Sprintf("a-z, 0-9 and - . _ inside, at most %d", spec.MaxNodeName))
		}
		return
	}
	n.Name = strings.ToLower(hostname)
	if !spec.ValidNodeName(n.Name) {
		c.fail("node.name", "the host name "+strict.Quote(hostname)+" can't be the name of a node", "write name = \"…\" in [node]")
	}
}

func (c checker) peer(ring *Ring, peer *Peer) {
	ownPort := 0
	if peer.Bind != "" {
		_, after, _ := hostPort(ring.Bind)
		bind, err := bindAddr(peer.Bind, after+1)
		if err != nil {
			c.address("peer.bind", peer.Bind, err)
			return
		}
		peer.Bind = bind
		if bind == ring.Bind {
			c.fail("peer.bind", "is ring.bind's address and port", "the two need a port each")
		}
		_, ownPort, _ = hostPort(bind)
	} else {
		bind, err := nextPort(ring.Bind)
		if err != nil {
			c.address("ring.bind", ring.Bind, err)
		}
		peer.Bind = bind
	}
	switch {
	case peer.Advertise != "":
		if ownPort == 0 {
			_, ownPort, _ = hostPort(peer.Bind)
		}
		full, err := withPort(peer.Advertise, ownPort)
		if err != nil {
			c.address("peer.advertise", peer.Advertise, err)
			return
		}
		peer.Advertise = full
	case ring.Advertise != "" && ownPort != 0:
		host, _, _ := hostPort(ring.Advertise)
		peer.Advertise, _ = withPort(bracketed(host), ownPort)
	case ring.Advertise != "":
		full, err := nextPort(ring.Advertise)
		if err != nil {
			c.address("ring.advertise", ring.Advertise, err)
		}
		peer.Advertise = full
	}
}

// bracketed returns a host as it is written before a port.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func (c checker) metrics(m *Metrics) {
	if m.Listen == "" {
		return
	}
	listen := m.Listen
	if strings.HasPrefix(listen, ":") { // every address, as Go has it
		listen = "0.0.0.0" + listen
	}
	host, port, err := hostPort(listen)
	switch {
	case err != nil:
		c.address("metrics.listen", m.Listen, err)
	case port == 0:
		c.fail("metrics.listen", strict.Quote(m.Listen)+" has no port", "write "+strict.Quote(bracketed(host)+":9464"))
	}
}

func (c checker) address(at, addr string, err error) {
	c.fail(at, strict.Quote(addr)+" "+err.Error(), "")
}
