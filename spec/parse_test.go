package spec_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/strict"
)

func TestParseFillsDefaults(t *testing.T) {
	got := parseOne(t, "name = 'x'\nimage = 'nginx'\n[[mounts]]\nsource = '/a'\ntarget = '/b'\n[[mounts]]\ntmpfs = true\ntarget = '/c'\n[[files]]\ntarget = '/d'\n")
	want := spec.Daemon{
		Name: "x", Image: "nginx", Pull: "missing", Type: "daemon", Network: "host", PID: "private",
		Mounts: []spec.Mount{
			{Source: "/a", Target: "/b", Options: []string{"rbind", "rw", "rprivate"}},
			{Tmpfs: true, Target: "/c", Options: []string{"rw", "nosuid", "nodev"}},
		},
		Files: []spec.File{{Target: "/d", Mode: "0444"}},
		Restart: spec.Restart{Policy: "always", Backoff: spec.Duration(500 * time.Millisecond),
			BackoffMax: spec.Duration(30 * time.Second), ResetAfter: spec.Duration(30 * time.Second)},
		Stop: spec.Stop{Signal: "SIGTERM", Grace: spec.Duration(30 * time.Second)},
		Update: spec.Update{Strategy: "rolling", MaxUnavailable: "1", Deadline: spec.Duration(10 * time.Minute),
			OnFailure: "pause", MaxFailures: 1},
		Isolation: spec.Isolation{Policy: "keep", After: spec.Duration(time.Hour)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// The mount options that are written are kept, the others filled in.
func TestMountOptions(t *testing.T) {
	tests := []struct{ written, want []string }{
		{[]string{"ro", "rslave"}, []string{"rbind", "ro", "rslave"}},
		{[]string{"bind", "shared"}, []string{"bind", "rw", "shared"}},
		{[]string{"noexec", "nosuid"}, []string{"rbind", "rw", "rprivate", "nosuid", "noexec"}},
	}
	for _, tt := range tests {
		d := spec.Daemon{Mounts: []spec.Mount{{Source: "/a", Target: "/b", Options: tt.written}}}.WithDefaults()
		if got := d.Mounts[0].Options; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v became %v, want %v", tt.written, got, tt.want)
		}
	}
}

func TestParseSeveral(t *testing.T) {
	ds, err := spec.Parse([]byte("[[daemon]]\nname = 'a'\nimage = 'x'\n[daemon.stop]\ngrace = '1s'\n[[daemon]]\nname = 'b'\nimage = 'y'\n"), "x.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(ds) != 2 || ds[0].Name != "a" || ds[1].Name != "b" || ds[0].Stop.Grace.D() != time.Second || ds[1].Stop.Grace.D() != 30*time.Second {
		t.Errorf("got %+v", ds)
	}
}

// What is refused, where, and with which words. Each case is one that people
// make; "ok" stands for a valid name and image above it, on lines 1 and 2.
func TestParseRefuses(t *testing.T) {
	const ok = "name = 'x'\nimage = 'x'\n"
	tests := []struct{ name, src, want string }{
		{"an empty file", "# nothing\n", "x.toml: no daemon in it (a daemon has at least a name and an image)"},
		{"no name, no image", "args = []", "x.toml: name: is missing\nx.toml: image: is missing"},
		{"a bad name", "name = 'Node_Exporter'\nimage = 'x'", `x.toml:1: name: "Node_Exporter" is not a name (a-z, 0-9 and - inside, such as "node-exporter")`},
		{"a long name", "name = '" + strings.Repeat("x", 64) + "'\nimage = 'x'", `x.toml:1: name: 64 characters, at most 63`},
		{"an image with a scheme", "name = 'x'\nimage = 'docker://x'", `x.toml:2: image: "docker://x" is no image reference: invalid reference format (without a scheme: "x")`},
		{"an image in capitals", "name = 'x'\nimage = 'Nginx'", `x.toml:2: image: "Nginx" is no image reference: invalid reference format: repository name (library/Nginx) must be lowercase (repositories are written in small letters)`},
		{"a tag that is none", "name = 'x'\nimage = 'x:'", "x.toml:2: image: \"x:\" is no image reference: invalid reference format (write REPOSITORY:TAG or REPOSITORY@sha256:DIGEST)"},
		{"pull", ok + "pull = 'allways'", `x.toml:3: pull: "allways" is not "missing", "always" or "never" (did you mean "always"?)`},
		{"another type", ok + "type = 'cron'", `x.toml:3: type: "cron" is not "daemon" or "job"`},
		{"a user by name", ok + "user = 'nobody'", `x.toml:3: user: "nobody" is not numeric (write "UID" or "UID:GID", such as "65534:65534")`},
		{"a user that wraps around", ok + "user = '4294967296:1'", `x.toml:3: user: 4294967296 is larger than 2147483647`},
		{"a group that wraps around", ok + "user = '1:2147483648'", `x.toml:3: user: 2147483648 is larger than 2147483647`},
		{"leading zeros", ok + "user = '010'", `x.toml:3: user: "010" is not numeric (write "UID" or "UID:GID", such as "65534:65534")`},
		{"an environment variable's name", ok + "env = { 'A=B' = 'c' }", `x.toml:3: env."A=B": is no name of an environment variable (letters, digits and _ - .)`},
		{"a NUL byte", ok + `args = ["a\u0000"]`, `x.toml:3: args[0]: contains a NUL byte`},
		{"a relative folder", ok + "working_dir = 'srv'", `x.toml:3: working_dir: "srv" is not an absolute path (start it with /)`},
		{"a host name", ok + "hostname = '-x'", `x.toml:3: hostname: "-x" is not a host name`},
		{"a network that is not there yet", ok + "network = 'bridge'", `x.toml:3: network: "bridge" is not "host" or "none"`},
		{"a capability", ok + "capabilities.add = ['NET_ADMN']", `x.toml:3: capabilities.add[0]: "NET_ADMN" is not a capability (did you mean "CAP_NET_ADMIN"?)`},
		{"a device", ok + "devices = ['/dev/a:/dev/b', 'dev', '/dev/x:q']", "x.toml:3: devices[0]: \"/dev/a:/dev/b\" is not a device (write \"PATH\" or \"PATH:rwm\", with any of r, w and m)\n" +
			"x.toml:3: devices[1]: \"dev\" is not an absolute path (start it with /)\n" +
			"x.toml:3: devices[2]: \"/dev/x:q\" is not a device (write \"PATH\" or \"PATH:rwm\", with any of r, w and m)"},
		{"an empty selector", ok + "selector = {}", "x.toml:3: selector: is empty (leave it out to mean every node)"},
		{"an empty selector as a table", ok + "[selector]", "x.toml:3: selector: is empty (leave it out to mean every node)"},
		{"a selector with a list", ok + "selector = { role = ['a'] }", "x.toml:3: selector.role: needs a string, not an array"},
		{"a label that is none", ok + "[selector]\n'-x' = 'a b'", "x.toml:4: selector.-x: \"-x\" is not a label (such as \"role\" or \"example.org/role\")\n" +
			"x.toml:4: selector.-x: \"a b\" is not the value of a label (at most 63 letters, digits, - _ and .)"},
		{"matches", ok + "match = [\n{ key = 'a', operator = 'Exists', values = ['x'] },\n{ key = 'a', operator = 'In' },\n{ key = 'a', operator = 'Gt', values = ['x'] },\n{ operator = 'Lt', values = ['1', '2'] },\n{ key = 'a' },\n{ key = 'a', operator = 'exists' } ]",
			"x.toml:4: match[0].values: Exists takes no values\nx.toml:5: match[1].values: In needs at least one value\n" +
				"x.toml:6: match[2].values[0]: \"x\" is not an integer\nx.toml:7: match[3].key: is missing\nx.toml:7: match[3].values: Lt needs exactly one value\n" +
				"x.toml:8: match[4].operator: is missing (one of In, NotIn, Exists, DoesNotExist, Gt, Lt)\n" +
				`x.toml:9: match[5].operator: "exists" is not "In", "NotIn", "Exists", "DoesNotExist", "Gt" or "Lt" (did you mean "Exists"?)`},
		{"a node", ok + "nodes = ['Web-1']", `x.toml:3: nodes[0]: "Web-1" is not the name of a node`},
		{"a mount from nowhere", ok + "[[mounts]]\ntarget = '/a'", "x.toml:3: mounts[0]: needs a source, a volume or tmpfs = true"},
		{"a mount from two places", ok + "[[mounts]]\ntarget = '/a'\nsource = '/a'\nvolume = 'b'", "x.toml:3: mounts[0]: has source and volume, but comes from one place only"},
		{"a mount without a target", ok + "[[mounts]]\nsource = '/a'", "x.toml:3: mounts[0].target: is missing"},
		{"going up", ok + "[[mounts]]\nsource = '/a/../b'\ntarget = '/a/..'", "x.toml:4: mounts[0].source: \"/a/../b\" goes up with .. (write the path that is meant)\n" +
			"x.toml:5: mounts[0].target: \"/a/..\" goes up with .. (write the path that is meant)"},
		{"paths that are not clean", ok + "[[mounts]]\nsource = '/a/'\ntarget = '//a'", "x.toml:4: mounts[0].source: \"/a/\" is not a clean path (write \"/a\")\n" +
			"x.toml:5: mounts[0].target: \"//a\" is not a clean path (write \"/a\")"},
		{"targets that can't be", ok + "[[mounts]]\nsource = '/a'\ntarget = '/'\n[[mounts]]\nsource = '/a'\ntarget = '/proc/sys'", "x.toml:5: mounts[0].target: is the root of the container (mount it below, such as at /host)\n" +
			"x.toml:8: mounts[1].target: is inside of /proc, which belongs to the container's own processes (mount it elsewhere, such as at /host/proc)"},
		{"a target twice", ok + "[[mounts]]\nsource = '/a'\ntarget = '/b'\n[[files]]\ntarget = '/b'", `x.toml:7: files[0].target: "/b" is the target of mounts[0] already`},
		{"mount options", ok + "[[mounts]]\nsource = '/a'\ntarget = '/b'\noptions = ['ro', 'ro', 'rslav', 'mode=1777', 'size=1', 'shared', 'rprivate']",
			"x.toml:6: mounts[0].options[1]: \"ro\" is given twice\nx.toml:6: mounts[0].options[2]: \"rslav\" is not a mount option (did you mean \"rslave\"?)\n" +
				"x.toml:6: mounts[0].options[3]: \"mode=1777\" is not a mount option (one of rbind, bind, rw, ro, rprivate, private, rslave, slave, rshared, shared, suid, nosuid, dev, nodev, exec, noexec, atime, noatime, relatime)\n" +
				"x.toml:6: mounts[0].options[4]: \"size=1\" is not a mount option (it has a key of its own: size = \"1\")\n" +
				"x.toml:6: mounts[0].options[6]: \"rprivate\" contradicts \"shared\""},
		{"a size that is for tmpfs", ok + "[[mounts]]\nsource = '/a'\ntarget = '/b'\nsize = '1MiB'", "x.toml:6: mounts[0].size: is for tmpfs only"},
		{"a volume that is a path", ok + "[[mounts]]\nvolume = '../x'\ntarget = '/b'", `x.toml:4: mounts[0].volume: "../x" is not the name of a volume (a-z, 0-9 and - . _ inside, at most 63; a path of the host goes into source)`},
		{"file modes", ok + "[[files]]\ntarget = '/a'\nmode = '0888'\n[[files]]\ntarget = '/b'\nmode = '4755'", "x.toml:5: files[0].mode: \"0888\" is not a mode (octal in quotes, at most \"0777\")\n" +
			"x.toml:8: files[1].mode: \"4755\" is not a mode (octal in quotes, at most \"0777\")"},
		{"a mode as a number", ok + "[[files]]\ntarget = '/a'\nmode = 444", `x.toml:5: files[0].mode: needs a string, not the number 444 (write it in quotes: "444")`},
		{"files that are too large", ok + "[[files]]\ntarget = '/a'\ncontent = '" + strings.Repeat("x", 50_000) + "'", "x.toml:3: files: the daemon takes 50074 bytes in its record, at most 45056 (put large files into the image, or mount them from the host)"},
		{"sizes", ok + "[resources]\nmemory = '200MB'\nmemory_reserve = '1.5GiB'", "x.toml:4: resources.memory: \"200MB\" is not a size: write whole KiB, MiB, GiB or TiB, such as \"64MiB\", or bytes\n" +
			"x.toml:5: resources.memory_reserve: \"1.5GiB\" is not a size: write whole KiB, MiB, GiB or TiB, such as \"64MiB\", or bytes"},
		{"resources out of range", ok + "[resources]\ncpu = 0.001\nmemory = 5\npids = -1\ncpu_weight = 10001\noom_score_adj = 1001\nulimits = { nofiles = 1, core = -2 }",
			"x.toml:4: resources.cpu: 0.001 is not between 0.01 and 4096 cores\nx.toml:5: resources.memory: 5 is less than 6MiB, with which no container starts\n" +
				"x.toml:6: resources.pids: -1 is not between 1 and 4194304, or 0 for no limit\nx.toml:7: resources.cpu_weight: 10001 is not between 1 and 10000, or 0 for the kernel's default\n" +
				"x.toml:8: resources.oom_score_adj: 1001 is not between -1000 and 1000\nx.toml:9: resources.ulimits.core: -2 is negative (-1 means unlimited)\n" +
				`x.toml:9: resources.ulimits.nofiles: is not a limit (did you mean "nofile"?)`},
		{"a reserve above the limit", ok + "[resources]\nmemory = '10MiB'\nmemory_reserve = '20MiB'", "x.toml:5: resources.memory_reserve: 20MiB is more than memory, 10MiB"},
		{"durations", ok + "[restart]\nbackoff = 5\nbackoff_max = '0s'\nreset_after = '25h'\n[stop]\ngrace = '1 minute'",
			"x.toml:4: restart.backoff: needs a duration with its unit, such as \"5s\"\nx.toml:5: restart.backoff_max: 0s is not more than zero\n" +
				"x.toml:5: restart.backoff_max: 0s is less than backoff, 500ms\nx.toml:6: restart.reset_after: 25h is not between 1ms and 24h\n" +
				"x.toml:8: stop.grace: \"1 minute\" is not a duration such as \"500ms\", \"30s\" or \"1h\""},
		{"a negative duration", ok + "stop.grace = '-1s'", "x.toml:3: stop.grace: -1s is not more than zero"},
		{"signals", ok + "stop.signal = 'SIGTREM'", `x.toml:3: stop.signal: "SIGTREM" is not a signal that ends a daemon (did you mean "SIGTERM"?)`},
		{"a signal by number", ok + "stop.signal = '9'", `x.toml:3: stop.signal: "9" is not a signal that ends a daemon (by name, such as "SIGTERM", "SIGINT" or "SIGRTMIN+3")`},
		{"a realtime signal that is none", ok + "stop.signal = 'SIGRTMIN+31'", `x.toml:3: stop.signal: "SIGRTMIN+31" is not a signal that ends a daemon (by name, such as "SIGTERM", "SIGINT" or "SIGRTMIN+3")`},
		{"the nonce is not the operator's", ok + "restart_nonce = 'x'", "x.toml:3: restart_nonce: unknown key"},
		{"names twice", "[[daemon]]\n" + ok + "[[daemon]]\n" + ok, `x.toml:5: daemon[1].name: "x" is in this file twice`},
		{"one bracket", "[daemon]\n" + ok, "x.toml:1: daemon: needs an array of tables (write [[daemon]] above each daemon, with two brackets)"},
		{"both forms", ok + "[[daemon]]\n" + ok, "x.toml:1: name: stands outside of [[daemon]] (a file holds one daemon at the top level, or several under [[daemon]]; the tables of one are written [daemon.NAME])\n" +
			"x.toml:2: image: stands outside of [[daemon]] (a file holds one daemon at the top level, or several under [[daemon]]; the tables of one are written [daemon.NAME])"},
		{"a table that lost its daemon", "[[daemon]]\n" + ok + "[stop]\n", "x.toml:4: stop: stands outside of [[daemon]] (a file holds one daemon at the top level, or several under [[daemon]]; the tables of one are written [daemon.NAME])"},
		{"not TOML", ok + "x =", "x.toml:3: x: unexpected EOF; expected value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ds, err := spec.Parse([]byte(tt.src), "x.toml")
			var errs *strict.Errors
			if !errors.As(err, &errs) || ds != nil {
				t.Fatalf("got %v and %v", ds, err)
			}
			if err.Error() != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", err, tt.want)
			}
		})
	}
}

func TestFormatRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDaemon().Draw(t, "daemon")
		text := spec.Format(d)
		got, err := spec.Parse(text, "x.toml")
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		d.RestartNonce = "" // it belongs to the ring, not to the file
		if d.Literal {
			// The file says the same with expressions for its braces.
			if len(got) != 1 || got[0].Literal {
				t.Fatalf("%+v came back as %+v from\n%s", d, got, text)
			}
			here, _, err := got[0].For(spec.Node{Name: "n"})
			here.Literal = true
			if d.Overrides == nil && (err != nil || !reflect.DeepEqual(here, d)) {
				t.Fatalf("%+v is rendered as %+v, %v from\n%s", d, here, err, text)
			}
			return
		}
		if len(got) != 1 || !reflect.DeepEqual(got[0], d) {
			t.Fatalf("%+v came back as %+v from\n%s", d, got, text)
		}
		if again := spec.Format(got[0]); !bytes.Equal(again, text) {
			t.Fatalf("written as\n%s\nthen as\n%s", text, again)
		}
	})
}

func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../configs/examples/*.toml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		ds, err := spec.Parse(src, f)
		if err != nil {
			t.Error(err)
		}
		for _, d := range ds {
			for _, labels := range []map[string]string{{"role": "edge"}, {"datacenter": "b"}} {
				if _, _, err := d.For(spec.Node{Name: "n", Address: "10.0.0.7", Labels: labels}); err != nil {
					t.Errorf("%s on a node: %v", f, err)
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/digests/*.toml")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add([]byte("[[daemon]]\nname='a'\nimage='b'\nselector={}\n[daemon.health]"))
	f.Add([]byte("name='a'\nimage='b'\nenv.A='{{ \"{{\" }}{{node.labels.role}}'\n[[override]]\nselector={role='edge'}\nargs=['{{ node.name }}']\nfiles=[{target='/a'}]"))
	f.Fuzz(func(t *testing.T, src []byte) {
		ds, err := spec.Parse(src, "x.toml")
		if (err == nil) == (len(ds) == 0) {
			t.Fatalf("%d daemons and error %v", len(ds), err)
		}
		for _, d := range ds {
			again, err := spec.Parse(spec.Format(d), "again")
			if err != nil || len(again) != 1 || !reflect.DeepEqual(again[0], d) {
				t.Fatalf("%+v came back as %+v, %v from\n%s", d, again, err, spec.Format(d))
			}
			if back, err := spec.Decode(spec.Encode(d)); err != nil || !reflect.DeepEqual(back, d) {
				t.Fatalf("%+v was decoded as %+v, %v", d, back, err)
			}
			if here, _, err := d.For(webNode()); err == nil && (here.Overrides != nil || !reflect.DeepEqual(here, here.WithDefaults())) {
				t.Fatalf("%+v is rendered as %+v", d, here)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, d := range []spec.Daemon{{Name: "x", Image: "x"}, {Name: "y", Image: "y:1", Args: []string{"a"}, RestartNonce: "1",
		Mounts: []spec.Mount{{Tmpfs: true, Target: "/t", Size: 5}}, Resources: spec.Resources{CPU: 1.5, Ulimits: map[string]int64{"core": -1}}}} {
		f.Add(spec.Encode(d))
	}
	f.Add([]byte(`{"schema":1,"name":"x","image":"x","stop":{"grace":"1s"},"match":[{"key":"a","operator":"In","values":["b"]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := spec.Decode(b)
		if err != nil {
			return
		}
		if err := d.Validate(); err != nil {
			t.Fatalf("decoded, and not valid: %v", err)
		}
		again, err := spec.Decode(spec.Encode(d))
		if err != nil || !reflect.DeepEqual(again, d) {
			t.Fatalf("%+v came back as %+v, %v", d, again, err)
		}
	})
}
