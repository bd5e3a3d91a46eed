// Package policy says what this node permits, whatever the ring says: the
// [policy] table of agentd.toml, applied to a daemon before anything of it is
// started.
//
// Promises: everything that reaches beyond a plain container (images from
// elsewhere, host paths, host namespaces, capabilities beyond the default set,
// devices, privileged) is denied unless a rule permits it; symbolic links are
// followed before a path is judged; agentd's own folders and the folders of its
// sockets are never handed out by a rule that merely names a parent of them.
// It never changes a daemon, and what it denies it says in words.
//
// A Policy is immutable and may be used from any goroutine. Check reads the
// file system for symbolic links and nothing else.
package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/spec"
)

// Rules, by their key under [policy] in agentd.toml.
const (
	RuleImages         = "images"
	RuleHostPaths      = "host_paths"
	RuleHostNamespaces = "host_namespaces"
	RuleCapabilities   = "capabilities"
	RuleDevices        = "devices"
	RulePrivileged     = "privileged"
)

// Denial is one thing that the policy does not permit.
type Denial struct {
	Rule   string // key under [policy]: "host_paths"
	Detail string // in words, without the rule
}

// String names the rule and the cause in one sentence.
func (d Denial) String() string {
	return fmt.Sprintf("policy.%s of this node denies it: %s", d.Rule, d.Detail)
}

// Policy decides what may run here.
type Policy struct {
	images     []glob
	paths      []pathRule
	namespaces []string
	caps       []string
	devices    []deviceRule
	privileged bool
	protected  []string                 // absolute, cleaned
	resolve    func(path string) string // follows symbolic links as far as the path exists
	exists     func(path string) bool
}

// New compiles the rules. protected lists the folders that only a rule naming
// them hands out: agentd's configuration, its data_dir, the folders of the
// runtime's and the API's sockets.
func New(cfg config.Policy, protected ...string) (*Policy, error) {
	p := &Policy{privileged: cfg.Privileged, resolve: resolvePath, exists: isDir}
	for _, s := range cfg.Images {
		g, err := compileGlob(s)
		if err != nil {
			return nil, fmt.Errorf("policy.%s: %w", RuleImages, err)
		}
		p.images = append(p.images, g)
	}
	for _, s := range cfg.HostPaths {
		r, err := parsePathRule(s)
		if err != nil {
			return nil, fmt.Errorf("policy.%s: %w", RuleHostPaths, err)
		}
		p.paths = append(p.paths, r)
	}
	for _, s := range cfg.HostNamespaces {
		if !slices.Contains([]string{"network", "pid", "ipc", "uts"}, s) {
			return nil, fmt.Errorf("policy.%s: %q is none of network, pid, ipc, uts", RuleHostNamespaces, s)
		}
		p.namespaces = append(p.namespaces, s)
	}
	for _, s := range cfg.Capabilities {
		p.caps = append(p.caps, spec.NormalCapability(strings.TrimSpace(s)))
	}
	for _, s := range cfg.Devices {
		r, err := parseDeviceRule(s)
		if err != nil {
			return nil, fmt.Errorf("policy.%s: %w", RuleDevices, err)
		}
		p.devices = append(p.devices, r)
	}
	for _, s := range protected {
		if s == "" {
			continue
		}
		c, err := cleanAbs(s)
		if err != nil {
			return nil, fmt.Errorf("protect folder: %w", err)
		}
		p.protected = append(p.protected, c)
	}
	return p, nil
}

// Check returns everything about d that this node does not permit, in the order
// of the rules; none means that d may be started here.
func (p *Policy) Check(d spec.Daemon) []Denial {
	var out []Denial
	deny := func(rule, format string, args ...any) {
		out = append(out, Denial{rule, fmt.Sprintf(format, args...)})
	}
	if why := p.checkImage(d.Image); why != "" {
		deny(RuleImages, "%s", why)
	}
	for _, m := range d.Mounts {
		if m.Source == "" {
			continue
		}
		if why := p.checkMount(m); why != "" {
			deny(RuleHostPaths, "%s", why)
		}
	}
	if d.Network == spec.NamespaceHost && !slices.Contains(p.namespaces, "network") {
		deny(RuleHostNamespaces, `network = "host" needs "network", permitted are %s`, list(p.namespaces))
	}
	if d.PID == spec.NamespaceHost && !slices.Contains(p.namespaces, "pid") {
		deny(RuleHostNamespaces, `pid = "host" needs "pid", permitted are %s`, list(p.namespaces))
	}
	if d.Privileged {
		// Privileged includes every capability and device, so nothing is
		// left for the two rules below to decide.
		if !p.privileged {
			deny(RulePrivileged, "privileged daemons are not permitted")
		}
		return out
	}
	for _, c := range d.Capabilities.Add {
		if n := spec.NormalCapability(c); !p.permitsCap(n) {
			deny(RuleCapabilities, "%s is beyond the default set, permitted besides it are %s", n, list(p.caps))
		}
	}
	for _, dev := range d.Devices {
		if why := p.checkDevice(dev); why != "" {
			deny(RuleDevices, "%s", why)
		}
	}
	return out
}

// defaultCaps is the set that containers get without asking: the one of
// containerd's oci.WithDefaultSpec, which is Docker's.
var defaultCaps = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

func (p *Policy) permitsCap(name string) bool {
	return slices.Contains(defaultCaps, name) || slices.Contains(p.caps, name) || slices.Contains(p.caps, "ALL")
}

// glob matches text in which * stands for anything but a slash, ** for
// anything, and ? for one character that is no slash.
type glob struct {
	text string
	re   *regexp.Regexp
}

func compileGlob(s string) (glob, error) {
	if s == "" {
		return glob{}, fmt.Errorf("an empty pattern matches nothing; leave it out")
	}
	var b strings.Builder
	b.WriteString(`\A`)
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "**"):
			b.WriteString(`.*`)
			i++
		case s[i] == '*':
			b.WriteString(`[^/]*`)
		case s[i] == '?':
			b.WriteString(`[^/]`)
		default:
			b.WriteString(regexp.QuoteMeta(s[i : i+1]))
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return glob{}, fmt.Errorf("pattern %q: %w", s, err)
	}
	return glob{s, re}, nil
}

// list writes permitted values for a sentence.
func list(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}
