package v2

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/e2e/machines"
)

// script is run on the machine as root; what is judged, it only prints.
const script = `set -eu
exec 2>&1
until_true() { # TRIES COMMAND...
	tries=$1
	shift
	until "$@"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || { echo "gave up: $*"; return 1; }
		sleep 1
	done
}
running() { ctr -n agentd tasks ls | grep -q "^$1 .*RUNNING"; }
pid() { ctr -n agentd tasks ls | awk -v id="$1" '$1 == id { print $2 }'; }
trap 'echo "== journal"; journalctl -q --no-pager -u agentd -n 40' EXIT

echo "== cgroups"
stat -f -c %T /sys/fs/cgroup
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
echo "== setup"
dpkg --install /e2e/agentd.deb
ctr -n agentd images import /e2e/testd.tar
agentctl init --ring v2 --advertise 10.0.2.15
agentctl apply --yes -f /e2e/limited.toml
until_true 120 running limited
p=$(pid limited)
cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$p/cgroup")
echo "== path"
echo "$cgroup"
for f in memory.max memory.low cpu.max cpu.weight pids.max cgroup.procs; do
	echo "== $f"
	cat "$cgroup/$f"
done
echo "== pid"
echo "$p"
echo "== restart"
systemctl restart agentd
agentctl status
pid limited
echo "== apply"
agentctl apply --yes -f /e2e/greedy.toml
# The slice's count tells of a scope that is gone already.
cat /sys/fs/cgroup/agentd.slice/memory.events
oom() { agentctl status greedy -o json >/tmp/status || true; grep -q '"oom": *true' /tmp/status; }
until_true 120 oom
echo "== oom"
cat /tmp/status
echo "== doctor"
agentctl doctor -o json || true
echo "== others"
pid limited
echo "== done"
`

const limited = `name = "limited"
image = "` + lab.TestImageRef + `"
pull = "never"
network = "none"
[resources]
cpu = 0.2
memory = "48MiB"
memory_reserve = "16MiB"
cpu_weight = 50
pids = 64
`

const greedy = `name = "greedy"
image = "` + lab.TestImageRef + `"
pull = "never"
network = "none"
args = ["--eat-memory=200"]
[resources]
memory = "32MiB"
[restart]
backoff = "1h"
backoff_max = "1h"
`

// On a machine with cgroup version 2 only, limits are what was asked for, the
// OOM killer's work is called so, and an agent restart changes nothing.
//
// conformance: C6 F1
func TestCgroup2(t *testing.T) {
	if !lab.Asked("qemu") {
		t.Skipf("boots a kernel in QEMU, for minutes: make e2e-v2, or %s=qemu", lab.EnvRequire)
	}
	lab.Require(t, "root", "qemu")
	ctx := t.Context()
	image, err := Image(ctx)
	if err != nil {
		t.Fatal(err)
	}
	vm := VM{Dir: lab.TestDir(t), Image: image}
	if _, err := lab.TestImage(ctx, filepath.Join(vm.Dir, "testd.tar")); err != nil {
		t.Fatal(err)
	}
	if err := machines.Build(ctx, filepath.Join(vm.Dir, "packages"), "amd64", "0.1.0"); err != nil {
		t.Fatal(err)
	}
	debs, err := filepath.Glob(filepath.Join(vm.Dir, "packages", "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("packages: %q, %v", debs, err)
	}
	for name, from := range map[string]string{"agentd.deb": debs[0], "testd.tar": filepath.Join(vm.Dir, "testd.tar")} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := vm.Add(name, data); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"script": script, "limited.toml": limited, "greedy.toml": greedy} {
		if err := vm.Add(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	said, err := vm.Run(ctx)
	if err != nil {
		t.Fatalf("%v\nit said:\n%s", err, said)
	}
	check(t, said)
	if t.Failed() {
		t.Logf("the machine said:\n%s", said)
	}
}

func check(t *testing.T, said string) {
	got := Sections(said)
	if _, done := got["done"]; !done {
		t.Error("the script did not come to its end")
		return
	}
	for name, want := range map[string]string{
		"cgroups":    "cgroup2fs",
		"memory.max": "50331648", "memory.low": "16777216", "cpu.max": "20000 100000", "pids.max": "64",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	pid := got["pid"]
	if !strings.Contains(got["path"], "/agentd.slice/") || !strings.Contains("\n"+got["cgroup.procs"]+"\n", "\n"+pid+"\n") {
		t.Errorf("process %s is in %s with %q", pid, got["path"], got["cgroup.procs"])
	}
	if !strings.HasSuffix(got["restart"], "\n"+pid) || got["others"] != pid {
		t.Errorf("process %s became %q, then %q", pid, got["restart"], got["others"])
	}
	var st api.Status
	if err := json.Unmarshal([]byte(got["oom"]), &st); err != nil || len(st.Daemons) != 1 || len(st.Daemons[0].Nodes) != 1 {
		t.Fatalf("status of greedy: %v in %s", err, got["oom"])
	}
	// The first end was the OOM killer's already.
	if n := strings.Count(got["journal"], "ended by SIGKILL"); n > 0 {
		t.Errorf("%d ends were taken for somebody's SIGKILL", n)
	}
	n := st.Daemons[0].Nodes[0]
	if !n.OOM || n.ExitCode == nil || *n.ExitCode != 137 || !strings.Contains(strings.ToLower(n.Reason), "memory") {
		t.Errorf("status tells %+v, want oom, code 137 and memory in the reason", n)
	}
}

// What a script says is cut where it says so.
func TestSections(t *testing.T) {
	got := Sections("before\n== a\n1\n2\n== b\n\n== c d\n3\n== e\n")
	want := map[string]string{"": "before", "a": "1\n2", "b": "", "c d": "3", "e": ""}
	if len(got) != len(want) {
		t.Errorf("%q", got)
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%q is %q, want %q", name, got[name], text)
		}
	}
}
