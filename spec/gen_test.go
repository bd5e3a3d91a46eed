package spec_test

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
)

// anyDaemon draws a valid daemon with its defaults filled in.
func anyDaemon() *rapid.Generator[spec.Daemon] {
	return rapid.Custom(func(t *rapid.T) spec.Daemon {
		d := spec.Daemon{
			Name:       name().Draw(t, "name"),
			Image:      rapid.SampledFrom([]string{"x", "a/b:1", "quay.io/x/y:v1.9.1", "r:5000/x@sha256:" + sixtyFour}).Draw(t, "image"),
			Pull:       rapid.SampledFrom([]spec.PullPolicy{"", spec.PullMissing, spec.PullAlways, spec.PullNever}).Draw(t, "pull"),
			Command:    texts(t, "command"),
			Args:       texts(t, "args"),
			Env:        rapid.MapOfN(rapid.StringMatching(`[A-Z_][A-Z0-9_.]{0,6}`), text(), 0, 3).Draw(t, "env"),
			WorkingDir: rapid.SampledFrom([]string{"", "/", "/srv/x y"}).Draw(t, "working_dir"),
			User:       rapid.SampledFrom([]string{"", "0", "65534:65534", "2147483647:1"}).Draw(t, "user"),
			Hostname:   rapid.SampledFrom([]string{"", "web", "a.example.org"}).Draw(t, "hostname"),
			Network:    rapid.SampledFrom([]spec.Namespace{"", spec.NamespaceHost, spec.NamespaceNone}).Draw(t, "network"),
			PID:        rapid.SampledFrom([]spec.Namespace{"", spec.NamespaceHost, spec.NamespacePrivate}).Draw(t, "pid"),
			Privileged: rapid.Bool().Draw(t, "privileged"),
			ReadOnly:   rapid.Bool().Draw(t, "read_only"),
			Capabilities: spec.Capabilities{
				Add:  some(t, "add", "net_admin", "CAP_SYS_ADMIN", "ALL"),
				Drop: some(t, "drop", "CHOWN", "cap_kill"),
			},
			Devices:  some(t, "devices", "/dev/fuse", "/dev/null:rwm", "/dev/kvm:r"),
			Selector: rapid.MapOfN(rapid.StringMatching(`([a-z]{1,5}/)?[a-zA-Z]{1,5}`), rapid.StringMatching(`[a-z0-9]{0,5}`), 0, 2).Draw(t, "selector"),
			Nodes:    some(t, "nodes", "web-1", "a.example.org", "x_y"),
			Resources: spec.Resources{
				CPU:           rapid.SampledFrom([]float64{0, 0.01, 0.2, 1, 3.75}).Draw(t, "cpu"),
				Memory:        spec.Size(rapid.SampledFrom([]int64{0, 6 << 20, 200 << 20, 6<<20 + 1}).Draw(t, "memory")),
				MemoryReserve: spec.Size(rapid.SampledFrom([]int64{0, 1 << 20, 2<<20 + 1}).Draw(t, "reserve")),
				Pids:          rapid.Int64Range(0, 1000).Draw(t, "pids"),
				CPUWeight:     rapid.Uint64Range(0, 10000).Draw(t, "weight"),
				OOMScoreAdj:   rapid.IntRange(-1000, 1000).Draw(t, "oom"),
				Ulimits:       rapid.MapOfN(rapid.SampledFrom([]string{"nofile", "core", "memlock"}), rapid.Int64Range(-1, 1<<40), 0, 2).Draw(t, "ulimits"),
			},
			Restart: spec.Restart{
				Policy:     rapid.SampledFrom([]spec.RestartPolicy{"", spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever}).Draw(t, "policy"),
				Backoff:    duration(t, "backoff", time.Millisecond, 30*time.Second),
				BackoffMax: duration(t, "backoff_max", 30*time.Second, time.Hour),
				ResetAfter: duration(t, "reset_after", time.Millisecond, 24*time.Hour),
			},
			Stop: spec.Stop{
				Signal: rapid.SampledFrom([]string{"", "TERM", "SIGTERM", "sigint", "SIGRTMIN+3"}).Draw(t, "signal"),
				Grace:  duration(t, "grace", time.Millisecond, 24*time.Hour),
			},
			Literal:      rapid.Bool().Draw(t, "literal"),
			RestartNonce: rapid.SampledFrom([]string{"", "2", "abc"}).Draw(t, "nonce"),
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "mounts") {
			d.Mounts = append(d.Mounts, mount(t, i))
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "files") {
			d.Files = append(d.Files, spec.File{
				Target:  fmt.Sprintf("/files/%d", i),
				Mode:    rapid.SampledFrom([]string{"", "0444", "0644", "755", "0", "0007"}).Draw(t, "mode"),
				Content: rapid.Map(rapid.String(), noTemplate).Draw(t, "content"),
			})
		}
		for range rapid.IntRange(0, 2).Draw(t, "matches") {
			d.Match = append(d.Match, match(t))
		}
		perNode(t, &d)
		d.Update = anyUpdate(t, d)
		return d.WithDefaults()
	})
}

const sixtyFour = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func name() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?`)
}

// text is any text that an argument or a variable may be.
func text() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"{{ node.name }}", "a{{node.labels.role}}{{ node.address }}", `{{ "{{" }} {{ "}}" }}`, "}}"}), plainText())
}

// plainText is a text without expressions.
func plainText() *rapid.Generator[string] {
	return rapid.Map(rapid.StringN(0, 12, 40), func(s string) string {
		out := []rune{}
		for _, r := range noTemplate(s) {
			if r != 0 {
				out = append(out, r)
			}
		}
		return string(out)
	})
}

func noTemplate(s string) string {
	out := []rune{}
	for _, r := range s {
		if n := len(out); r == '{' && n > 0 && out[n-1] == '{' {
			continue
		}
		out = append(out, r)
	}
	return string(out)
}

func texts(t *rapid.T, label string) []string { return rapid.SliceOfN(text(), 0, 3).Draw(t, label) }

// some draws a few of words, each at most once.
func some(t *rapid.T, label string, words ...string) []string {
	var out []string
	for _, w := range words {
		if rapid.Bool().Draw(t, label+" "+w) {
			out = append(out, w)
		}
	}
	return out
}

func duration(t *rapid.T, label string, low, high time.Duration) spec.Duration {
	if rapid.Bool().Draw(t, label+" is the default") {
		return 0
	}
	return spec.Duration(rapid.Int64Range(int64(low), int64(high)).Draw(t, label))
}

func mount(t *rapid.T, i int) spec.Mount {
	m := spec.Mount{Target: fmt.Sprintf("/mounts/%d", i)}
	switch rapid.IntRange(0, 2).Draw(t, "kind of mount") {
	case 0:
		m.Source = rapid.SampledFrom([]string{"/", "/var/log", "/with space"}).Draw(t, "source")
		m.Options = some(t, "option", "ro", "rslave", "noexec", "bind")
	case 1:
		m.Volume = "data"
		m.Options = some(t, "option", "nosuid", "rw")
	case 2:
		m.Tmpfs = true
		m.Size = spec.Size(rapid.SampledFrom([]int64{0, 1000, 64 << 20}).Draw(t, "size"))
		m.Options = some(t, "option", "mode=1777", "suid", "noexec", "uid=5")
	}
	return m
}

func match(t *rapid.T) spec.Match {
	m := spec.Match{Key: rapid.SampledFrom([]string{"role", "example.org/zone"}).Draw(t, "key")}
	m.Operator = rapid.SampledFrom([]spec.Operator{spec.OpIn, spec.OpNotIn, spec.OpExists, spec.OpDoesNotExist, spec.OpGt, spec.OpLt}).Draw(t, "operator")
	switch m.Operator {
	case spec.OpIn, spec.OpNotIn:
		m.Values = []string{"a", "b"}
	case spec.OpGt, spec.OpLt:
		m.Values = []string{"-5"}
	}
	return m
}

// anyUpdate draws what may be the [update] of d.
func anyUpdate(t *rapid.T, d spec.Daemon) spec.Update {
	u := spec.Update{
		Strategy:    rapid.SampledFrom([]string{"", spec.StrategyRolling, spec.StrategyAllAtOnce, spec.StrategyOnDelete}).Draw(t, "strategy"),
		MinReady:    duration(t, "min_ready", 0, 24*time.Hour),
		Deadline:    duration(t, "deadline", time.Second, 24*time.Hour),
		MaxFailures: rapid.SampledFrom([]int{0, 1, 2, 100}).Draw(t, "max_failures"),
		OnFailure:   spec.OnFailurePause,
	}
	if u.Strategy != spec.StrategyAllAtOnce {
		u.MaxUnavailable = rapid.SampledFrom([]spec.Share{"", "1", "10", "1%", "25%", "100%"}).Draw(t, "max_unavailable")
	}
	if u.Strategy != spec.StrategyOnDelete && !d.Job() {
		u.Surge = rapid.Bool().Draw(t, "surge")
		u.OnFailure = rapid.SampledFrom([]string{"", spec.OnFailurePause, spec.OnFailureRollback}).Draw(t, "on_failure")
	}
	if u.Strategy == "" || u.Strategy == spec.StrategyRolling {
		switch rapid.IntRange(0, 2).Draw(t, "canaries") {
		case 1:
			u.Canary = rapid.IntRange(1, spec.MaxCanaries).Draw(t, "canary")
		case 2:
			u.CanarySelector = map[string]string{"canary": "yes"}
		default:
			return u
		}
		u.Bake = duration(t, "bake", 0, 24*time.Hour)
	}
	return u
}
