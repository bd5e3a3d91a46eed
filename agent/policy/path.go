package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec"
)

// pathRule permits a path and everything below it.
type pathRule struct {
	path     string
	readOnly bool
}

func (r pathRule) String() string {
	if r.readOnly {
		return r.path + " only read-only"
	}
	return r.path
}

func parsePathRule(s string) (pathRule, error) {
	text, ro := strings.CutSuffix(s, ":ro")
	if !ro {
		text = strings.TrimSuffix(text, ":rw")
	}
	c, err := cleanAbs(text)
	return pathRule{c, ro}, err
}

func cleanAbs(s string) (string, error) {
	if !filepath.IsAbs(s) {
		return "", fmt.Errorf("path %q is not absolute", s)
	}
	return filepath.Clean(s), nil
}

// checkMount returns why the bind mount m is not permitted, or "". The source
// is judged by where its symbolic links lead.
func (p *Policy) checkMount(m spec.Mount) string {
	src := p.resolve(m.Source)
	what := fmt.Sprintf("mount of %s", m.Source)
	if src != filepath.Clean(m.Source) {
		what += fmt.Sprintf(" (which leads to %s)", src)
	}
	readOnly := m.ReadOnly()
	if !p.permitsPath(src, readOnly) {
		how := "read-write"
		if readOnly {
			how = "read-only"
		}
		return fmt.Sprintf("%s %s, permitted are %s", what, how, p.pathList())
	}
	for _, own := range p.guarded() {
		if within(src, own) && !p.namesWithin(src, own, readOnly) {
			return fmt.Sprintf("%s, which lies in %s, a folder of agentd or of a socket: only a rule that names it permits that", what, own)
		}
	}
	if shared(m) && len(p.MountMasks(m)) > 0 {
		// A mask in a mount that propagates to the host would hide agentd's
		// folders from the host itself.
		return fmt.Sprintf("%s with shared propagation, which would carry to the host what hides %s inside it",
			what, strings.Join(p.guardedBelow(src), ", "))
	}
	return ""
}

// permitsPath reports whether some rule permits the resolved path src.
func (p *Policy) permitsPath(src string, readOnly bool) bool {
	return slices.ContainsFunc(p.paths, func(r pathRule) bool {
		return within(src, p.resolve(r.path)) && (readOnly || !r.readOnly)
	})
}

// namesWithin reports whether a rule that names the guarded folder itself, or
// something inside it, permits src.
func (p *Policy) namesWithin(src, own string, readOnly bool) bool {
	return slices.ContainsFunc(p.paths, func(r pathRule) bool {
		rule := p.resolve(r.path)
		return within(rule, own) && within(src, rule) && (readOnly || !r.readOnly)
	})
}

func (p *Policy) pathList() string {
	var out []string
	for _, r := range p.paths {
		out = append(out, r.String())
	}
	return list(out)
}

// guarded returns the protected folders, links followed.
func (p *Policy) guarded() []string {
	out := make([]string, 0, len(p.protected))
	for _, path := range p.protected {
		out = append(out, p.resolve(path))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// guardedBelow returns the guarded folders below the resolved path src that
// exist and that no rule names.
func (p *Policy) guardedBelow(src string) []string {
	var out []string
	for _, own := range p.guarded() {
		named := slices.ContainsFunc(p.paths, func(r pathRule) bool { return p.resolve(r.path) == own })
		if own != src && within(own, src) && !named && p.exists(own) {
			out = append(out, own)
		}
	}
	// A folder inside another one that is masked already needs no mask.
	return slices.DeleteFunc(out, func(own string) bool {
		return slices.ContainsFunc(out, func(o string) bool { return o != own && within(own, o) })
	})
}

// MountMasks returns the paths inside the container over which something empty
// is to be mounted after the bind mount m, sorted: the guarded folders that m
// would show because it mounts a parent of them. A read-only mount is masked
// too, since it still lets one connect to a socket.
func (p *Policy) MountMasks(m spec.Mount) []string {
	if m.Source == "" {
		return nil
	}
	src := p.resolve(m.Source)
	var out []string
	for _, own := range p.guardedBelow(src) {
		rel, err := filepath.Rel(src, own)
		if err != nil {
			continue // both are absolute and clean: cannot happen
		}
		out = append(out, filepath.Join(m.Target, rel))
	}
	return out
}

// Masks returns the masks of all mounts of d, sorted.
func (p *Policy) Masks(d spec.Daemon) []string {
	var out []string
	for _, m := range d.Mounts {
		out = append(out, p.MountMasks(m)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Resolve follows the symbolic links of a mount's source, as Check does.
func (p *Policy) Resolve(path string) string { return p.resolve(path) }

func shared(m spec.Mount) bool {
	return slices.Contains(m.Options, "rshared") || slices.Contains(m.Options, "shared")
}

// within reports whether path is dir or below it; both are clean.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// resolvePath follows symbolic links in the part of path that exists.
func resolvePath(path string) string {
	path = filepath.Clean(path)
	rest := ""
	for p := path; ; p = filepath.Dir(p) {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			return filepath.Join(real, rest)
		}
		if p == "/" || p == "." {
			return path
		}
		rest = filepath.Join(filepath.Base(p), rest)
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// deviceRule permits devices by a glob, with accesses.
type deviceRule struct {
	glob
	access string
}

func parseDeviceRule(s string) (deviceRule, error) {
	path, access, err := splitDevice(s)
	if err != nil {
		return deviceRule{}, err
	}
	g, err := compileGlob(path)
	return deviceRule{g, access}, err
}

// splitDevice splits PATH[:rwm]; without a suffix all three are meant.
func splitDevice(s string) (path, access string, err error) {
	path, access, ok := strings.Cut(s, ":")
	if !ok {
		access = "rwm"
	}
	if !filepath.IsAbs(path) || access == "" || strings.Trim(access, "rwm") != "" {
		return "", "", fmt.Errorf("device %q is not PATH or PATH:rwm", s)
	}
	return filepath.Clean(path), access, nil
}

// checkDevice returns why the device is not permitted, or "".
func (p *Policy) checkDevice(dev string) string {
	path, access, err := splitDevice(dev)
	if err != nil {
		return err.Error()
	}
	real := p.resolve(path)
	var texts []string
	for _, r := range p.devices {
		// As written counts too: what /dev links to is the host's own doing.
		if (r.re.MatchString(real) || r.re.MatchString(path)) && strings.Trim(access, r.access) == "" {
			return ""
		}
		texts = append(texts, r.text+":"+r.access)
	}
	return fmt.Sprintf("device %s, permitted are %s", dev, list(texts))
}
