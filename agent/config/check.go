package config

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/strict"
)

// maxSocketPath is what fits into sockaddr_un's 108 bytes with its NUL.
const maxSocketPath = 107

var (
	ringPattern      = regexp.MustCompile(`^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$`)
	namespacePattern = regexp.MustCompile(`^[A-Za-z0-9]+([-._][A-Za-z0-9]+)*$`) // containerd's identifiers
	devicePattern    = regexp.MustCompile(`^([^:]*)(:(r?w?m?))?$`)
)

// checker adds problems, each in the file and at the line that its key's value
// came from.
type checker struct {
	origin map[string]strict.Table
	main   string
	errs   *strict.Errors
}

// fail adds a problem with the value at path, "section.key" and what is in it.
func (c checker) fail(path, msg, hint string) {
	e := strict.Error{Path: path, Msg: msg, Hint: hint}
	key := path
	for key != "" {
		if root, ok := c.origin[key]; ok {
			root.Problem(e)
			return
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	e.File = c.main
	c.errs.Add(e)
}

func (c checker) check(cfg *Config) {
	c.node(cfg.Node)
	c.ring(cfg.Ring)
	c.absolute("trust.dir", cfg.Trust.Dir)
	c.policy(&cfg.Policy)
	c.runtime(cfg.Runtime)
	c.log(cfg.Log)
	c.api(cfg.API)
}

func (c checker) node(n Node) {
	for _, key := range slices.Sorted(maps.Keys(n.Labels)) {
		at := strict.Join("node.labels", key)
		switch {
		case !spec.ValidLabelKey(key):
			c.fail(at, strict.Quote(key)+" is not a label", `such as "role" or "example.org/role"`)
		case automatic(key):
			c.fail(at, "every node has it by itself", "leave it out")
		}
		if !spec.ValidLabelValue(n.Labels[key]) {
			c.fail(at, strict.Quote(n.Labels[key])+" is not the value of a label", "at most 63 letters, digits, - _ and .")
		}
	}
	seen := map[spec.Taint]string{}
	for i, text := range n.Taints {
		at := strict.Index("node.taints", i)
		t, err := spec.ParseTaint(text)
		if err != nil {
			c.fail(at, err.Error(), "")
			continue
		}
		// As in Kubernetes, key and effect tell taints apart.
		id := spec.Taint{Key: t.Key, Effect: t.Effect}
		if before, ok := seen[id]; ok {
			c.fail(at, strict.Quote(text)+" has the key and effect of "+before, "")
			continue
		}
		seen[id] = at
	}
	if c.absolute("node.data_dir", n.DataDir) && n.DataDir == "/" {
		c.fail("node.data_dir", "is the root folder", "")
	}
}

func (c checker) ring(r Ring) {
	if !ringPattern.MatchString(r.Name) || len(r.Name) > 63 {
		c.fail("ring.name", strict.Quote(r.Name)+" is not a name", "a-z, 0-9 and - . _ inside, at most 63")
	}
	c.absolute("ring.key_file", r.KeyFile)
	own := []struct{ key, value string }{
		{"ring.cert_file", r.CertFile}, {"ring.peer_key_file", r.PeerKeyFile}, {"ring.ca_file", r.CAFile},
	}
	given := 0
	for _, f := range own {
		if f.value != "" {
			given++
			c.absolute(f.key, f.value)
		}
	}
	for _, f := range own {
		if f.value == "" && given > 0 {
			c.fail(f.key, "is missing", "cert_file, peer_key_file and ca_file go together")
		}
	}
}

func (c checker) policy(p *Policy) {
	for i, image := range p.Images {
		if image == "" || strings.ContainsAny(image, " \t\n") || strings.Contains(image, "://") {
			c.fail(strict.Index("policy.images", i), strict.Quote(image)+" is not a repository or digest",
				`such as "registry.example.org/team/**"`)
		}
	}
	for i, hp := range p.HostPaths {
		at := strict.Index("policy.host_paths", i)
		if p, ok := strings.CutSuffix(hp, ":rw"); ok {
			c.fail(at, strict.Quote(hp)+" has a suffix that is none", "write "+strict.Quote(p)+" to permit writing")
			continue
		}
		c.absolute(at, strings.TrimSuffix(hp, ":ro"))
	}
	for i, ns := range p.HostNamespaces {
		if !slices.Contains([]string{"network", "pid", "ipc", "uts"}, ns) {
			msg, hint := strict.OneOf(ns, "network", "pid", "ipc", "uts")
			c.fail(strict.Index("policy.host_namespaces", i), msg, hint)
		}
	}
	caps := make([]string, len(p.Capabilities))
	for i, name := range p.Capabilities {
		caps[i] = spec.NormalCapability(name)
		if !spec.ValidCapability(name) {
			c.fail(strict.Index("policy.capabilities", i), strict.Quote(name)+" is not a capability", "")
		}
	}
	if len(caps) > 0 {
		p.Capabilities = caps
	}
	for i, dev := range p.Devices {
		at := strict.Index("policy.devices", i)
		parts := devicePattern.FindStringSubmatch(dev)
		if parts == nil || parts[2] == ":" {
			c.fail(at, strict.Quote(dev)+" is not a device", `write "PATH" or "PATH:rwm", with any of r, w and m`)
			continue
		}
		c.absolute(at, parts[1])
	}
}

func (c checker) runtime(r Runtime) {
	c.absolute("runtime.address", r.Address)
	if !namespacePattern.MatchString(r.Namespace) || len(r.Namespace) > 76 { // containerd's limit
		c.fail("runtime.namespace", strict.Quote(r.Namespace)+" is not a containerd namespace", "letters, digits and - . _ between them, at most 76")
	}
	if r.Snapshotter != "" && !namespacePattern.MatchString(r.Snapshotter) {
		c.fail("runtime.snapshotter", strict.Quote(r.Snapshotter)+" is not the name of a snapshotter", "")
	}
	if r.RegistryDir != "" {
		c.absolute("runtime.registry_dir", r.RegistryDir)
	}
	if r.AuthFile != "" {
		c.absolute("runtime.auth_file", r.AuthFile)
	}
}

func (c checker) log(l Log) {
	c.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", l.Format, "text", "json")
	c.oneOf("log.containers", l.Containers, LogsAuto, LogsJournald, LogsFile)
	const least = 4 << 10 // a page: less is rotated faster than it is read
	if l.MaxSize < least {
		c.fail("log.max_size", fmt.Sprintf("%s is less than %s", l.MaxSize, spec.Size(least)), "")
	}
	if l.MaxFiles < 1 || l.MaxFiles > 1000 {
		c.fail("log.max_files", fmt.Sprintf("%d is not between 1 and 1000", l.MaxFiles), "the one being written counts")
	}
}

func (c checker) api(a API) {
	if c.absolute("api.socket", a.Socket) && len(a.Socket) > maxSocketPath {
		c.fail("api.socket", fmt.Sprintf("%d characters, and a socket's path may have %d", len(a.Socket), maxSocketPath), "")
	}
	if strings.ContainsAny(a.Group, " \t\n:") {
		c.fail("api.group", strict.Quote(a.Group)+" is not a group", "")
	}
}

func (c checker) oneOf(at, value string, words ...string) {
	if !slices.Contains(words, value) {
		msg, hint := strict.OneOf(value, words...)
		c.fail(at, msg, hint)
	}
}

// absolute checks a path of this machine.
func (c checker) absolute(at, p string) bool {
	switch {
	case p == "":
		c.fail(at, "is empty", "")
	case strings.ContainsRune(p, 0):
		c.fail(at, "contains a NUL byte", "")
	case !path.IsAbs(p):
		c.fail(at, strict.Quote(p)+" is not an absolute path", "start it with /")
	case path.Clean(p) != p:
		c.fail(at, strict.Quote(p)+" is not a clean path", "write "+strict.Quote(path.Clean(p)))
	default:
		return true
	}
	return false
}
