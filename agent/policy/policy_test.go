package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/spec"
)

// newPolicy compiles cfg and fails the test when it can't.
func newPolicy(t *testing.T, cfg config.Policy, protected ...string) *Policy {
	t.Helper()
	p, err := New(cfg, protected...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func with(edit func(*config.Policy)) config.Policy {
	cfg := config.Default().Policy
	edit(&cfg)
	return cfg
}

func TestCheck(t *testing.T) {
	def := config.Default().Policy
	bind := func(src string, opts ...string) spec.Daemon {
		return spec.Daemon{Image: "x", Mounts: []spec.Mount{{Source: src, Target: "/t", Options: opts}}}
	}
	tests := []struct {
		name   string
		policy config.Policy
		daemon spec.Daemon
		want   string // rule that denies; "" permits
		words  string // must be in the detail
	}{
		{"a plain container passes the default policy", def, spec.Daemon{Image: "quay.io/a/b:v1"}, "", ""},
		{"host network and pid pass the default policy", def, spec.Daemon{Image: "x", Network: "host", PID: "host"}, "", ""},
		{"the whole host read-only passes the default policy", def, bind("/", "rbind", "ro", "rslave"), "", ""},
		{"a read-write host path does not", def, bind("/srv-none", "rbind", "rw"), RuleHostPaths, "/ only read-only"},
		{"no option is read-write", def, bind("/srv-none"), RuleHostPaths, "read-write"},
		{"the last of ro and rw counts", def, bind("/srv-none", "ro", "rw"), RuleHostPaths, "read-write"},
		{"volumes and tmpfs are no host paths", def, spec.Daemon{Image: "x", Mounts: []spec.Mount{
			{Volume: "v", Target: "/v"}, {Tmpfs: true, Target: "/t"}}}, "", ""},
		{"privileged is denied by default", def, spec.Daemon{Image: "x", Privileged: true}, RulePrivileged, "privileged"},
		{"privileged includes capabilities and devices", with(func(c *config.Policy) { c.Privileged = true }),
			spec.Daemon{Image: "x", Privileged: true, Capabilities: spec.Capabilities{Add: []string{"SYS_ADMIN"}}, Devices: []string{"/dev/kvm"}}, "", ""},
		{"a capability beyond the default set", def,
			spec.Daemon{Image: "x", Capabilities: spec.Capabilities{Add: []string{"sys_admin"}}}, RuleCapabilities, "CAP_SYS_ADMIN"},
		{"a capability of the default set", def,
			spec.Daemon{Image: "x", Capabilities: spec.Capabilities{Add: []string{"CAP_NET_RAW"}}}, "", ""},
		{"a permitted capability, written differently", with(func(c *config.Policy) { c.Capabilities = []string{"net_admin"} }),
			spec.Daemon{Image: "x", Capabilities: spec.Capabilities{Add: []string{"CAP_NET_ADMIN"}}}, "", ""},
		{"dropping needs no permission", def,
			spec.Daemon{Image: "x", Capabilities: spec.Capabilities{Drop: []string{"ALL"}}}, "", ""},
		{"devices are denied by default", def, spec.Daemon{Image: "x", Devices: []string{"/dev/fuse"}}, RuleDevices, "/dev/fuse"},
		{"a permitted device", with(func(c *config.Policy) { c.Devices = []string{"/dev/fu*"} }),
			spec.Daemon{Image: "x", Devices: []string{"/dev/fuse:rw"}}, "", ""},
		{"more access than permitted", with(func(c *config.Policy) { c.Devices = []string{"/dev/fuse:r"} }),
			spec.Daemon{Image: "x", Devices: []string{"/dev/fuse:rw"}}, RuleDevices, "/dev/fuse:r"},
		{"a device pattern does not cross a slash", with(func(c *config.Policy) { c.Devices = []string{"/dev/*"} }),
			spec.Daemon{Image: "x", Devices: []string{"/dev/net/tun-none"}}, RuleDevices, "/dev/net"},
		{"host network without the right", with(func(c *config.Policy) { c.HostNamespaces = []string{"pid"} }),
			spec.Daemon{Image: "x", Network: "host"}, RuleHostNamespaces, `network = "host"`},
		{"host pid without the right", with(func(c *config.Policy) { c.HostNamespaces = nil }),
			spec.Daemon{Image: "x", PID: "host"}, RuleHostNamespaces, "permitted are none"},
		{"a path permits what is below it", with(func(c *config.Policy) { c.HostPaths = []string{"/srv-none"} }),
			bind("/srv-none/a/b", "rw"), "", ""},
		{"but not a sibling with the same beginning", with(func(c *config.Policy) { c.HostPaths = []string{"/srv-none"} }),
			bind("/srv-none2", "ro"), RuleHostPaths, "/srv-none2"},
		{"nor what .. leads to", with(func(c *config.Policy) { c.HostPaths = []string{"/srv-none"} }),
			bind("/srv-none/../etc", "ro"), RuleHostPaths, "/etc"},
		{"an image in no permitted repository", with(func(c *config.Policy) { c.Images = []string{"quay.io/**"} }),
			spec.Daemon{Image: "nginx"}, RuleImages, "quay.io/**"},
		{"an image that is no reference", def, spec.Daemon{Image: "UPPER CASE"}, RuleImages, "can't be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := newPolicy(t, tt.policy).Check(tt.daemon)
			if tt.want == "" {
				if len(got) != 0 {
					t.Fatalf("denied: %v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Rule != tt.want {
				t.Fatalf("got %v, want one denial by %s", got, tt.want)
			}
			if !strings.Contains(got[0].Detail, tt.words) {
				t.Fatalf("detail %q lacks %q", got[0].Detail, tt.words)
			}
		})
	}
}

// Everything that is wrong is said at once.
func TestCheckReportsAll(t *testing.T) {
	p := newPolicy(t, config.Policy{})
	got := p.Check(spec.Daemon{
		Image: "x", Network: "host", PID: "host", Devices: []string{"/dev/fuse"},
		Capabilities: spec.Capabilities{Add: []string{"SYS_TIME"}},
		Mounts:       []spec.Mount{{Source: "/etc", Target: "/etc", Options: []string{"ro"}}},
	})
	var rules []string
	for _, d := range got {
		rules = append(rules, d.Rule)
	}
	want := []string{RuleImages, RuleHostPaths, RuleHostNamespaces, RuleHostNamespaces, RuleCapabilities, RuleDevices}
	if !slices.Equal(rules, want) {
		t.Fatalf("rules are %v, want %v", rules, want)
	}
}

func TestImages(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	tests := []struct {
		pattern, image string
		want           bool
	}{
		{"**", "nginx", true},
		{"docker.io/library/*", "nginx:1.27", true},
		{"nginx", "nginx:1.27", true},
		{"nginx", "evil.example/nginx", false},
		{"nginx:1.27", "nginx:1.27", true},
		{"nginx:1.27", "nginx:1.28", false},
		{"nginx:latest", "nginx", true},
		{"nginx:1.27", "nginx:1.27@" + digest, false}, // the tag beside a digest says nothing
		{"quay.io/*", "quay.io/a/b", false},
		{"quay.io/*", "quay.io/a", true},
		{"quay.io/**", "quay.io/a/b:v1", true},
		{"quay.io/**", "quay.io.evil.example/a/b", false},
		{"*.example/**", "a.example/b", true},
		{digest, "reg.example/a@" + digest, true},
		{"reg.example/a@" + digest, "reg.example/a:v1@" + digest, true},
		{digest, "reg.example/a:v1", false},
		{"reg.example:5000/*", "reg.example:5000/app:v1", true},
	}
	for _, tt := range tests {
		p := newPolicy(t, config.Policy{Images: []string{tt.pattern}})
		if got := len(p.Check(spec.Daemon{Image: tt.image})) == 0; got != tt.want {
			t.Errorf("pattern %q, image %q: permitted is %v, want %v", tt.pattern, tt.image, got, tt.want)
		}
	}
}

// tree makes a host in a temporary folder: etc/agentd, run/sock, lib/agentd,
// srv, and links that lead out of srv.
func tree(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"etc/agentd/trust.d", "run/sock", "lib/agentd/volumes", "srv"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"srv/out": "../etc/agentd", "srv/top": "..", "var": "lib"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestProtectedFolders(t *testing.T) {
	root := tree(t)
	at := func(p string) string { return filepath.Join(root, p) }
	protected := []string{at("etc/agentd"), at("var/agentd"), at("run/sock"), at("run/missing")}
	mount := func(src string, opts ...string) spec.Mount {
		return spec.Mount{Source: src, Target: "/host", Options: append(opts, "rbind")}
	}
	tests := []struct {
		name  string
		rules []string
		mount spec.Mount
		deny  bool
		masks []string
	}{
		{"a parent is masked where the folders are, links followed, missing ones left out",
			[]string{"/:ro"}, mount(root, "ro"), false,
			[]string{"/host/etc/agentd", "/host/lib/agentd", "/host/run/sock"}},
		{"a link to a parent is a parent", []string{"/:ro"}, mount(at("srv/top"), "ro"), false,
			[]string{"/host/etc/agentd", "/host/lib/agentd", "/host/run/sock"}},
		{"the folder itself is denied", []string{"/:ro"}, mount(at("etc/agentd"), "ro"), true, nil},
		{"what is inside it too", []string{"/:ro"}, mount(at("etc/agentd/trust.d"), "ro"), true, nil},
		{"a link to it too", []string{"/:ro"}, mount(at("srv/out"), "ro"), true, nil},
		{"a path in it that does not exist yet too", []string{"/"}, mount(at("run/sock/x/y"), "rw"), true, nil},
		{"a rule that names it permits it", []string{"/:ro", at("etc/agentd") + ":ro"}, mount(at("etc/agentd"), "ro"), false, nil},
		{"and takes its mask away", []string{"/:ro", at("etc/agentd") + ":ro"}, mount(at("etc"), "ro"), false, nil},
		{"but not for writing", []string{"/", at("etc/agentd") + ":ro"}, mount(at("etc/agentd"), "rw"), true, nil},
		{"a rule inside it permits that part", []string{at("lib/agentd/volumes")}, mount(at("lib/agentd/volumes/x"), "rw"), false, nil},
		{"and keeps the mask of the whole", []string{"/:ro", at("lib/agentd/volumes")}, mount(at("lib"), "ro"), false, []string{"/host/agentd"}},
		{"masks that would spread to the host are denied", []string{"/"}, mount(at("etc"), "rw", "rshared"), true, nil},
		{"a neighbour needs none", []string{"/:ro"}, mount(at("srv"), "ro"), false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPolicy(t, config.Policy{Images: []string{"**"}, HostPaths: tt.rules}, protected...)
			d := spec.Daemon{Image: "x", Mounts: []spec.Mount{tt.mount}}
			if got := p.Check(d); (len(got) > 0) != tt.deny {
				t.Fatalf("denials are %v, want denied %v", got, tt.deny)
			}
			if tt.deny {
				return
			}
			if got := p.Masks(d); !slices.Equal(got, tt.masks) {
				t.Fatalf("masks are %q, want %q", got, tt.masks)
			}
		})
	}
}

func TestNewRefusesBadRules(t *testing.T) {
	for name, cfg := range map[string]config.Policy{
		"relative host path": {HostPaths: []string{"srv"}},
		"unknown namespace":  {HostNamespaces: []string{"user"}},
		"bad device":         {Devices: []string{"/dev/fuse:x"}},
		"empty image":        {Images: []string{""}},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "policy.") {
			t.Errorf("%s: error is %v, want one that names the rule", name, err)
		}
	}
}

// Whatever is written, a single star never crosses a slash and no pattern
// panics.
func TestGlobProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		part := rapid.StringMatching(`[a-z0-9.:+()\[\]-]{1,8}`)
		a, b, c := part.Draw(rt, "a"), part.Draw(rt, "b"), part.Draw(rt, "c")
		match := func(pattern, text string) bool {
			g, err := compileGlob(pattern)
			if err != nil {
				rt.Fatal(err)
			}
			return g.re.MatchString(text)
		}
		if !match(a+"/"+b, a+"/"+b) || !match(a+"/*", a+"/"+b) || !match(a+"/**", a+"/"+b+"/"+c) {
			rt.Fatal("a pattern misses what it names")
		}
		if match(a+"/*", a+"/"+b+"/"+c) {
			rt.Fatal("* crossed a slash")
		}
	})
}
