package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/agentd/agentd/spec/strict"
)

// load merges texts as files named a.toml, b.toml and so on.
func load(texts ...string) (*Loaded, error) {
	var errs strict.Errors
	var sources []source
	for i, text := range texts {
		sources = append(sources, source{string(rune('a'+i)) + ".toml", []byte(text)})
	}
	l := merge(sources, "Host-1", &errs)
	return l, errs.Err()
}

func mustLoad(t *testing.T, texts ...string) *Loaded {
	t.Helper()
	l, err := load(texts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The file that is installed is the documentation of every key: it must be at
// the defaults both as it is and with every key uncommented.
func TestInstalledFileIsTheDefaults(t *testing.T) {
	shipped, err := os.ReadFile("../../configs/agentd.toml")
	if err != nil {
		t.Fatal(err)
	}
	setting := regexp.MustCompile(`(?m)^#([a-z_]+ = )`)
	full := setting.ReplaceAllString(string(shipped), "$1")
	want := mustLoad(t, "")
	for name, text := range map[string]string{"as it is": string(shipped), "uncommented": full} {
		got := mustLoad(t, text)
		normalize(got)
		if !reflect.DeepEqual(got.Config, want.Config) {
			t.Errorf("%s: got %+v, want %+v", name, got.Config, want.Config)
		}
	}
	var errs strict.Errors
	raw := Default()
	strict.Read([]byte(full), "", &errs).Root().Decode(&raw, strict.Schema{})
	l := &Loaded{Config: raw}
	normalize(l)
	if !reflect.DeepEqual(l.Config, Default()) {
		t.Errorf("before it is resolved: %+v, want %+v", raw, Default())
	}
	origin := mustLoad(t, full).Origin
	eachKey(func(path string) {
		if origin[path] == "" {
			t.Errorf("%s is missing", path)
		}
	})
}

// normalize makes empty lists and absent ones alike.
func normalize(l *Loaded) {
	for _, list := range []*[]string{&l.Node.Taints, &l.Ring.Join, &l.Policy.Capabilities, &l.Policy.Devices} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if len(l.Node.Labels) == 0 {
		l.Node.Labels = nil
	}
}

func eachKey(visit func(path string)) {
	rt := reflect.TypeFor[Config]()
	for i := range rt.NumField() {
		for j := range rt.Field(i).Type.NumField() {
			visit(rt.Field(i).Tag.Get("toml") + "." + rt.Field(i).Type.Field(j).Tag.Get("toml"))
		}
	}
}

func TestDefaultsAreResolved(t *testing.T) {
	got := mustLoad(t, "").Config
	want := Default()
	want.Node.Name = "host-1" // the host name, in lower case
	want.Peer.Bind = "0.0.0.0:7947"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A later file replaces what an earlier one says, key by key and whole values.
func TestDropInsReplace(t *testing.T) {
	l := mustLoad(t,
		"[node]\nname = 'one'\nlabels = { a = '1', b = '2' }\n[ring]\njoin = ['x', 'y']\nname = 'prod'\n",
		"[node]\nlabels = { c = '3' }\n",
		"[ring]\njoin = []\n[log]\nmax_size = '1MiB'\n")
	if l.Node.Name != "one" || !reflect.DeepEqual(l.Node.Labels, map[string]string{"c": "3"}) ||
		len(l.Ring.Join) != 0 || l.Ring.Name != "prod" || l.Log.MaxSize != 1<<20 || l.Log.MaxFiles != 3 {
		t.Errorf("got %+v", l.Config)
	}
	want := map[string]string{"node.name": "a.toml", "node.labels": "b.toml", "ring.join": "c.toml", "ring.name": "a.toml", "log.max_size": "c.toml"}
	if !reflect.DeepEqual(l.Origin, want) {
		t.Errorf("origins are %v, want %v", l.Origin, want)
	}
}

func TestPrintNamesTheOrigin(t *testing.T) {
	l := mustLoad(t, "[node]\nname = 'one'\n", "[node]\nlabels = { b = '2', 'x/a' = '1' }\n")
	var b bytes.Buffer
	l.Print(&b)
	for _, line := range []string{`name = "one" # a.toml`, `labels = { b = "2", "x/a" = "1" } # b.toml`,
		`max_size = "10MiB" # default`, `privileged = false # default`, `host_paths = ["/:ro"] # default`, `bind = "0.0.0.0:7947" # default`} {
		found := false
		for got := range strings.Lines(b.String()) {
			found = found || strings.Join(strings.Fields(got), " ") == line
		}
		if !found {
			t.Errorf("no line %q in\n%s", line, &b)
		}
	}
	// What is printed is a configuration with the same meaning.
	again := mustLoad(t, b.String())
	normalize(again)
	normalize(l)
	if !reflect.DeepEqual(again.Config, l.Config) {
		t.Errorf("got %+v, want %+v", again.Config, l.Config)
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"an unknown key", "[ring]\nbnid = 'x'", "a.toml:2: ring.bnid: unknown key (did you mean bind?)"},
		{"an unknown table", "[rings]\nbind = 'x'", "a.toml:1: rings: unknown key (did you mean ring?)"},
		{"a key of another table", "socket = '/x'", "a.toml:1: socket: unknown key (did you mean api.socket?)"},
		{"another word", "[ring]\nseeds = []", "a.toml:2: ring.seeds: unknown key (here it is called join)"},
		{"a wrong type", "[ring]\njoin = 'x'\n[metrics]\nlisten = 9464", "a.toml:2: ring.join: needs an array, not the string \"x\" (write [\"x\"])\n" +
			`a.toml:4: metrics.listen: needs a string, not the number 9464 (write it in quotes: "9464")`},
		{"a node's name", "[node]\nname = 'Web 1'", `a.toml:2: node.name: "Web 1" is not the name of a node (a-z, 0-9 and - . _ inside, at most 50)`},
		{"labels", "[node.labels]\n'agentd/os' = 'x'\n'a b' = 'c'\nd = '-'", "a.toml:2: node.labels.\"agentd/os\": every node has it by itself (leave it out)\n" +
			"a.toml:3: node.labels.\"a b\": \"a b\" is not a label (such as \"role\" or \"example.org/role\")\n" +
			`a.toml:4: node.labels.d: "-" is not the value of a label (at most 63 letters, digits, - _ and .)`},
		{"taints that are none", "[node]\ntaints = [\n'dedicated=gpu',\n'a=b:Never']", "a.toml:3: node.taints[0]: \"dedicated=gpu\" has no effect: write key=value:NoSchedule or key=value:NoExecute\n" +
			`a.toml:4: node.taints[1]: "Never" is not "NoSchedule", "NoExecute" or "PreferNoSchedule"`},
		{"a taint twice", "[node]\ntaints = [\n'a=b:NoSchedule',\n'a=b:NoExecute',\n'a=c:NoSchedule']", `a.toml:5: node.taints[2]: "a=c:NoSchedule" has the key and effect of node.taints[0]`},
		{"paths", "[node]\ndata_dir = 'x'\n[trust]\ndir = ''\n[api]\nsocket = '/a//b'\n[runtime]\naddress = 'unix:///run/x.sock'",
			"a.toml:2: node.data_dir: \"x\" is not an absolute path (start it with /)\na.toml:4: trust.dir: is empty\n" +
				"a.toml:6: api.socket: \"/a//b\" is not a clean path (write \"/a/b\")\n" +
				`a.toml:8: runtime.address: "unix:///run/x.sock" is not an absolute path (start it with /)`},
		{"a socket that is too long", "[api]\nsocket = '/" + strings.Repeat("x", 107) + "'", "a.toml:2: api.socket: 108 characters, and a socket's path may have 107"},
		{"a PKI in part", "[ring]\ncert_file = '/a'", "a.toml: ring.peer_key_file: is missing (cert_file, peer_key_file and ca_file go together)\n" +
			"a.toml: ring.ca_file: is missing (cert_file, peer_key_file and ca_file go together)"},
		{"policy", "[policy]\nimages = ['']\nhost_paths = ['srv:ro', '/srv:rw']\nhost_namespaces = ['net']\ncapabilities = ['NET']\ndevices = ['/dev/x:']",
			"a.toml:2: policy.images[0]: \"\" is not a repository or digest (such as \"registry.example.org/team/**\")\n" +
				"a.toml:3: policy.host_paths[0]: \"srv\" is not an absolute path (start it with /)\n" +
				"a.toml:3: policy.host_paths[1]: \"/srv:rw\" has a suffix that is none (write \"/srv\" to permit writing)\n" +
				"a.toml:4: policy.host_namespaces[0]: \"net\" is not \"network\", \"pid\", \"ipc\" or \"uts\" (did you mean \"network\"?)\n" +
				"a.toml:5: policy.capabilities[0]: \"NET\" is not a capability\n" +
				"a.toml:6: policy.devices[0]: \"/dev/x:\" is not a device (write \"PATH\" or \"PATH:rwm\", with any of r, w and m)"},
		{"logs", "[log]\nlevel = 'warning'\nformat = 'logfmt'\ncontainers = 'journal'\nmax_size = 1\nmax_files = 0",
			"a.toml:2: log.level: \"warning\" is not \"debug\", \"info\", \"warn\" or \"error\"\n" +
				"a.toml:3: log.format: \"logfmt\" is not \"text\" or \"json\"\n" +
				"a.toml:4: log.containers: \"journal\" is not \"auto\", \"journald\" or \"file\" (did you mean \"journald\"?)\n" +
				"a.toml:5: log.max_size: 1 is less than 4KiB\na.toml:6: log.max_files: 0 is not between 1 and 1000 (the one being written counts)"},
		{"addresses", "[ring]\nbind = 'eth0:7946'\nadvertise = 'fd00::1'\njoin = [\n'a:b',\n'[::1',\n'x:0']\n[metrics]\nlisten = 'localhost'",
			"a.toml:2: ring.bind: \"eth0:7946\" is not an IP address of this machine, or 0.0.0.0 or [::] for all\n" +
				"a.toml:3: ring.advertise: \"fd00::1\" needs brackets around the IPv6 address: [fd00::1]\n" +
				"a.toml:5: ring.join[0]: \"a:b\" has no port between 1 and 65535\n" +
				"a.toml:6: ring.join[1]: \"[::1\" is not HOST or HOST:PORT; IPv6 addresses stand in brackets\n" +
				"a.toml:7: ring.join[2]: \"x:0\" has no port between 1 and 65535\n" +
				`a.toml:9: metrics.listen: "localhost" has no port (write "localhost:9464")`},
		{"no port after", "[ring]\nbind = '0.0.0.0:65535'", `a.toml:2: ring.bind: "0.0.0.0:65535" leaves no port after it for [peer]; name one there`},
		{"one port for two", "[peer]\nbind = '0.0.0.0:7946'", "a.toml:2: peer.bind: is ring.bind's address and port (the two need a port each)"},
		{"not TOML", "[ring\n", "a.toml:1: expected '.' or ']' to end table name, but got '\\n' instead"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(tt.src)
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", err, tt.want)
			}
		})
	}
}

// A bad value is told with the file that it came from, whichever was merged last.
func TestProblemsNameTheirFile(t *testing.T) {
	_, err := load("[log]\nlevel = 'x'\nformat = 'y'\n", "\n[log]\nformat = 'text'\n[ring]\n\nbind = 'z'\n")
	want := "a.toml:2: log.level: \"x\" is not \"debug\", \"info\", \"warn\" or \"error\"\n" +
		`b.toml:6: ring.bind: "z" is not an IP address of this machine, or 0.0.0.0 or [::] for all`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestAHostNameThatIsNoName(t *testing.T) {
	var errs strict.Errors
	merge([]source{{"a.toml", nil}}, "", &errs)
	want := `a.toml: node.name: the host name "" can't be the name of a node (write name = "…" in [node])`
	if err := errs.Err(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAddressesAreResolved(t *testing.T) {
	tests := []struct {
		name, src                      string
		bind, advertise, peer, peerAdv string
	}{
		{"a port for the ring", "[ring]\nbind = '10.0.0.1:7000'", "10.0.0.1:7000", "", "10.0.0.1:7001", ""},
		{"no port", "[ring]\nbind = '10.0.0.1'", "10.0.0.1:7946", "", "10.0.0.1:7947", ""},
		{"IPv6", "[ring]\nbind = '[::]:7000'\nadvertise = '[fd00::1]'", "[::]:7000", "[fd00::1]:7000", "[::]:7001", "[fd00::1]:7001"},
		{"IPv6 without a port", "[ring]\nbind = '[fd00::1]'", "[fd00::1]:7946", "", "[fd00::1]:7947", ""},
		{"advertised on another port", "[ring]\nadvertise = 'web.example.org:8000'", "0.0.0.0:7946", "web.example.org:8000", "0.0.0.0:7947", "web.example.org:8001"},
		{"a port for the peers", "[ring]\nadvertise = 'web'\n[peer]\nbind = '0.0.0.0:9000'", "0.0.0.0:7946", "web:7946", "0.0.0.0:9000", "web:9000"},
		{"an address for the peers alone", "[peer]\nadvertise = '[fd00::2]'", "0.0.0.0:7946", "", "0.0.0.0:7947", "[fd00::2]:7947"},
		{"all of them", "[ring]\nadvertise = 'a:1'\n[peer]\nbind = '127.0.0.1:2'\nadvertise = 'b:3'", "0.0.0.0:7946", "a:1", "127.0.0.1:2", "b:3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := mustLoad(t, tt.src)
			if l.Ring.Bind != tt.bind || l.Ring.Advertise != tt.advertise || l.Peer.Bind != tt.peer || l.Peer.Advertise != tt.peerAdv {
				t.Errorf("got %+v and %+v", l.Ring, l.Peer)
			}
		})
	}
	l := mustLoad(t, "[ring]\njoin = ['10.0.0.11', 'node-b:7000', '[fd00::1]', '[fe80::1%eth0]:1', 'a.b.']\n[metrics]\nlisten = ':9464'")
	want := []string{"10.0.0.11:7946", "node-b:7000", "[fd00::1]:7946", "[fe80::1%eth0]:1", "a.b.:7946"}
	if !reflect.DeepEqual(l.Ring.Join, want) {
		t.Errorf("joins %v, want %v", l.Ring.Join, want)
	}
}

// write makes a file with a mode that the umask has no say in.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestLoadFiles(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "agentd.toml")
	write(t, main, "[node]\nname = 'one'\n[ring]\nname = 'main'\n", 0o644)
	write(t, filepath.Join(dir, "agentd.d/20-b.toml"), "[ring]\nname = 'b'\n", 0o644)
	write(t, filepath.Join(dir, "agentd.d/10-a.toml"), "[ring]\nname = 'a'\n", 0o644)
	write(t, filepath.Join(dir, "agentd.d/30-c.toml~"), "not read", 0o644)
	write(t, filepath.Join(dir, "agentd.d/.#40.toml"), "not read", 0o644)
	l, err := Load(main)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{main, filepath.Join(dir, "agentd.d/10-a.toml"), filepath.Join(dir, "agentd.d/20-b.toml")}
	if l.Ring.Name != "b" || !reflect.DeepEqual(l.Files, files) || l.Origin["ring.name"] != files[2] {
		t.Errorf("ring %q of files %v, from %s", l.Ring.Name, l.Files, l.Origin["ring.name"])
	}
	// Problems of all files are told at once, those with the files as such too.
	write(t, files[1], "[ring]\nbnid = ''\n", 0o664)
	write(t, files[2], "[ring]\nbnid = ''\n", 0o644)
	_, err = Load(main)
	var errs *strict.Errors
	if !errors.As(err, &errs) || len(errs.List) != 2 {
		t.Fatalf("got %v", err)
	}
	want := files[1] + ": has mode 0664, so others than its owner can write it (chmod go-w " + files[1] + ")\n" +
		files[2] + ":2: ring.bnid: unknown key (did you mean bind?)"
	if err.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", err, want)
	}
}

func TestLoadWithoutAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.toml")
	_, err := Load(path)
	if err == nil || !strings.HasPrefix(err.Error(), path+": no such file (agentctl init") {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || err.Error() != dir+": is not a regular file" {
		t.Errorf("a folder: %v", err)
	}
}

// A folder that others can write is as good as files that they can.
func TestDropInFolderOfOthers(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "agentd.toml")
	write(t, main, "", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "agentd.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(main); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "agentd.d"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(main); err == nil || !strings.Contains(err.Error(), "agentd.d: has mode 0777") {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	shipped, err := os.ReadFile("../../configs/agentd.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shipped, []byte("[node]\nlabels = {a = 'b'}"))
	f.Add([]byte("[ring]\nbind='[::]:1'\nadvertise='x'"), []byte("[peer]\nadvertise='y'"))
	f.Add([]byte("[log]\nmax_size='1KiB'"), []byte("[policy]\ndevices=['/dev/x:r']"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		l, err := load(string(one), string(two))
		if err != nil {
			return
		}
		var b bytes.Buffer
		l.Print(&b)
		again, err := load(b.String())
		if err != nil {
			t.Fatalf("what is printed is refused: %v\n%s", err, &b)
		}
		normalize(l)
		normalize(again)
		if !reflect.DeepEqual(l.Config, again.Config) {
			t.Fatalf("%+v came back as %+v", l.Config, again.Config)
		}
	})
}
