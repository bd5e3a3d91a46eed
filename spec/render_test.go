package spec_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
)

func webNode() spec.Node {
	return spec.Node{Name: "web-1", Address: "10.0.0.7", Labels: map[string]string{"role": "edge", "example.org/zone": "a", "port": "9100", "empty": ""}}
}

// conformance: U7
func TestForOneNode(t *testing.T) {
	d := parseOne(t, `
name = "x"
image = "x:{{ node.labels.role }}"
command = ["/bin/{{ node.name }}"]
args = ["--fixed", "--zone={{ node.labels.example.org/zone }}"]
env = { A = "1", NODE = "{{node.name}}@{{ node.address }}", EMPTY = "[{{ node.labels.empty }}]" }
working_dir = "/srv/{{ node.name }}"
hostname = "app-{{ node.name }}"
devices = ["/dev/{{ node.labels.role }}:rwm"]
[[mounts]]
source = "/data/{{ node.name }}"
target = "/data"
[[files]]
target = "/etc/a.conf"
content = """
me = {{ node.name }}
alert = {{ "{{" }} $labels.instance }}
"""
[[files]]
target = "/etc/b.conf"
content = "b"
[resources]
cpu = 1
memory = "64MiB"
oom_score_adj = -500
ulimits = { nofile = 10, core = 0 }
[health.liveness]
http = "http://{{ node.address }}:{{ node.labels.port }}/{{ node.name }}"
[health.readiness]
tcp = "{{ node.address }}:{{ node.labels.port }}"
[health.startup]
exec = ["/bin/check", "{{ node.name }}"]
[hooks]
post_start = ["/bin/up", "{{ node.name }}"]
pre_stop = ["/bin/down", "{{ node.name }}"]

[[override]]
selector = { role = "db" }
env = { A = "of another node" }
args = ["of another node"]

[[override]]
selector = { role = "edge" }
args = ["--edge"]
env = { A = "2", B = "from {{ node.name }}" }
[override.resources]
memory = "128MiB"
oom_score_adj = 0
ulimits = { nofile = 20 }
[[override.files]]
target = "/etc/b.conf"
content = "b on {{ node.name }}"
[[override.files]]
target = "/etc/c.conf"
mode = "0600"

[[override]]
match = [{ key = "port", operator = "Gt", values = ["1000"] }]
args = ["--last", "{{ node.name }}"]
env = { A = "3" }
`)
	before := spec.Encode(d)
	got, origins, err := d.For(webNode())
	if err != nil {
		t.Fatal(err)
	}
	want := parseOne(t, `
name = "x"
image = "x:edge"
command = ["/bin/web-1"]
args = ["--last", "web-1"]
env = { A = "3", B = "from web-1", NODE = "web-1@10.0.0.7", EMPTY = "[]" }
working_dir = "/srv/web-1"
hostname = "app-web-1"
devices = ["/dev/edge"]
[[mounts]]
source = "/data/web-1"
target = "/data"
[[files]]
target = "/etc/a.conf"
content = ""
[[files]]
target = "/etc/b.conf"
content = "b on web-1"
[[files]]
target = "/etc/c.conf"
mode = "0600"
[resources]
cpu = 1
memory = "128MiB"
ulimits = { nofile = 20, core = 0 }
[health.liveness]
http = "http://10.0.0.7:9100/web-1"
[health.readiness]
tcp = "10.0.0.7:9100"
[health.startup]
exec = ["/bin/check", "web-1"]
[hooks]
post_start = ["/bin/up", "web-1"]
pre_stop = ["/bin/down", "web-1"]
`)
	// Parse would take the braces of the rendered file for an expression.
	want.Files[0].Content, want.Literal = "me = web-1\nalert = {{ $labels.instance }}\n", true
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", spec.Encode(got), spec.Encode(want))
	}
	if got.Digest() != want.Digest() || got.Digest() == d.Digest() {
		t.Error("the digest is not the one of what runs")
	}
	if string(spec.Encode(d)) != string(before) {
		t.Errorf("the daemon became %s", spec.Encode(d))
	}
	wantOrigins := []spec.Origin{
		{"image", "x:edge", "template"},
		{"command[0]", "/bin/web-1", "template"},
		{"args", `["--last", "web-1"]`, "override 3"},
		{"args[1]", "web-1", "template"},
		{"env.A", "3", "override 3"},
		{"env.B", "from web-1", "override 2, template"},
		{"env.EMPTY", "[]", "template"},
		{"env.NODE", "web-1@10.0.0.7", "template"},
		{"working_dir", "/srv/web-1", "template"},
		{"hostname", "app-web-1", "template"},
		{"devices[0]", "/dev/edge", "template"},
		{`mounts["/data"].source`, "/data/web-1", "template"},
		{`files["/etc/b.conf"].content`, "b on web-1", "override 2, template"},
		{`files["/etc/b.conf"].mode`, "0444", "override 2"},
		{`files["/etc/c.conf"].content`, "", "override 2"},
		{`files["/etc/c.conf"].mode`, "0600", "override 2"},
		{`files["/etc/a.conf"].content`, "42 bytes, sha256 7ccdbaa74e46", "template"},
		{"resources.memory", "128MiB", "override 2"},
		{"resources.oom_score_adj", "0", "override 2"},
		{"resources.ulimits.nofile", "20", "override 2"},
		{"health.startup.exec[1]", "web-1", "template"},
		{"health.liveness.http", "http://10.0.0.7:9100/web-1", "template"},
		{"health.readiness.tcp", "10.0.0.7:9100", "template"},
		{"hooks.post_start[1]", "web-1", "template"},
		{"hooks.pre_stop[1]", "web-1", "template"},
	}
	for i := range max(len(origins), len(wantOrigins)) {
		switch {
		case i >= len(wantOrigins):
			t.Errorf("and %+v", origins[i])
		case i >= len(origins):
			t.Errorf("no %+v", wantOrigins[i])
		case origins[i] != wantOrigins[i]:
			t.Errorf("got %+v, want %+v", origins[i], wantOrigins[i])
		}
	}
}

// A block that is changed restarts nothing where it does not match, although
// the daemon as a whole is another one.
func TestOverridesOfOthersRestartNothing(t *testing.T) {
	const src = "name = 'x'\nimage = 'x'\n[[override]]\nselector = { role = 'db' }\nargs = ['%']\n"
	one, two := parseOne(t, src), parseOne(t, strings.Replace(src, "%", "2", 1))
	if one.Digest() == two.Digest() {
		t.Error("the daemons have one digest")
	}
	digest := func(d spec.Daemon, role string) string {
		d, _, err := d.For(spec.Node{Name: "n", Labels: map[string]string{"role": role}})
		if err != nil {
			t.Fatal(err)
		}
		return d.Digest()
	}
	if digest(one, "edge") != digest(two, "edge") || digest(one, "edge") != (spec.Daemon{Name: "x", Image: "x"}).Digest() {
		t.Error("a node is restarted for a block of others")
	}
	if digest(one, "db") == digest(two, "db") {
		t.Error("a node is not restarted for its own block")
	}
}

// One file does for nodes with either kind of address.
func TestForIPv6(t *testing.T) {
	d := parseOne(t, `
name = "x"
image = "x"
args = ["{{ node.address }}"]
[health.startup]
http = "http://[{{ node.address }}]/"
[health.liveness]
http = "http://{{ node.address }}:80/"
[health.readiness]
tcp = "{{ node.address }}:80"
`)
	got, _, err := d.For(spec.Node{Name: "n", Address: "fd00::1"})
	if err != nil {
		t.Fatal(err)
	}
	if h := got.Health; h.Startup.HTTP != "http://[fd00::1]/" || h.Liveness.HTTP != "http://[fd00::1]:80/" || h.Readiness.TCP != "[fd00::1]:80" || got.Args[0] != "fd00::1" {
		t.Errorf("got %+v, %+v, %+v, %v", h.Startup, h.Liveness, h.Readiness, got.Args)
	}
}

func TestForRefuses(t *testing.T) {
	tests := []struct {
		name, src, want string
		node            spec.Node
	}{
		{"a label that is not there", `env = { A = "{{ node.labels.rack }}", B = "{{ node.labels.role }}" }`,
			"env.A: {{ node.labels.rack }}: this node has no label rack", webNode()},
		{"everything at once", `args = ["{{ node.labels.a }}", "{{ node.labels.b }} {{ node.labels.role }}"]`,
			"args[0]: {{ node.labels.a }}: this node has no label a; args[1]: {{ node.labels.b }}: this node has no label b", webNode()},
		{"no address", `args = ["{{ node.address }}"]`, "args[0]: {{ node.address }}: this node has no address", spec.Node{Name: "a"}},
		{"in a text of several lines", "[[files]]\ntarget = '/a'\ncontent = \"a\\nb\\n {{ node.labels.rack }}\"",
			`files["/a"].content: in line 3 of the text, {{ node.labels.rack }}: this node has no label rack`, webNode()},
		{"a value that is not valid here", `health = { liveness = { tcp = "{{ node.address }}:{{ node.labels.role }}" } }`,
			`health.liveness.tcp: "edge" is not a port (a number from 1 to 65535)`, webNode()},
		{"an override that does not fit another", "resources = { memory = '64MiB' }\n[[override]]\nselector = { role = 'edge' }\nresources = { memory_reserve = '32MiB' }\n" +
			"[[override]]\nselector = { port = '9100' }\nresources = { memory = '16MiB', memory_reserve = '8MiB' }\n[[override]]\nselector = { empty = '' }\nresources = { memory_reserve = '32MiB' }",
			"resources.memory_reserve: 32MiB is more than memory, 16MiB", webNode()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := parseOne(t, "name = 'x'\nimage = 'x'\n"+tt.src)
			_, _, err := d.For(tt.node)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// What differs on no node is the same on every node, and restarts nobody.
func TestForWithoutDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDaemon().Draw(t, "daemon")
		out, origins, err := d.For(spec.Node{Name: "n", Address: "fd00::1", Labels: map[string]string{"role": "x", "port": "1", "example.org/zone": "1"}})
		if err != nil {
			if strings.Contains(err.Error(), "is more than memory") {
				return // what does not fit on this node is told
			}
			t.Fatal(err)
		}
		if out.Overrides != nil {
			t.Fatal("overrides are left")
		}
		if len(origins) == 0 {
			d.Overrides = nil
			if out.Digest() != d.Digest() || !reflect.DeepEqual(out, d) {
				t.Fatalf("%s became %s without a reason", spec.Encode(d), spec.Encode(out))
			}
			return
		}
		if again, more, err := out.For(spec.Node{Name: "other"}); err != nil || len(more) > 0 || !reflect.DeepEqual(again, out) {
			t.Fatalf("rendered again, %+v became %+v (%v, %v)", out, again, more, err)
		}
		if back, err := spec.Decode(spec.Encode(out)); err != nil || !reflect.DeepEqual(back, out) {
			t.Fatalf("%+v came back as %+v, %v", out, back, err)
		}
		for i, o := range origins {
			if o.Path == "" || o.From == "" || slices.ContainsFunc(origins[:i], func(p spec.Origin) bool { return p.Path == o.Path }) {
				t.Fatalf("origins %+v", origins)
			}
		}
	})
}

// Rendering is a function of the daemon and the node: whatever else is done to
// the result, the daemon stays as it is.
func TestForSharesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDaemon().Draw(t, "daemon")
		before := string(spec.Encode(d))
		out, _, err := d.For(spec.Node{Name: "n", Address: "1.2.3.4", Labels: map[string]string{"role": "edge", "port": "1", "example.org/zone": "1"}})
		if err != nil {
			return
		}
		scribble(reflect.ValueOf(&out).Elem())
		if after := string(spec.Encode(d)); after != before {
			t.Fatalf("%s became %s", before, after)
		}
	})
}

// scribble overwrites everything that can be reached.
func scribble(rv reflect.Value) {
	switch rv.Kind() {
	case reflect.String:
		rv.SetString("scribble")
	case reflect.Int, reflect.Int64:
		rv.SetInt(4711)
	case reflect.Slice:
		for i := range rv.Len() {
			scribble(rv.Index(i))
		}
	case reflect.Map:
		for _, k := range rv.MapKeys() {
			v := reflect.New(rv.Type().Elem()).Elem()
			scribble(v)
			rv.SetMapIndex(k, v)
		}
	case reflect.Struct:
		for i := range rv.NumField() {
			scribble(rv.Field(i))
		}
	case reflect.Pointer:
		if !rv.IsNil() {
			scribble(rv.Elem())
		}
	}
}
