package doctor

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// release is the first three numbers of a version.
type release [3]int

func (r release) String() string { return fmt.Sprintf("%d.%d.%d", r[0], r[1], r[2]) }

func (r release) before(o release) bool { return slices.Compare(r[:], o[:]) < 0 }

// branch reports whether both are of one minor version.
func (r release) branch(o release) bool { return r[0] == o[0] && r[1] == o[1] }

var numbers = regexp.MustCompile(`(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?`)

// parseRelease reads "v1.7.24", "1.6.20~ds1" and "2.2.0-rc.1".
func parseRelease(text string) (r release, ok bool) {
	m := numbers.FindStringSubmatch(text)
	if m == nil {
		return r, false
	}
	for i := range r {
		r[i], _ = strconv.Atoi(m[i+1]) // at most six digits, or none
	}
	return r, true
}

// hole is a known weakness of a program.
type hole struct {
	name, what string
	from       release   // the first version that has it
	fixed      []release // the first of each branch that has it no more, ascending
}

// in reports whether a version has the hole. A branch that nobody mended has it
// until a later branch was begun without.
func (h hole) in(v release) bool {
	if v.before(h.from) {
		return false
	}
	for _, f := range h.fixed {
		if v.branch(f) {
			return v.before(f)
		}
	}
	return v.before(h.fixed[len(h.fixed)-1])
}

// Of containerd, those that matter to a machine whatever asks for containers.
// agentd itself refuses users beyond 31 bits, copies no image's labels onto
// containers and imports no checkpoints.
var containerdHoles = []hole{
	{"CVE-2024-40635", "an image's user beyond 31 bits becomes root", release{},
		[]release{{1, 6, 38}, {1, 7, 27}, {2, 0, 4}}},
	{"CVE-2024-25621", "its folders are open to other users", release{},
		[]release{{1, 7, 29}, {2, 0, 7}, {2, 1, 5}, {2, 2, 0}}},
	{"CVE-2026-46680", "an image's user that is no number becomes root", release{1, 7, 27},
		[]release{{1, 7, 32}, {2, 0, 9}, {2, 2, 4}, {2, 3, 1}}},
	{"CVE-2026-53488", "through CRI, an image's labels run commands as root", release{},
		[]release{{1, 7, 33}, {2, 0, 10}, {2, 1, 9}, {2, 2, 5}, {2, 3, 2}}},
}

var runcHoles = []hole{
	{"CVE-2024-21626", "a container gets out through a leaked descriptor", release{}, []release{{1, 1, 12}}},
	{"CVE-2025-31133", "a container gets out through masked paths", release{}, []release{{1, 2, 8}, {1, 3, 3}, {1, 4, 0}}},
}

// oldestContainerd is the oldest branch that agentd is tested with.
var oldestContainerd = release{1, 6, 0}

// judgeVersion judges a program's version. oldest is zero where any will do.
func judgeVersion(check, program, version string, oldest release, holes []hole) Finding {
	v, ok := parseRelease(version)
	if !ok {
		return warn(check, fmt.Sprintf("the version of %s is not understood: %.80q", program, version), "")
	}
	if v.before(oldest) {
		return fail(check, fmt.Sprintf("%s %s is older than any that agentd was tested with", program, version),
			fmt.Sprintf("upgrade %s to %d.%d or newer", program, oldest[0], oldest[1]))
	}
	var open []string
	least := v
	for _, h := range holes {
		if !h.in(v) {
			continue
		}
		open = append(open, h.name+": "+h.what)
		if f := h.remedy(v); least.before(f) {
			least = f
		}
	}
	if len(open) == 0 {
		return Finding{check, OK, program + " " + version, ""}
	}
	return warn(check, fmt.Sprintf("%s %s has known holes, unless your distribution has patched them (%s)", program, version, strings.Join(open, "; ")),
		fmt.Sprintf("upgrade %s to %s or newer; running containers go on", program, least))
}

// remedy is the nearest version without the hole.
func (h hole) remedy(v release) release {
	for _, f := range h.fixed {
		if v.before(f) {
			return f
		}
	}
	return h.fixed[len(h.fixed)-1]
}

var serverVersion = regexp.MustCompile(`(?s)Server:.*?Version:\s*(\S+)`)

// parseServer finds the server's version in what ctr version prints.
func parseServer(out string) string {
	if m := serverVersion.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return ""
}

var runcVersion = regexp.MustCompile(`runc version (\S+)`)

// parseRunc finds the version in what runc --version prints.
func parseRunc(out string) string {
	if m := runcVersion.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return ""
}
