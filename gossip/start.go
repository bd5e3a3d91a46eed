package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// startRetry is how long to wait for an address that this machine does not have
// yet, as early at boot.
const startRetry = 2 * time.Second

// start creates the membership, alone at first. It waits for an address that is
// not there yet and fails for one that is taken.
func (r *Ring) start(ctx context.Context) error {
	for {
		err := r.create(ctx)
		if err == nil {
			r.notes.clear("start " + r.cfg.Bind)
			return nil
		}
		if !absent(err) || ctx.Err() != nil {
			return err
		}
		r.note("start", r.cfg.Bind, fmt.Sprintf("waiting to take part in the ring: %v", err))
		if !pause(ctx, startRetry) {
			return ctx.Err()
		}
	}
}

// errAbsent marks what may come by itself: an address, a name.
var errAbsent = errors.New("not there yet")

func absent(err error) bool {
	return errors.Is(err, errAbsent) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

func (r *Ring) create(ctx context.Context) error {
	mc, err := r.profile(ctx)
	if err != nil {
		return err
	}
	h := &hooks{r: r}
	if h.meta, err = encodeMeta(r.cfg.ID, r.cfg.PeerAddr, r.cfg.Version); err != nil {
		return err
	}
	mc.Delegate, mc.Events, mc.Ping, mc.Alive, mc.Conflict = h, h, h, h, h
	mc.Logger = h.logger()
	if mc.Transport == nil {
		// memberlist would flatten these errors into text.
		if err := r.probeBind(mc.BindAddr, mc.BindPort); err != nil {
			return err
		}
		t, err := newNetTransport(mc.BindAddr, mc.BindPort, mc.Logger)
		if err != nil {
			return err
		}
		mc.Transport = t
		if mc.BindPort == 0 {
			mc.BindPort = t.GetAutoBindPort()
			mc.AdvertisePort = mc.BindPort
		}
	}
	ml, err := memberlist.Create(mc)
	if err != nil {
		h.closed.Store(true)
		_ = mc.Transport.Shutdown() // memberlist keeps it open in some failures
		return fmt.Errorf("start membership on %s: %w", r.cfg.Bind, err)
	}
	n := ml.LocalNode()
	self, err := memberOf(n)
	if err != nil {
		h.closed.Store(true)
		_ = ml.Shutdown()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	self.Since = time.Now()
	r.ml, r.hooks, r.self = ml, h, self
	return nil
}

// profile is memberlist's configuration; see docs/adr/0003.
func (r *Ring) profile(ctx context.Context) (*memberlist.Config, error) {
	mc := memberlist.DefaultLANConfig()
	mc.Name, mc.Label = r.cfg.Name, r.cfg.Label
	mc.EnableCompression = false // it quadruples the CPU for packets this small
	mc.DeadNodeReclaimTime = 30 * time.Second
	// The LAN profile's 200 ms are most of what an idle ring costs. Hints do not
	// wait for this tick (they are sent at once, see Hint), so only news of
	// members does.
	mc.GossipInterval = 500 * time.Millisecond
	mc.DelegateProtocolVersion = 0
	mc.SecretKey = r.cfg.Keys[0]
	ring, err := memberlist.NewKeyring(r.cfg.Keys, r.cfg.Keys[0])
	if err != nil {
		return nil, fmt.Errorf("ring keys: %w", err)
	}
	mc.Keyring = ring
	if r.cfg.Tuning.Transport != nil {
		mc.Transport, err = r.cfg.Tuning.Transport()
		return mc, err
	}
	host, port, err := splitAddr(r.cfg.Bind, DefaultPort)
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	if mc.BindPort, err = strconv.Atoi(port); err != nil || mc.BindPort < 0 || mc.BindPort > 65535 {
		return nil, fmt.Errorf("bind: address %q: bad port", r.cfg.Bind)
	}
	if mc.BindAddr, err = r.resolveIP(ctx, host); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	mc.AdvertisePort = mc.BindPort
	return mc, r.advertise(ctx, mc)
}

// advertise chooses the address that others are told.
func (r *Ring) advertise(ctx context.Context, mc *memberlist.Config) error {
	if r.cfg.Advertise != "" {
		host, port, err := splitAddr(r.cfg.Advertise, strconv.Itoa(mc.BindPort))
		if err != nil {
			return fmt.Errorf("advertise: %w", err)
		}
		if mc.AdvertisePort, err = strconv.Atoi(port); err != nil {
			return fmt.Errorf("advertise: address %q: bad port", r.cfg.Advertise)
		}
		mc.AdvertiseAddr, err = r.resolveIP(ctx, host)
		if err != nil {
			return fmt.Errorf("advertise: %w", err)
		}
		return nil
	}
	if ip := net.ParseIP(mc.BindAddr); ip == nil || !ip.IsUnspecified() {
		return nil
	}
	ip := r.routeIP(ctx, mc.BindAddr)
	if ip == "" {
		return fmt.Errorf("no address of this machine to tell others; set ring.advertise: %w", errAbsent)
	}
	mc.AdvertiseAddr = ip
	return nil
}

// routeIP returns this machine's address on the way to the first seed that can be
// resolved, else on the default route, else of the first interface that has one.
// A socket on 0.0.0.0 takes IPv6, too; it only makes IPv4 the first choice.
func (r *Ring) routeIP(ctx context.Context, bind string) string {
	var seeds []string
	for _, s := range r.cfg.Seeds {
		if addrs, err := r.resolve(ctx, s); err == nil {
			seeds = append(seeds, addrs...)
		}
	}
	// A seed on this very machine is reached over loopback.
	if ip := routeTo(ctx, seeds, func(ip net.IP) bool { return ip.IsGlobalUnicast() || ip.IsLoopback() }); ip != "" {
		return ip
	}
	// Addresses for documentation (RFC 5737, RFC 3849) stand for "far away";
	// connecting a UDP socket sends nothing.
	far := []string{"203.0.113.1:9", "[2001:db8::1]:9"}
	choices := []bool{true, false}
	if net.ParseIP(bind).To4() == nil {
		choices = choices[1:]
	}
	addrs, _ := net.InterfaceAddrs()
	for _, v4only := range choices {
		usable := func(ip net.IP) bool { return ip.IsGlobalUnicast() && (!v4only || ip.To4() != nil) }
		if ip := cmp.Or(routeTo(ctx, far, usable), firstIP(addrs, v4only)); ip != "" {
			return ip
		}
	}
	return ""
}

// moved reports whether the address that others were told is not this machine's
// any more, and there is another: a lease ran out, or a cable went elsewhere.
func (r *Ring) moved() bool {
	bind, _, err := splitAddr(r.cfg.Bind, DefaultPort)
	if err != nil || r.cfg.Advertise != "" || r.cfg.Tuning.Transport != nil || r.list() == nil {
		return false
	}
	if ip := net.ParseIP(bind); bind != "" && (ip == nil || !ip.IsUnspecified()) {
		return false // the only address that it listens on
	}
	self, _, err := net.SplitHostPort(r.Self().Addr)
	if err != nil {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	return err == nil && movedFrom(net.ParseIP(self), addrs)
}

func movedFrom(self net.IP, addrs []net.Addr) bool {
	here := slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(self)
	})
	return self != nil && !here && firstIP(addrs, false) != ""
}

// routeTo returns this machine's address on the way to the first of the targets
// for which that is usable.
func routeTo(ctx context.Context, targets []string, usable func(net.IP) bool) string {
	for _, t := range targets {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "udp", t)
		if err != nil {
			continue
		}
		a, _ := c.LocalAddr().(*net.UDPAddr)
		_ = c.Close()
		if a != nil && usable(a.IP) {
			return a.IP.String()
		}
	}
	return ""
}

// firstIP returns the first address that others may reach; loopback is none,
// not even on a machine that has no other yet, as before its network is up.
func firstIP(addrs []net.Addr, v4only bool) string {
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && (!v4only || n.IP.To4() != nil) {
			return n.IP.String()
		}
	}
	return ""
}

// probeBind tries the address, to tell a taken port from an absent address.
func (r *Ring) probeBind(host string, port int) error {
	if port == 0 {
		return nil
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err == nil {
		_ = l.Close()
		var p net.PacketConn
		if p, err = net.ListenPacket("udp", addr); err == nil {
			return p.Close()
		}
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s: the address is taken; is another agentd running? Otherwise set ring.bind: %w", addr, err)
	}
	return fmt.Errorf("listen on %s: %w", addr, err)
}

// resolveIP turns a host into one IP address.
func (r *Ring) resolveIP(ctx context.Context, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	if host == "" {
		return "0.0.0.0", nil
	}
	ips, err := r.cfg.Resolve(ctx, host)
	if err != nil {
		return "", fmt.Errorf("resolve %q: %w: %w", host, err, errAbsent)
	}
	if len(ips) == 0 {
		return "", fmt.Errorf("resolve %q: no address: %w", host, errAbsent)
	}
	return ips[0], nil
}

// resolve turns HOST or HOST:PORT into addresses, asking anew every time.
func (r *Ring) resolve(ctx context.Context, s string) ([]string, error) {
	host, port, err := splitAddr(s, DefaultPort)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) != nil {
		return []string{net.JoinHostPort(host, port)}, nil
	}
	ips, err := r.cfg.Resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", host, err)
	}
	addrs := make([]string, 0, len(ips))
	for _, ip := range ips {
		addrs = append(addrs, net.JoinHostPort(ip, port))
	}
	return addrs, nil
}
