package spec_test

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
)

func TestSelects(t *testing.T) {
	node := spec.Node{Name: "web-1", Labels: map[string]string{"role": "db", "cores": "8", "zone": "", "word": "x"}}
	one := func(key string, op spec.Operator, values ...string) spec.Daemon {
		return spec.Daemon{Match: []spec.Match{{Key: key, Operator: op, Values: values}}}
	}
	tests := []struct {
		name   string
		d      spec.Daemon
		ok     bool
		reason string
	}{
		{"no selector", spec.Daemon{}, true, "meant for every node"},
		{"the label fits", spec.Daemon{Selector: map[string]string{"role": "db"}}, true, "the selector matches"},
		{"another value", spec.Daemon{Selector: map[string]string{"role": "edge"}}, false, `label role is "db", not "edge"`},
		{"no such label", spec.Daemon{Selector: map[string]string{"gpu": "yes"}}, false, `no label gpu, needs "yes"`},
		{"an empty value is a value", spec.Daemon{Selector: map[string]string{"zone": ""}}, true, "the selector matches"},
		{"all labels must fit", spec.Daemon{Selector: map[string]string{"role": "db", "cores": "4"}}, false, `label cores is "8", not "4"`},
		{"In", one("role", spec.OpIn, "edge", "db"), true, "the selector matches"},
		{"In, another value", one("role", spec.OpIn, "edge", "web"), false, `label role is "db", not one of "edge", "web"`},
		{"In, no label", one("gpu", spec.OpIn, "yes"), false, `no label gpu, needs "yes"`},
		{"NotIn", one("role", spec.OpNotIn, "edge"), true, "the selector matches"},
		{"NotIn, the value", one("role", spec.OpNotIn, "db"), false, `label role is "db", which is excluded`},
		{"NotIn holds without the label, as in Kubernetes", one("gpu", spec.OpNotIn, "yes"), true, "the selector matches"},
		{"Exists", one("zone", spec.OpExists), true, "the selector matches"},
		{"Exists, no label", one("gpu", spec.OpExists), false, "no label gpu"},
		{"DoesNotExist", one("gpu", spec.OpDoesNotExist), true, "the selector matches"},
		{"DoesNotExist, the label", one("role", spec.OpDoesNotExist), false, `label role is "db", and must not exist`},
		{"Gt", one("cores", spec.OpGt, "7"), true, "the selector matches"},
		{"Gt is not at least", one("cores", spec.OpGt, "8"), false, `label cores is "8", not more than 8`},
		{"Lt", one("cores", spec.OpLt, "9"), true, "the selector matches"},
		{"Lt is not at most", one("cores", spec.OpLt, "8"), false, `label cores is "8", not less than 8`},
		{"Gt, no label", one("gpus", spec.OpGt, "1"), false, "no label gpus, must be more than 1"},
		{"Lt of a word", one("word", spec.OpLt, "1"), false, `label word is "x", no integer, and must be less than 1`},
		{"an operator that does not exist selects nothing", one("role", "Like", "d"), false, `unknown operator "Like"`},
		{"pinned here", spec.Daemon{Nodes: []string{"web-2", "web-1"}}, true, "pinned to this node"},
		{"pinned elsewhere", spec.Daemon{Nodes: []string{"web-2", "web-3"}}, false, "pinned to web-2, web-3, not web-1"},
		{"pinned to many others", spec.Daemon{Nodes: strings.Split("a b c d e f g", " ")}, false, "pinned to a, b, c, d, e and 2 more, not web-1"},
		{"pinned here, but the selector does not fit", spec.Daemon{Nodes: []string{"web-1"}, Selector: map[string]string{"role": "edge"}}, false, `label role is "db", not "edge"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ok, reason := tt.d.Selects(node)
			if ok != tt.ok || reason != tt.reason {
				t.Errorf("got %v, %q; want %v, %q", ok, reason, tt.ok, tt.reason)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	old := parseOne(t, `
name = "x"
image = "x:1"
args = ["a"]
env = { A = "1", B = "2" }
nodes = ["web-1"]
mounts = [{ source = "/a", target = "/a" }]
files = [{ target = "/f", content = "short" }]
`)
	new := parseOne(t, `
name = "x"
image = "x:2"
args = ["a", "b"]
env = { A = "1", B = "3", C = "" }
mounts = [{ volume = "v", target = "/v" }, { source = "/a", target = "/a", options = ["ro"] }]
files = [{ target = "/f", content = "long\ntext\n" }]
selector = { role = "edge" }
stop = { grace = "1m" }
`)
	new.RestartNonce = "1"
	want := []spec.Change{
		{`image`, `"x:1"`, `"x:2"`, true},
		{`args`, `["a"]`, `["a", "b"]`, true},
		{`env.B`, `"2"`, `"3"`, true},
		{`env.C`, ``, `""`, true},
		{`selector.role`, ``, `"edge"`, false},
		{`nodes`, `["web-1"]`, ``, false},
		{`mounts["/a"].options`, `["rbind", "rw", "rprivate"]`, `["rbind", "ro", "rprivate"]`, true},
		{`mounts["/v"].options`, ``, `["rbind", "rw", "rprivate"]`, true},
		{`mounts["/v"].target`, ``, `"/v"`, true},
		{`mounts["/v"].volume`, ``, `"v"`, true},
		{`files["/f"].content`, `"short"`, `10 bytes, sha256 63b315840ad9`, true},
		{`stop.grace`, `"30s"`, `"1m"`, true},
		{`restart_nonce`, ``, `"1"`, true},
	}
	got := spec.Diff(old, new)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			t.Errorf("and %+v", got[i])
		case i >= len(got):
			t.Errorf("no %+v", want[i])
		case got[i] != want[i]:
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	if c := spec.Diff(old, old); c != nil {
		t.Errorf("no difference is %+v", c)
	}
}

// Diff and digest must agree: an operator who is shown nothing, or nothing of
// the running part, must not see a restart.
func TestDiffAgreesWithDigest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anyDaemon().Draw(t, "a")
		b := anyDaemon().Draw(t, "b")
		if rapid.Bool().Draw(t, "only placed differently") {
			name := b
			b = a
			b.Pull, b.Selector, b.Match, b.Nodes = name.Pull, name.Selector, name.Match, name.Nodes
			b.Tolerations, b.DependsOn, b.Isolation = name.Tolerations, name.DependsOn, name.Isolation
		}
		if rapid.Bool().Draw(t, "only reordered") {
			b = a
			b.Mounts, b.Files = slices.Clone(a.Mounts), slices.Clone(a.Files)
			slices.Reverse(b.Mounts)
			slices.Reverse(b.Files)
		}
		changes := spec.Diff(a, b)
		running := slices.ContainsFunc(changes, func(c spec.Change) bool { return c.Running })
		if running != (a.Digest() != b.Digest()) {
			t.Fatalf("digests %s and %s, changes %+v", a.Digest(), b.Digest(), changes)
		}
		if (len(changes) > 0) != !bytes.Equal(spec.Encode(a), spec.Encode(b)) {
			t.Fatalf("%s and %s, changes %+v", spec.Encode(a), spec.Encode(b), changes)
		}
	})
}

func TestUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		500 * time.Millisecond: "500ms", 30 * time.Second: "30s", time.Minute: "1m", time.Hour: "1h",
		90 * time.Second: "1m30s", time.Hour + time.Second: "1h0m1s", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 20 * time.Hour: "20h", 0: "0s",
	} {
		if got := spec.Duration(d).String(); got != want {
			t.Errorf("%s is written %q, want %q", d, got, want)
		}
	}
	for text, want := range map[string]spec.Size{"": 0, "0": 0, "5": 5, "1KiB": 1024, "64 MiB": 64 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40} {
		if got, err := spec.ParseSize(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"MiB", "-1", "+1", "1MB", "1.5GiB", "9223372036854775808", "9000000TiB", "1 KiB ", "0x10"} {
		if got, err := spec.ParseSize(text); err == nil {
			t.Errorf("%q is %d, and should be refused", text, got)
		}
	}
	for s, want := range map[spec.Size]string{0: "0", 1000: "1000", 1024: "1KiB", 200 << 20: "200MiB", 3 << 30: "3GiB"} {
		if s.String() != want {
			t.Errorf("%d is written %q, want %q", int64(s), s, want)
		}
	}
}

func TestNames(t *testing.T) {
	for s, want := range map[string]bool{"a": true, "a-b": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a_b": false, "a/b": false, "é": false, "a\n": false, strings.Repeat("a", 64): false} {
		if spec.ValidName(s) != want {
			t.Errorf("ValidName(%q) is %v", s, !want)
		}
	}
	for s, want := range map[string]bool{"web-1": true, "a.example.org": true, "a_b": true, "Web": false, ".a": false, "": false, strings.Repeat("a", 51): false} {
		if spec.ValidNodeName(s) != want {
			t.Errorf("ValidNodeName(%q) is %v", s, !want)
		}
	}
	for s, want := range map[string]bool{"role": true, "kubernetes.io/os": true, "a/B_c.d": true, "a/b/c": false, "/a": false, "a/": false, "A/b": false, "a b": false, "": false} {
		if spec.ValidLabelKey(s) != want {
			t.Errorf("ValidLabelKey(%q) is %v", s, !want)
		}
	}
}

// A copy that was filled in must not reach back into what it was made from.
func TestWithDefaultsCopies(t *testing.T) {
	d := spec.Daemon{Name: "x", Image: "x", Devices: []string{"/dev/a:rwm"}, Env: map[string]string{"A": "1"},
		Mounts: []spec.Mount{{Source: "/a", Target: "/b", Options: []string{"ro"}}}, Files: []spec.File{{Target: "/f"}}}
	full := d.WithDefaults()
	full.Env["A"], full.Mounts[0].Target, full.Devices[0] = "2", "/c", "/dev/b"
	want := spec.Daemon{Name: "x", Image: "x", Devices: []string{"/dev/a:rwm"}, Env: map[string]string{"A": "1"},
		Mounts: []spec.Mount{{Source: "/a", Target: "/b", Options: []string{"ro"}}}, Files: []spec.File{{Target: "/f"}}}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("now it is %+v", d)
	}
}
