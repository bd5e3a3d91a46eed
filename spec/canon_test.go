package spec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

func TestEncodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDaemon().Draw(t, "daemon")
		if err := d.Validate(); err != nil {
			t.Fatalf("the generator made an invalid daemon: %v", err)
		}
		b := spec.Encode(d)
		got, err := spec.Decode(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !reflect.DeepEqual(got, d) {
			t.Fatalf("%+v came back as %+v from %s", d, got, b)
		}
		if again := spec.Encode(got); !bytes.Equal(again, b) {
			t.Fatalf("encoded as %s, then as %s", b, again)
		}
		if got.Digest() != d.Digest() {
			t.Fatal("the digest changed on the way")
		}
	})
}

// Whatever is written to the ring by the newest agentd that exists, an older
// one must tell "newer than I am" from "wrong".
func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name, body string
		newer      bool
	}{
		{"a key of a newer agentd", `{"schema":1,"name":"x","image":"x","shiny":true}`, true},
		{"a nested one", `{"schema":1,"name":"x","image":"x","restart":{"shiny":1}}`, true},
		{"a key of an update of a newer agentd", `{"schema":1,"name":"x","image":"x","update":{"canary":1,"window":"night"}}`, true},
		{"an update that can't be", `{"schema":1,"name":"x","image":"x","update":{"canary":-1}}`, false},
		{"a probe of a newer agentd", `{"schema":1,"name":"x","image":"x","health":{"liveness":{"grpc":"x"}}}`, true},
		{"a probe that asks nothing", `{"schema":1,"name":"x","image":"x","health":{"liveness":{}}}`, false},
		{"an unknown expression", `{"schema":1,"name":"x","image":"x","args":["{{ node.shoe }}"]}`, true},
		{"an expression where none may be", `{"schema":1,"name":"x","image":"x","user":"{{ node.name }}"}`, true},
		{"a job that never ends", `{"schema":1,"name":"x","image":"x","type":"job","restart":{"policy":"always"}}`, false},
		{"a newer schema", `{"schema":2,"name":"x"}`, true},
		{"no schema", `{"name":"x","image":"x"}`, false},
		{"no image", `{"schema":1,"name":"x"}`, false},
		{"a bad value", `{"schema":1,"name":"x","image":"x","user":"root"}`, false},
		{"a wrong type", `{"schema":1,"name":"x","image":"x","args":"x"}`, false},
		{"two objects", `{"schema":1,"name":"x","image":"x"}{}`, false},
		{"cut short", `{"schema":1,"name":"x"`, false},
		{"null", `null`, false},
		{"an empty selector", `{"schema":1,"name":"x","image":"x","selector":{}}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := spec.Decode([]byte(tt.body))
			if err == nil {
				t.Fatal("accepted")
			}
			if errors.Is(err, spec.ErrNewer) != tt.newer {
				t.Errorf("newer is %v, want %v: %v", !tt.newer, tt.newer, err)
			}
		})
	}
}

// The golden file only ever grows: a digest that changes restarts that daemon
// on every machine that is upgraded.
func TestGoldenDigests(t *testing.T) {
	want := map[string]string{}
	b, err := os.ReadFile("testdata/digests.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	files, err := filepath.Glob("testdata/digests/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no daemons: %v", err)
	}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		ds, err := spec.Parse(src, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			got[d.Name] = d.Digest()
		}
	}
	for name, digest := range got {
		switch want[name] {
		case digest:
		case "":
			t.Errorf("%s is new: add it with %s", name, digest)
		default:
			t.Errorf("the digest of %s is %s and was %s: the canonical form must not change", name, digest, want[name])
		}
	}
	for name := range want {
		if got[name] == "" {
			t.Errorf("%s has gone from testdata/digests", name)
		}
	}
}

// Each field, whenever it was added, is either inside the digest or tagged as
// outside of it, and is encoded.
func TestEveryFieldTakesPart(t *testing.T) {
	base := spec.Daemon{Name: "x", Image: "x"}.WithDefaults()
	eachLeaf(t, func(path string, outside bool, set func(*spec.Daemon)) {
		d := base
		set(&d)
		if bytes.Equal(spec.Encode(d), spec.Encode(base)) {
			t.Errorf("%s is not encoded", path)
		}
		if changed := d.Digest() != base.Digest(); changed == outside {
			t.Errorf("changing %s changes the digest: %v", path, changed)
		}
		changes := spec.Diff(base, d)
		if len(changes) == 0 {
			t.Errorf("changing %s makes no difference", path)
		}
		for _, c := range changes {
			if c.Running == outside {
				t.Errorf("%s: %+v", path, c)
			}
		}
	})
}

// What the properties of this package are tested with has every field in it:
// a new one that the generator forgets is told here.
func TestGeneratorReachesEveryField(t *testing.T) {
	reached := map[string]bool{}
	for seed := range 200 {
		seen(reflect.ValueOf(anyDaemon().Example(seed)), "", reached)
	}
	var missing func(rt reflect.Type, path string)
	missing = func(rt reflect.Type, path string) {
		switch rt.Kind() {
		case reflect.Struct:
			for f := range rt.Fields() {
				missing(f.Type, path+"."+f.Name)
			}
		case reflect.Slice, reflect.Pointer:
			missing(rt.Elem(), path)
		default:
			if !reached[path] {
				t.Errorf("no daemon has %s", path)
			}
		}
	}
	missing(reflect.TypeFor[spec.Daemon](), "")
	if len(reached) < 90 {
		t.Errorf("only %d fields were reached", len(reached))
	}
}

// seen notes the paths of the fields that are not zero.
func seen(rv reflect.Value, path string, reached map[string]bool) {
	switch {
	case rv.IsZero():
	case rv.Kind() == reflect.Struct:
		for i := range rv.NumField() {
			seen(rv.Field(i), path+"."+rv.Type().Field(i).Name, reached)
		}
	case rv.Kind() == reflect.Slice:
		for i := range rv.Len() {
			seen(rv.Index(i), path, reached)
		}
	case rv.Kind() == reflect.Pointer:
		seen(rv.Elem(), path, reached)
	default:
		reached[path] = true
	}
}

// eachLeaf visits every field of a daemon, however deep, with a function that
// sets it to something that is not its default.
func eachLeaf(t *testing.T, visit func(path string, outside bool, set func(*spec.Daemon))) {
	t.Helper()
	leaves := 0
	var walk func(rt reflect.Type, path string, outside bool, at func(*spec.Daemon) reflect.Value)
	walk = func(rt reflect.Type, path string, outside bool, at func(*spec.Daemon) reflect.Value) {
		switch rt.Kind() {
		case reflect.Struct:
			for i := range rt.NumField() {
				f := rt.Field(i)
				if tag := f.Tag.Get("toml"); tag == "" || tag == "-" && f.Name != "RestartNonce" && f.Name != "Literal" {
					t.Errorf("%s.%s has no key", path, f.Name)
				}
				walk(f.Type, path+"."+f.Name, outside || f.Tag.Get("digest") == "-",
					func(d *spec.Daemon) reflect.Value { return at(d).Field(i) })
			}
		case reflect.Slice:
			walk(rt.Elem(), path+"[0]", outside, func(d *spec.Daemon) reflect.Value {
				if at(d).Len() == 0 {
					at(d).Set(reflect.MakeSlice(rt, 1, 1))
				}
				return at(d).Index(0)
			})
		case reflect.Map:
			leaves++
			visit(path, outside, func(d *spec.Daemon) {
				m, v := reflect.MakeMap(rt), reflect.New(rt.Elem()).Elem()
				other(t, v)
				m.SetMapIndex(reflect.ValueOf("key"), v)
				at(d).Set(m)
			})
		case reflect.Pointer:
			walk(rt.Elem(), path, outside, func(d *spec.Daemon) reflect.Value {
				if at(d).IsNil() {
					at(d).Set(reflect.New(rt.Elem()))
				}
				return at(d).Elem()
			})
		default:
			leaves++
			visit(path, outside, func(d *spec.Daemon) { other(t, at(d)) })
		}
	}
	walk(reflect.TypeFor[spec.Daemon](), "", false, func(d *spec.Daemon) reflect.Value { return reflect.ValueOf(d).Elem() })
	if leaves < 90 {
		t.Errorf("only %d fields were visited", leaves)
	}
}

// other sets a value to something else than it is.
func other(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "7")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 7)
	case reflect.Uint64:
		v.SetUint(v.Uint() + 7)
	case reflect.Float64:
		v.SetFloat(v.Float() + 7)
	default:
		t.Fatalf("no way to change a %s", v.Type())
	}
}

// How a daemon is written does not matter, only what it means.
func TestDigestOfMeaning(t *testing.T) {
	one := parseOne(t, `
name = "x"
image = "x"
args = []
env = { A = "1", B = "2" }
capabilities = { add = ["NET_ADMIN", "CAP_CHOWN"] }
mounts = [{ source = "/a", target = "/b", options = ["rprivate", "ro", "rbind"] }, { tmpfs = true, target = "/t", options = ["rw"] }]
files = [{ target = "/f", mode = "444", content = "x\ny" }]
devices = ["/dev/fuse:rwm"]
[resources]
memory = "8MiB"
memory_reserve = ""
cpu = 1
[restart]
backoff = "500ms"
attempts = 0
[hooks]
post_start = []
[health.liveness]
tcp = "127.0.0.1:1"
timeout = "1s"
successes = 1
delay = "0s"
[[override]]
files = [{ target = "/g", content = "" }]
match = [{ key = "a", operator = "Exists" }]
[override.env]
A = "{{ node.name }}"
[stop]
signal = "term"
grace = "0.5m"
`)
	two := parseOne(t, `
# the same
type = "daemon"
image = 'x'
pull = "always"
name = "x"
devices = ["/dev/fuse"]
nodes = ["web-1"]
depends_on = ["y"]
tolerations = [{ operator = "Exists" }]
[selector]
role = "edge"
[isolation]
policy = "stop"
[health.liveness]
tcp = "127.0.0.1:1"
interval = "10s"
failures = 3
[[override]]
match = [{ key = "a", operator = "Exists", values = [] }]
env = { A = "{{ node.name }}" }
files = [{ target = "/g", mode = "0444" }]
[capabilities]
add = ["CAP_CHOWN", "cap_net_admin"]
drop = []
[env]
B = "2"
A = "1"
[[mounts]]
options = ["ro"]
target = "/b"
source = "/a"
[[mounts]]
tmpfs = true
target = "/t"
[[files]]
target = "/f"
content = """
x
y"""
[resources]
cpu = 1.0
memory = 8388608
`)
	if one.Digest() != two.Digest() {
		t.Errorf("the digests differ: %s and %s", spec.Encode(one), spec.Encode(two))
	}
	for _, c := range spec.Diff(one, two) {
		if c.Running {
			t.Errorf("the running part differs: %+v", c)
		}
	}
}

func parseOne(t *testing.T, src string) spec.Daemon {
	t.Helper()
	ds, err := spec.Parse([]byte(src), "x.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(ds) != 1 {
		t.Fatalf("%d daemons", len(ds))
	}
	return ds[0]
}

// The largest daemon that is accepted fits into its record, with the largest
// rollout beside it.
func TestLargestDaemonFits(t *testing.T) {
	d := spec.Daemon{Name: "x", Image: "x", Files: []spec.File{{Target: "/f"}}}
	d.Files[0].Content = strings.Repeat("x", spec.MaxEncoded-len(spec.Encode(d))-len(`"content":"",`))
	if err := d.Validate(); err != nil {
		t.Fatalf("%d bytes: %v", len(spec.Encode(d)), err)
	}
	lanes := [][]record.NodeID{make([]record.NodeID, 256)}
	for i := range lanes[0] {
		lanes[0][i] = record.NodeID{byte(i), 1}
	}
	body := record.DaemonBody{Spec: spec.Encode(d), Revision: 1 << 30,
		Rollout: record.Rollout{K: 1, Lanes: lanes, Canaries: lanes[0], Fallback: record.Version{Generation: 1 << 60, Digest: record.Digest{1}}}}
	if b, err := record.EncodeDaemon(body); err != nil {
		t.Errorf("%d bytes of spec: %v", len(body.Spec), err)
	} else if len(b) < record.MaxBody*9/10 {
		t.Logf("%d of %d bytes are used", len(b), record.MaxBody)
	}
	d.Files[0].Content += strings.Repeat("y", 200)
	if err := d.Validate(); err == nil || !strings.Contains(err.Error(), "at most 45056") {
		t.Errorf("a larger one: %v", err)
	}
}
