package spec

import (
	"fmt"
	"maps"
	"math"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/distribution/reference"

	"github.com/agentd/agentd/spec/strict"
)

// Limits of what a daemon may ask for.
const (
	// MaxEncoded is what a daemon may take in its record, in bytes. The record's
	// body holds record.MaxBody (64 KiB), of which a rollout with 256 nodes in
	// its lanes, all of them canaries, takes 18 KiB.
	MaxEncoded = 44 << 10

	minDuration = Duration(time.Millisecond)
	maxDuration = Duration(24 * time.Hour)
	minMemory   = 6 << 20 // as Docker has it: less does not even start runc's init
	minCPU      = 0.01    // the kernel's least quota, 1 ms in a period of 100 ms
	maxCPU      = 4096    // more than any machine has; keeps quotas within int64
	maxPids     = 4 << 20 // PID_MAX_LIMIT of a 64-bit kernel
)

var (
	envPattern      = regexp.MustCompile(`^[-._A-Za-z][-._A-Za-z0-9]*$`)
	userPattern     = regexp.MustCompile(`^(0|[1-9][0-9]*)(:(0|[1-9][0-9]*))?$`)
	hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$`)
	devicePattern   = regexp.MustCompile(`^(.*?)(:r?w?m?)?$`)
)

func (c checker) identity(d Daemon) {
	switch {
	case d.Name == "":
		c.fail("name", "is missing", "")
	case len(d.Name) > MaxDaemonName:
		c.failf("name", "%d characters, at most %d", len(d.Name), MaxDaemonName)
	case !ValidName(d.Name):
		c.fail("name", strict.Quote(d.Name)+" is not a name",
			"a-z, 0-9 and - inside, such as "+strict.Quote(nameLike(d.Name)))
	}
	c.image(d.Image)
	c.oneOf("pull", string(d.Pull), string(PullMissing), string(PullAlways), string(PullNever))
	c.oneOf("type", d.Type, TypeDaemon, TypeJob)
}

// nameLike makes a valid name that looks like s.
func nameLike(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	name := strings.Trim(b.String(), "-")
	name = strings.TrimRight(name[:min(len(name), MaxDaemonName)], "-")
	if name == "" {
		return "node-exporter"
	}
	return name
}

func (c checker) image(image string) {
	if image == "" {
		c.fail("image", "is missing", "")
		return
	}
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		hint := `write REPOSITORY:TAG or REPOSITORY@sha256:DIGEST`
		switch {
		case strings.Contains(image, "://"):
			_, rest, _ := strings.Cut(image, "://")
			hint = "without a scheme: " + strict.Quote(rest)
		case image != strings.ToLower(image) && strings.Contains(err.Error(), "lowercase"):
			hint = "repositories are written in small letters"
		}
		c.fail("image", strict.Quote(image)+" is no image reference: "+err.Error(), hint)
	}
}

func (c checker) process(d Daemon) {
	c.env(d.Env)
	if d.WorkingDir != "" {
		c.absolute("working_dir", d.WorkingDir)
	}
	c.user(d.User)
	// 64 is the kernel's limit, __NEW_UTS_LEN.
	if d.Hostname != "" && (len(d.Hostname) > 64 || !hostnamePattern.MatchString(d.Hostname)) {
		c.fail("hostname", strict.Quote(d.Hostname)+" is not a host name", "")
	}
	c.oneOf("network", string(d.Network), string(NamespaceHost), string(NamespaceNone))
	c.oneOf("pid", string(d.PID), string(NamespacePrivate), string(NamespaceHost))
}

func (c checker) env(env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !envPattern.MatchString(name) {
			c.fail(strict.Join("env", name), "is no name of an environment variable", "letters, digits and _ - .")
		}
	}
}

func (c checker) user(user string) {
	if user == "" {
		return
	}
	if !userPattern.MatchString(user) {
		c.fail("user", strict.Quote(user)+" is not numeric", `write "UID" or "UID:GID", such as "65534:65534"`)
		return
	}
	for id := range strings.SplitSeq(user, ":") {
		// Larger ids have come out as root in container runtimes (CVE-2024-40635).
		if n, err := strconv.ParseUint(id, 10, 64); err != nil || n > math.MaxInt32 {
			c.failf("user", "%s is larger than %d", id, math.MaxInt32)
		}
	}
}

func (c checker) rights(d Daemon) {
	for _, list := range []struct {
		path  string
		names []string
	}{{"capabilities.add", d.Capabilities.Add}, {"capabilities.drop", d.Capabilities.Drop}} {
		for i, name := range list.names {
			if !ValidCapability(name) {
				_, hint := strict.OneOf(NormalCapability(name), capabilityNames()...)
				c.fail(strict.Index(list.path, i), strict.Quote(name)+" is not a capability", hint)
			}
		}
	}
	for i, dev := range d.Devices {
		at := strict.Index("devices", i)
		parts := devicePattern.FindStringSubmatch(dev)
		if parts == nil || parts[2] == ":" || strings.Contains(parts[1], ":") {
			c.fail(at, strict.Quote(dev)+" is not a device", `write "PATH" or "PATH:rwm", with any of r, w and m`)
			continue
		}
		c.absolute(at, parts[1])
	}
}

func (c checker) selection(d Daemon) {
	if d.Selector != nil && len(d.Selector) == 0 {
		c.fail("selector", "is empty", "leave it out to mean every node")
	}
	c.requirements(d.Selector, d.Match)
	for i, name := range d.Nodes {
		if !ValidNodeName(name) {
			c.fail(strict.Index("nodes", i), strict.Quote(name)+" is not the name of a node", "")
		}
	}
}

func (c checker) requirements(selector map[string]string, match []Match) {
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		at := strict.Join("selector", key)
		c.labelKey(at, key)
		c.labelValue(at, selector[key])
	}
	for i, m := range match {
		c.match(strict.Index("match", i), m)
	}
}

func (c checker) labelKey(at, key string) {
	if !ValidLabelKey(key) {
		c.fail(at, strict.Quote(key)+" is not a label", `such as "role" or "example.org/role"`)
	}
}

func (c checker) labelValue(at, value string) {
	if !ValidLabelValue(value) {
		c.fail(at, strict.Quote(value)+" is not the value of a label", "at most 63 letters, digits, - _ and .")
	}
}

func (c checker) match(at string, m Match) {
	if m.Key == "" {
		c.fail(at+".key", "is missing", "")
	} else {
		c.labelKey(at+".key", m.Key)
	}
	values := at + ".values"
	switch m.Operator {
	case "":
		c.fail(at+".operator", "is missing", "one of In, NotIn, Exists, DoesNotExist, Gt, Lt")
	case OpIn, OpNotIn:
		if len(m.Values) == 0 {
			c.failf(values, "%s needs at least one value", m.Operator)
		}
		for i, v := range m.Values {
			c.labelValue(strict.Index(values, i), v)
		}
	case OpExists, OpDoesNotExist:
		if len(m.Values) > 0 {
			c.failf(values, "%s takes no values", m.Operator)
		}
	case OpGt, OpLt:
		if len(m.Values) != 1 {
			c.failf(values, "%s needs exactly one value", m.Operator)
		} else if _, err := strconv.ParseInt(m.Values[0], 10, 64); err != nil {
			c.fail(strict.Index(values, 0), strict.Quote(m.Values[0])+" is not an integer", "")
		}
	default:
		c.oneOf(at+".operator", string(m.Operator), string(OpIn), string(OpNotIn),
			string(OpExists), string(OpDoesNotExist), string(OpGt), string(OpLt))
	}
}

func (c checker) resources(r Resources) {
	if r.CPU != 0 && (math.IsNaN(r.CPU) || r.CPU < minCPU || r.CPU > maxCPU) {
		c.failf("resources.cpu", "%v is not between %v and %v cores", r.CPU, minCPU, maxCPU)
	}
	if r.Memory != 0 && r.Memory < minMemory {
		c.failf("resources.memory", "%s is less than %s, with which no container starts", r.Memory, Size(minMemory))
	}
	if r.MemoryReserve < 0 {
		c.failf("resources.memory_reserve", "%s is negative", r.MemoryReserve)
	}
	if r.Memory > 0 && r.MemoryReserve > r.Memory {
		c.failf("resources.memory_reserve", "%s is more than memory, %s", r.MemoryReserve, r.Memory)
	}
	if r.Pids < 0 || r.Pids > maxPids {
		c.failf("resources.pids", "%d is not between 1 and %d, or 0 for no limit", r.Pids, maxPids)
	}
	if r.CPUWeight > 10000 {
		c.failf("resources.cpu_weight", "%d is not between 1 and 10000, or 0 for the kernel's default", r.CPUWeight)
	}
	if r.OOMScoreAdj < -1000 || r.OOMScoreAdj > 1000 {
		c.failf("resources.oom_score_adj", "%d is not between -1000 and 1000", r.OOMScoreAdj)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Ulimits)) {
		at := strict.Join("resources.ulimits", name)
		if !slices.Contains(ulimitNames(), name) {
			_, hint := strict.OneOf(name, ulimitNames()...)
			if hint == "" {
				hint = "one of " + strings.Join(ulimitNames(), ", ")
			}
			c.fail(at, "is not a limit", hint)
		}
		if r.Ulimits[name] < -1 {
			c.fail(at, strconv.FormatInt(r.Ulimits[name], 10)+" is negative", "-1 means unlimited")
		}
	}
}

func (c checker) lifecycle(d Daemon) {
	r := d.Restart
	c.oneOf("restart.policy", string(r.Policy),
		string(RestartAlways), string(RestartOnFailure), string(RestartNever))
	c.duration("restart.backoff", r.Backoff)
	c.duration("restart.backoff_max", r.BackoffMax)
	c.duration("restart.reset_after", r.ResetAfter)
	if r.BackoffMax < r.Backoff {
		c.failf("restart.backoff_max", "%s is less than backoff, %s", r.BackoffMax, r.Backoff)
	}
	if sig := normalSignal(d.Stop.Signal); !validSignal(sig) {
		_, hint := strict.OneOf(sig, signalNames()...)
		if hint == "" {
			hint = `by name, such as "SIGTERM", "SIGINT" or "SIGRTMIN+3"`
		}
		c.fail("stop.signal", strict.Quote(d.Stop.Signal)+" is not a signal that ends a daemon", hint)
	}
	c.duration("stop.grace", d.Stop.Grace)
}

func (c checker) duration(at string, d Duration) {
	switch {
	case d <= 0:
		c.failf(at, "%s is not more than zero", d)
	case d < minDuration || d > maxDuration:
		c.failf(at, "%s is not between %s and %s", d, minDuration, maxDuration)
	}
}

// absolute checks a path of the host or the container.
func (c checker) absolute(at, p string) bool {
	switch {
	case p == "":
		c.fail(at, "is missing", "")
	case !path.IsAbs(p):
		c.fail(at, strict.Quote(p)+" is not an absolute path", "start it with /")
	case slices.Contains(strings.Split(p, "/"), ".."):
		c.fail(at, strict.Quote(p)+" goes up with ..", "write the path that is meant")
	case path.Clean(p) != p:
		c.fail(at, strict.Quote(p)+" is not a clean path", "write "+strict.Quote(path.Clean(p)))
	default:
		return true
	}
	return false
}

// texts checks what holds for every text of a daemon, wherever it stands, and
// returns a copy of d whose expressions are replaced by samples.
func (c checker) texts(d Daemon) Daemon {
	d = clone(d)
	eachText(reflect.ValueOf(&d).Elem(), byIndex, func(at, s, template string) string {
		if strings.ContainsRune(s, 0) && !strings.HasSuffix(at, ".content") {
			c.fail(at, "contains a NUL byte", "")
		}
		if !utf8.ValidString(s) {
			c.fail(at, "is not UTF-8", "")
		}
		if d.Literal || !strings.Contains(s, "{{") {
			return s
		}
		if template == "" {
			c.unknown(at, "is the same on every node and takes no {{ … }}", "")
			c.told[at] = true
			return s
		}
		out, problems := expandField(s, template, sample)
		for _, p := range problems {
			c.unknown(at, p.msg, p.hint)
		}
		if c.told[at] = len(problems) > 0; c.told[at] {
			return s
		}
		c.sampled[at] = true
		return out
	})
	return d
}

// size checks that the daemon fits into a record.
func (c checker) size(d Daemon) {
	n := len(Encode(d))
	if n <= MaxEncoded {
		return
	}
	files := 0
	for _, f := range d.Files {
		files += len(f.Content)
	}
	at, hint := "", ""
	if files > MaxEncoded/2 {
		at = "files"
		hint = "put large files into the image, or mount them from the host"
	}
	c.fail(at, fmt.Sprintf("the daemon takes %d bytes in its record, at most %d", n, MaxEncoded), hint)
}
