package spec_test

import (
	"errors"
	"testing"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/strict"
)

// What is refused of the keys that concern one node: jobs, health, overrides,
// expressions and so on.
func TestParseRefusesOfOneNode(t *testing.T) {
	const ok = "name = 'x'\nimage = 'x'\n"
	tests := []struct{ name, src, want string }{
		{"a type in capitals", ok + "type = 'Job'",
			`x.toml:3: type: "Job" is not "daemon" or "job" (did you mean "job"?)`},
		{"a job that never ends", ok + "type = 'job'\nrestart.policy = 'always'\nhealth.readiness.tcp = 'a:1'",
			`x.toml:4: restart.policy: "always" is not for jobs, which end when they have completed ("on-failure" tries again after a failure, "never" does not)` + "\n" +
				`x.toml:5: health.readiness: is not for a job, which is ready when it has completed`},
		{"attempts of a daemon", ok + "restart.attempts = 3",
			`x.toml:3: restart.attempts: is for jobs only (a daemon that the ring wants is never given up)`},
		{"attempts that are never made", ok + "type='job'\nrestart = { attempts = 1, policy = 'never' }",
			`x.toml:4: restart.attempts: has no meaning with policy = "never" (a job that may try again needs policy = "on-failure")`},
		{"attempts out of range", ok + "restart.attempts = -1",
			`x.toml:3: restart.attempts: -1 is not between 1 and 1000, or 0 for no limit`},
		{"a probe that asks nothing", ok + "[health.liveness]",
			`x.toml:3: health.liveness: asks nothing (it needs one of http, tcp and exec)`},
		{"a probe that asks twice", ok + "[health.liveness]\nhttp = 'http://a/'\ntcp = 'a:1'\nsuccesses = 2\nfailures = 0",
			`x.toml:3: health.liveness: has http and tcp, but asks in one way only` + "\n" +
				`x.toml:6: health.liveness.successes: 2 is not 1: a failed liveness probe restarts, and no later success takes that back` + "\n" +
				`x.toml:7: health.liveness.failures: 0 is not between 1 and 1000`},
		{"a probe that does not exist", ok + "health.alive.tcp = 'x'",
			`x.toml:3: health.alive: unknown key`},
		{"a probe that is not told which", ok + "[health]\ntcp = '127.0.0.1:1'",
			`x.toml:4: health.tcp: unknown key (here it is called health.liveness.tcp, or of startup or readiness)`},
		{"a probe in other words", ok + "[health.liveness]\nurl = 'http://a'\nperiod = '1s'\ninitial_delay='1s'\nfailureThreshold=3",
			`x.toml:4: health.liveness.url: unknown key (here it is called http)` + "\n" +
				`x.toml:5: health.liveness.period: unknown key (here it is called interval)` + "\n" +
				`x.toml:6: health.liveness.initial_delay: unknown key (here it is called delay)` + "\n" +
				`x.toml:7: health.liveness.failureThreshold: unknown key (here it is called failures)`},
		{"URLs", ok + "health = { startup = { http = 'localhost:9100/x' }, liveness = { http = 'ftp://a/' }, readiness = { http = 'http:///x#y' } }",
			`x.toml:3: health.startup.http: "localhost:9100/x" is no URL (write "http://localhost:9100/x")` + "\n" +
				`x.toml:3: health.liveness.http: "ftp" is not "http" or "https"` + "\n" +
				`x.toml:3: health.readiness.http: "http:///x#y" has no host (the daemon itself is at 127.0.0.1 when it has the host's network)`},
		{"URLs that almost are", ok + "health = { startup = { http = 'http://a:99999/' }, liveness = { http = 'http://fd00::1:80/' }, readiness = { http = 'http://a/%zz' } }",
			`x.toml:3: health.startup.http: "99999" is not a port` + "\n" +
				`x.toml:3: health.liveness.http: "http://fd00::1:80/" is no URL (invalid port "::1:80" after host)` + "\n" +
				`x.toml:3: health.readiness.http: "http://a/%zz" is no URL (invalid URL escape "%zz")`},
		{"addresses", ok + "health = { startup = { tcp = ':9100' }, liveness = { tcp = '9100' }, readiness = { tcp = 'a:http' } }",
			`x.toml:3: health.startup.tcp: ":9100" has no host (write "127.0.0.1:9100")` + "\n" +
				`x.toml:3: health.liveness.tcp: "9100" is not HOST:PORT (such as "127.0.0.1:9100" or "[::1]:9100")` + "\n" +
				`x.toml:3: health.readiness.tcp: "http" is not a port (a number from 1 to 65535)`},
		{"numbers of a probe", ok + "health.startup = { exec = [''], interval = '10ms', timeout = '0s', delay = '-1s', successes = 1001, failures = 1 }",
			`x.toml:3: health.startup.exec[0]: is empty, and names the program to run` + "\n" +
				`x.toml:3: health.startup.interval: 10ms is not between 100ms and 24h` + "\n" +
				`x.toml:3: health.startup.timeout: 0s is not between 1ms and 10m` + "\n" +
				`x.toml:3: health.startup.delay: -1s is not between 0s and 24h` + "\n" +
				`x.toml:3: health.startup.successes: 1001 is not between 1 and 1000`},
		{"a command that is a text", ok + "health.startup = { exec = '/bin/true' }",
			`x.toml:3: health.startup.exec: needs an array, not the string "/bin/true" (write ["/bin/true"])`},
		{"a probe that reaches nothing", ok + "network = 'none'\nhealth.startup.tcp = '127.0.0.1:1'",
			`x.toml:4: health.startup.tcp: reaches nothing, for the daemon has network = "none" (exec asks from inside the container)`},
		{"a probe that can't be, whatever the node", ok + "health.startup.tcp = '{{ node.address }}:{{ node.name }}'",
			`x.toml:3: health.startup.tcp: "n1" is not a port (a number from 1 to 65535; with a sample in place of {{ … }})`},
		{"hooks", ok + "hooks.pre_stop = ['']\nhooks.prestart = ['x']",
			`x.toml:3: hooks.pre_stop[0]: is empty, and names the program to run` + "\n" +
				`x.toml:4: hooks.prestart: unknown key`},
		{"tolerations", ok + "tolerations = [{ key = '-' }, {}, { operator = 'Exists', value = 'a' }, { key = 'a', operator = 'exists', effect = 'noexecute' }, { key = 'a', value = 'b c' }, { key='a', tolerationSeconds = 3 }]",
			`x.toml:3: tolerations[5].tolerationSeconds: unknown key` + "\n" +
				`x.toml:3: tolerations[0].key: "-" is not the key of a taint (such as "dedicated" or "example.org/dedicated")` + "\n" +
				`x.toml:3: tolerations[1].key: is missing (operator = "Exists" without a key tolerates every taint)` + "\n" +
				`x.toml:3: tolerations[2].value: Exists takes no value (leave it out, or compare with operator = "Equal")` + "\n" +
				`x.toml:3: tolerations[3].operator: "exists" is not "Exists" or "Equal" (did you mean "Exists"?)` + "\n" +
				`x.toml:3: tolerations[3].effect: "noexecute" is not "NoSchedule", "NoExecute" or "PreferNoSchedule" (did you mean "NoExecute"?)` + "\n" +
				`x.toml:3: tolerations[4].value: "b c" is not the value of a taint (at most 63 letters, digits, - _ and .)`},
		{"dependencies", ok + "depends_on = ['A', 'x', 'y', 'y']",
			`x.toml:3: depends_on[0]: "A" is not the name of a daemon (a-z, 0-9 and - inside)` + "\n" +
				`x.toml:3: depends_on[1]: "x" is the daemon itself` + "\n" +
				`x.toml:3: depends_on[3]: "y" is given twice`},
		{"a dependency that is a text", ok + "depends_on = 'y'",
			`x.toml:3: depends_on: needs an array, not the string "y" (write ["y"])`},
		{"isolation", ok + "isolation = { policy = 'die', after = '0s' }",
			`x.toml:3: isolation.policy: "die" is not "keep" or "stop"` + "\n" +
				`x.toml:3: isolation.after: 0s is not between 1s and 8760h`},
		{"overrides", ok + "[[override]]\n[[override]]\nselector = {}\nargs = []\n[[override]]\nselector = { 'a b' = 'c' }\nenv = { 'A=B' = '' }\nresources = { cpu = -1, memory = '1MiB', pids = -1, ulimits = { nofiles = 1 } }\n[[override]]\nmatch = [{ key = 'a', operator = 'In' }]\nfiles = [{ target = 'a', mode = '9' }, { target = '/p' }, { target = '/p' }]\n",
			`x.toml:3: override[0]: matches on nothing (it needs a selector or [[override.match]]; what holds for every node needs no override)` + "\n" +
				`x.toml:3: override[0]: changes nothing (it may have env, args, resources and files)` + "\n" +
				`x.toml:5: override[1].selector: is empty (what holds for every node needs no override)` + "\n" +
				`x.toml:8: override[2].selector."a b": "a b" is not a label (such as "role" or "example.org/role")` + "\n" +
				`x.toml:9: override[2].env."A=B": is no name of an environment variable (letters, digits and _ - .)` + "\n" +
				`x.toml:10: override[2].resources.cpu: -1 is not between 0.01 and 4096 cores` + "\n" +
				`x.toml:10: override[2].resources.memory: 1MiB is less than 6MiB, with which no container starts` + "\n" +
				`x.toml:10: override[2].resources.pids: -1 is not between 1 and 4194304, or 0 for no limit` + "\n" +
				`x.toml:10: override[2].resources.ulimits.nofiles: is not a limit (did you mean "nofile"?)` + "\n" +
				`x.toml:12: override[3].match[0].values: In needs at least one value` + "\n" +
				`x.toml:13: override[3].files[0].target: "a" is not an absolute path (start it with /)` + "\n" +
				`x.toml:13: override[3].files[0].mode: "9" is not a mode (octal in quotes, at most "0777")` + "\n" +
				`x.toml:13: override[3].files[2].target: "/p" is the target of files[1] already`},
		{"an override of what can't be overridden", ok + "[[override]]\nselector = { a = 'b' }\nimage = 'y'",
			`x.toml:5: override[0].image: unknown key (an override may have env, args, resources and files)`},
		{"an override that does not fit itself", ok + "[[override]]\nselector = { a = 'b' }\nresources = { memory = '64MiB', memory_reserve = '65MiB' }",
			`x.toml:5: override[0].resources.memory_reserve: 65MiB is more than memory, 64MiB`},
		{"an override that does not fit the daemon", ok + "resources.memory = '64MiB'\n[[override]]\nselector = { a = 'b' }\nresources = { memory_reserve = '65MiB' }",
			`x.toml:6: override[0].resources: memory_reserve becomes 65MiB, which is more than memory, 64MiB`},
		{"an override over a mount", ok + "mounts = [{ source = '/a', target = '/b' }]\n[[override]]\nselector = { a = 'b' }\nfiles = [{ target = '/b' }]",
			`x.toml:6: override[0].files[0].target: "/b" is the target of mounts[0] already`},
		{"one bracket for an override", ok + "[override]\nselector = { a = 'b' }",
			`x.toml:3: override: needs an array of tables ([[override]]), not a table`},
		{"expressions", ok + "args = ['a', '--name={{ nod.name }}', '{{ }}', '{{ node.name', '{{ node.labels. }}', '{{ node.labels }}', '{{ .Node.Name }}', '{{ labels.role }}', '{{{ node.name }}}', '{{ \"a }}']",
			`x.toml:3: args[1]: {{ nod.name }} is not known (did you mean {{ node.name }}?)` + "\n" +
				`x.toml:3: args[2]: {{ }} is empty (one of node.name, node.address and node.labels.KEY; two braces that are meant as such are written {{ "{{" }})` + "\n" +
				`x.toml:3: args[3]: {{ without }} (one of node.name, node.address and node.labels.KEY; two braces that are meant as such are written {{ "{{" }})` + "\n" +
				`x.toml:3: args[4]: {{ node.labels. }} is not known (did you mean {{ node.labels.KEY }}?)` + "\n" +
				`x.toml:3: args[5]: {{ node.labels }} is not known (did you mean {{ node.labels.KEY }}?)` + "\n" +
				`x.toml:3: args[6]: {{ .Node.Name }} is not known (did you mean {{ node.name }}?)` + "\n" +
				`x.toml:3: args[7]: {{ labels.role }} is not known (one of node.name, node.address and node.labels.KEY; two braces that are meant as such are written {{ "{{" }})` + "\n" +
				`x.toml:3: args[8]: {{ { node.name }} is not known (did you mean {{ node.name }}?)` + "\n" +
				`x.toml:3: args[9]: {{ "a }} is not known (one of node.name, node.address and node.labels.KEY; two braces that are meant as such are written {{ "{{" }})`},
		{"expressions in a file", ok + "[[files]]\ntarget = '/a'\ncontent = '''\none\n{{ x }}\n{{ y }}'''",
			`x.toml:5: files[0].content: in line 2 of the text, {{ x }} is not known (one of node.name, node.address and node.labels.KEY; two braces that are meant as such are written {{ "{{" }})` + "\n" +
				`x.toml:5: files[0].content: in line 3 of the text, {{ y }} is not known (one of node.name, node.address and node.labels.KEY; two braces that are meant as such are written {{ "{{" }})`},
		{"expressions where all nodes are alike", ok + "user = '{{ node.labels.uid }}'\nstop.signal = '{{ x }}'\nselector = { a = '{{ node.name }}' }\ndepends_on = ['{{ node.name }}']\ncapabilities.add = ['{{ x }}']\nenv = { '{{ x }}' = 'a' }\n[[mounts]]\nvolume = 'v{{ node.name }}'\ntarget = '/{{ node.name }}'\noptions = ['{{ x }}']\n[[files]]\ntarget = '/b'\nmode = '{{ x }}'",
			`x.toml:3: user: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:4: stop.signal: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:5: selector.a: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:6: depends_on[0]: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:7: capabilities.add[0]: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:8: env."{{ x }}": is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:10: mounts[0].volume: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:11: mounts[0].target: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:12: mounts[0].options[0]: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:15: files[0].mode: is the same on every node and takes no {{ … }}`},
		{"values that can't be, whatever the node", ok + "hostname = '-{{ node.name }}'\nworking_dir = '{{ node.name }}'",
			`x.toml:3: hostname: "-n1" is not a host name (with a sample in place of {{ … }})` + "\n" +
				`x.toml:4: working_dir: "n1" is not an absolute path (start it with /; with a sample in place of {{ … }})`},
		{"expressions in an override", ok + "[[override]]\nselector = { a = '{{ node.name }}' }\nenv = { A = '{{ x }}' }",
			`x.toml:4: override[0].selector.a: is the same on every node and takes no {{ … }}` + "\n" +
				`x.toml:5: override[0].env.A: {{ x }} is not known (one of node.name, node.address and node.labels.KEY; two braces that are meant as such are written {{ "{{" }})`},
		{"an expression in a probe", ok + "health.liveness.http = 'http://{{ node.adress }}/'",
			`x.toml:3: health.liveness.http: {{ node.adress }} is not known (did you mean {{ node.address }}?)`},
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

// Each circle of a file is told at the first of its daemons, with the way round.
func TestCirclesInAFile(t *testing.T) {
	_, err := spec.Parse([]byte(`[[daemon]]
name = "a"
image = "x"
depends_on = ["b"]
[[daemon]]
name = "b"
image = "x"
depends_on = ["c", "d"]
[[daemon]]
name = "c"
image = "x"
depends_on = ["b", "elsewhere"]
[[daemon]]
name = "d"
image = "x"
depends_on = ["a"]
`), "x.toml")
	const want = `x.toml:4: daemon[0].depends_on: goes round in a circle: a → b → d → a (each would wait for the other for ever)
x.toml:8: daemon[1].depends_on: goes round in a circle: b → c → b (each would wait for the other for ever)`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// What looks wrong, and is not.
func TestParseTakes(t *testing.T) {
	for name, src := range map[string]string{
		"empty tables":                       "[health]\n[hooks]\n[isolation]\n",
		"no dependencies":                    "depends_on = []\ntolerations = []\n",
		"a timeout longer than the interval": "[health.liveness]\ntcp = '127.0.0.1:1'\ninterval = '1s'\ntimeout = '5s'\n",
		"a port that is a label":             "[health.liveness]\nhttp = 'http://127.0.0.1:{{ node.labels.port }}/'\n",
		"braces that close nothing":          "args = ['}} }', '{ {']\n",
		"braces that are meant":              "args = ['{{ \"{{\" }} .Name {{ \"}}\" }}', '{{\"{{\"}}']\n",
		"a job without a limit":              "type = 'job'\n[health.liveness]\nexec = ['x']\n",
		"a limit that is lifted":             "resources.memory = '64MiB'\n[[override]]\nselector = { a = 'b' }\nresources = { memory = '', oom_score_adj = 0 }\n",
		"args that are taken back":           "args = ['a']\n[[override]]\nselector = { a = 'b' }\nargs = []\n",
		"a file that is replaced":            "files = [{ target = '/a' }]\n[[override]]\nselector = { a = 'b' }\nfiles = [{ target = '/a', content = 'x' }]\n",
		"a name that is in no other file":    "depends_on = ['elsewhere']\n",
	} {
		if _, err := spec.Parse([]byte("name = 'x'\nimage = 'x'\n"+src), "x.toml"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
