package spec

import (
	"regexp"
	"slices"
)

// optionGroup is a choice of mount options: one of words holds, by default the
// first.
type optionGroup struct {
	words   []string
	implied bool // whether the first is written out in a complete list
}

// optionGroups returns the choices of a mount. Binds and volumes default to
// rbind,rw,rprivate; a tmpfs to rw,nosuid,nodev, for nothing that a daemon
// writes into scratch space needs more.
func optionGroups(tmpfs bool) []optionGroup {
	if tmpfs {
		return []optionGroup{
			{[]string{"rw", "ro"}, true},
			{[]string{"nosuid", "suid"}, true},
			{[]string{"nodev", "dev"}, true},
			{[]string{"exec", "noexec"}, false},
			{[]string{"atime", "noatime", "relatime"}, false},
		}
	}
	return []optionGroup{
		{[]string{"rbind", "bind"}, true},
		{[]string{"rw", "ro"}, true},
		{[]string{"rprivate", "private", "rslave", "slave", "rshared", "shared"}, true},
		{[]string{"suid", "nosuid"}, false},
		{[]string{"dev", "nodev"}, false},
		{[]string{"exec", "noexec"}, false},
		{[]string{"atime", "noatime", "relatime"}, false},
	}
}

// tmpfsOption matches what a tmpfs takes besides the choices.
var tmpfsOption = regexp.MustCompile(`^(mode=[01]?[0-7]{3}|uid=[0-9]{1,9}|gid=[0-9]{1,9})$`)

// fillOptions returns the complete options of a mount in one order: of each
// choice the word that was written, or its default, then the rest, sorted.
// Choices whose default the runtime implies by itself are left out.
func fillOptions(options []string, tmpfs bool) []string {
	var out []string
	used := map[string]bool{}
	for _, g := range optionGroups(tmpfs) {
		chosen := g.words[0]
		for _, o := range options {
			if slices.Contains(g.words, o) {
				chosen = o
				used[o] = true
			}
		}
		if g.implied || chosen != g.words[0] {
			out = append(out, chosen)
		}
	}
	var rest []string
	for _, o := range options {
		if !used[o] && !slices.Contains(rest, o) {
			rest = append(rest, o)
		}
	}
	slices.Sort(rest)
	return append(out, rest...)
}

// stripOptions is the inverse of fillOptions: only what differs from the
// defaults.
func stripOptions(options []string, tmpfs bool) []string {
	var out []string
	for _, o := range fillOptions(options, tmpfs) {
		isDefault := slices.ContainsFunc(optionGroups(tmpfs), func(g optionGroup) bool {
			return g.words[0] == o
		})
		if !isDefault {
			out = append(out, o)
		}
	}
	return out
}
