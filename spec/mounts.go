package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec/strict"
)

func (c checker) mounts(d Daemon) {
	for i, m := range d.Mounts {
		at := strict.Index("mounts", i)
		c.origin(at, m)
		c.target(at+".target", m.Target)
		c.options(at+".options", m)
	}
	c.targets(d.Mounts, d.Files)
}

// origin checks that a mount comes from exactly one place.
func (c checker) origin(at string, m Mount) {
	var given []string
	if m.Source != "" {
		given = append(given, "source")
		c.absolute(at+".source", m.Source)
	}
	if m.Volume != "" {
		given = append(given, "volume")
		if !nodePattern.MatchString(m.Volume) || len(m.Volume) > MaxDaemonName {
			c.fail(at+".volume", strict.Quote(m.Volume)+" is not the name of a volume",
				"a-z, 0-9 and - . _ inside, at most 63; a path of the host goes into source")
		}
	}
	if m.Tmpfs {
		given = append(given, "tmpfs")
	}
	switch len(given) {
	case 0:
		c.fail(at, "needs a source, a volume or tmpfs = true", "")
	case 1:
	default:
		c.fail(at, "has "+strings.Join(given, " and ")+", but comes from one place only", "")
	}
	if m.Size != 0 && !m.Tmpfs {
		c.fail(at+".size", "is for tmpfs only", "")
	}
	if m.Size < 0 {
		c.failf(at+".size", "%d is negative", m.Size)
	}
}

// target checks a path that something is mounted at.
func (c checker) target(at, target string) {
	if !c.absolute(at, target) {
		return
	}
	switch {
	case target == "/":
		c.fail(at, "is the root of the container", "mount it below, such as at /host")
	case target == "/proc" || strings.HasPrefix(target, "/proc/"):
		// runc refuses these itself, but only when the container starts.
		c.fail(at, "is inside of /proc, which belongs to the container's own processes", "mount it elsewhere, such as at /host/proc")
	}
}

func (c checker) options(at string, m Mount) {
	groups := optionGroups(m.Tmpfs)
	var words []string
	for _, g := range groups {
		words = append(words, g.words...)
	}
	chosen := map[int]string{} // by group
	for i, o := range m.Options {
		here := strict.Index(at, i)
		if m.Tmpfs && tmpfsOption.MatchString(o) {
			if key, _, _ := strings.Cut(o, "="); slices.ContainsFunc(m.Options[:i], func(p string) bool {
				return strings.HasPrefix(p, key+"=")
			}) {
				c.failf(here, "%s is given twice", key)
			}
			continue
		}
		g := slices.IndexFunc(groups, func(g optionGroup) bool { return slices.Contains(g.words, o) })
		if g < 0 {
			c.unknownOption(here, o, m.Tmpfs, words)
			continue
		}
		if before, ok := chosen[g]; ok {
			if before == o {
				c.failf(here, "%s is given twice", strict.Quote(o))
			} else {
				c.failf(here, "%s contradicts %s", strict.Quote(o), strict.Quote(before))
			}
		}
		chosen[g] = o
	}
}

func (c checker) unknownOption(at, o string, tmpfs bool, words []string) {
	hint := ""
	switch s := strict.Suggest(o, words); {
	case strings.HasPrefix(o, "size="):
		hint = "it has a key of its own: size = " + strict.Quote(strings.TrimPrefix(o, "size="))
	case s != "":
		hint = "did you mean " + strict.Quote(s) + "?"
	case tmpfs:
		hint = "one of " + strings.Join(words, ", ") + ", mode=, uid=, gid="
	default:
		hint = "one of " + strings.Join(words, ", ")
	}
	c.fail(at, strict.Quote(o)+" is not a mount option", hint)
}

// targets checks that nothing is mounted over something else of the daemon.
func (c checker) targets(mounts []Mount, files []File) {
	first := map[string]string{}
	note := func(at, target string) {
		if target == "" {
			return
		}
		if before, ok := first[target]; ok {
			c.failf(at, "%s is the target of %s already", strict.Quote(target), before)
			return
		}
		first[target] = strings.TrimSuffix(at, ".target")
	}
	for i, m := range mounts {
		note(fmt.Sprintf("mounts[%d].target", i), m.Target)
	}
	for i, f := range files {
		note(fmt.Sprintf("files[%d].target", i), f.Target)
	}
}

func (c checker) files(files []File) {
	for i, f := range files {
		at := strict.Index("files", i)
		c.target(at+".target", f.Target)
		if mode := normalMode(f.Mode); !validMode(mode) {
			c.fail(at+".mode", strict.Quote(f.Mode)+" is not a mode", `octal in quotes, at most "0777"`)
		}
	}
}

// validMode reports whether a normal mode is four octal digits without special
// bits.
func validMode(mode string) bool {
	return len(mode) == 4 && mode[0] == '0' && strings.Trim(mode, "01234567") == ""
}
