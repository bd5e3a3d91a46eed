package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

// expect checks the findings of a check: "result words", one for each.
func expect(t *testing.T, list []Finding, check string, want ...string) {
	t.Helper()
	var got []string
	for _, f := range list {
		if f.Check == check {
			got = append(got, string(f.Result)+" "+f.Detail+" | "+f.Fix)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: got %q, want %q", check, got, want)
		return
	}
	for i, w := range want {
		result, words, _ := strings.Cut(w, " ")
		if !strings.HasPrefix(got[i], result+" ") || !strings.Contains(got[i], words) {
			t.Errorf("%s: got %q, want %q", check, got[i], w)
		}
	}
}

const hybrid = `tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
`

// healthy is a machine on which nothing is wrong.
func healthy(t *testing.T) Machine {
	proc := t.TempDir()
	if err := os.WriteFile(filepath.Join(proc, "mounts"), []byte(hybrid), 0o644); err != nil {
		t.Fatal(err)
	}
	return Machine{
		Proc: proc, Sys: t.TempDir(), Booted: true, EUID: os.Geteuid(),
		Run: func(_ context.Context, name string, args ...string) (string, error) {
			switch name + " " + args[0] {
			case "ctr --address":
				return "Client:\n  Version:  1.0.0\n\nServer:\n  Version:  2.3.7\n  Revision: x\n", nil
			case "runc --version":
				return "runc version 1.4.2\nspec: 1.2.0\n", nil
			case "containerd config":
				return "version = 3\nroot = '/srv/containerd'\n", nil
			case "systemctl show":
				return "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNRestarts=0\nNeedDaemonReload=no\n", nil
			}
			return "", fmt.Errorf("unexpected: %s %q", name, args)
		},
		Space:  func(string) (Space, error) { return Space{100 << 30, 200 << 30, 900, 1000}, nil },
		Synced: func() (bool, error) { return true, nil },
		Try:    func(string, string) error { return nil },
		Dial:   func(context.Context, string, string) error { return nil },
	}
}

// node writes the files of a node and returns what to examine.
func node(t *testing.T) (Subject, string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, text []byte, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
	}
	alice, err := record.GenerateKey("alice")
	if err != nil {
		t.Fatal(err)
	}
	write("ring.key", config.NewRingKey().Marshal(), 0o600)
	write("trust.d/alice.pub", alice.Public().Marshal(), 0o644)
	write("operator.key", alice.Marshal(), 0o600)
	write("data/node.key", []byte("x"), 0o600)
	write("agentd.toml", fmt.Appendf(nil, "[node]\nname = \"n1\"\ndata_dir = %q\n[ring]\nkey_file = %q\n[trust]\ndir = %q\n[runtime]\naddress = %q\n",
		dir+"/data", dir+"/ring.key", dir+"/trust.d", dir+"/c.sock"), 0o644)
	l, err := net.Listen("unix", dir+"/c.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Chmod(dir+"/c.sock", 0o660); err != nil {
		t.Fatal(err)
	}
	return Subject{File: dir + "/agentd.toml", OperatorKey: dir + "/operator.key"}, dir
}

func TestNothingWrong(t *testing.T) {
	s, dir := node(t)
	for _, s.Runs = range []bool{false, true} {
		m := healthy(t)
		if s.Runs { // and listens
			m.Try = func(string, string) error { return syscall.EADDRINUSE }
		}
		list, loaded := Examine(t.Context(), m, s)
		if loaded == nil || Worst(list) != OK {
			t.Errorf("%+v", list)
		}
		for _, f := range list {
			if f.Fix != "" || f.Detail == "" || strings.Contains(f.Detail, "\n") {
				t.Errorf("%+v", f)
			}
		}
		expect(t, list, CheckDisk, "ok "+dir+"/data: 102400 MiB free (50%), 90% of inodes", "ok /srv/containerd: ")
	}
}

// Each of these breaks one thing, and is told as such.
func TestWhatIsWrongIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(t *testing.T, m *Machine, s *Subject, dir string)
		check string
		want  []string
	}{
		"no configuration": {func(_ *testing.T, _ *Machine, s *Subject, _ string) { s.File += ".none" }, CheckConfig,
			[]string{"fail agentctl init makes one"}},
		"two problems in it": {func(t *testing.T, _ *Machine, _ *Subject, dir string) {
			put(t, dir+"/agentd.toml", "[node]\nnam = \"x\"\n[log]\nlevel = \"loud\"\n")
		}, CheckConfig, []string{"fail agentd.toml:2: ", "fail agentd.toml:4: "}},
		"an open ring key":     {chmod("ring.key", 0o644), CheckKeys, []string{"fail ring.key: holds a secret and has mode 0644, which lets others read or write it | chmod 600"}},
		"an open node key":     {chmod("data/node.key", 0o640), CheckKeys, []string{"ok ring.key", "fail data/node.key: holds a secret"}},
		"an open operator key": {chmod("operator.key", 0o604), CheckKeys, []string{"ok ring.key", "fail operator.key: holds a secret"}},
		"an open public key":   {chmod("trust.d/alice.pub", 0o666), CheckTrust, []string{"fail others than its owner can write it | chmod go-w"}},
		"a stranger's key": {func(t *testing.T, _ *Machine, _ *Subject, dir string) {
			bob, err := record.GenerateKey("bob")
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir+"/operator.key", string(bob.Marshal()))
		}, CheckTrust, []string{"ok trusted: ", "warn is not among them: what you sign is refused here | agentctl key list"}},
		"no operator":         {func(t *testing.T, _ *Machine, _ *Subject, dir string) { os.Remove(dir + "/trust.d/alice.pub") }, CheckTrust, []string{"fail no operator is trusted"}},
		"an open data_dir":    {chmod("data", 0o755), CheckFiles, []string{"warn mode 0755: more than root can use it | chmod 750"}},
		"a writable data_dir": {chmod("data", 0o777), CheckFiles, []string{"fail mode 0777"}},
		"no data_dir":         {func(t *testing.T, _ *Machine, _ *Subject, dir string) { os.RemoveAll(dir + "/data") }, CheckFiles, []string{"ok is made at the first start"}},
		"no containerd":       {func(t *testing.T, _ *Machine, _ *Subject, dir string) { os.Remove(dir + "/c.sock") }, CheckContainerd, []string{"fail there is no containerd at"}},
		"an open containerd":  {chmod("c.sock", 0o666), CheckContainerd, []string{"fail everybody on this machine can become root", "ok containerd 2.3.7"}},
		"a containerd that died": {func(_ *testing.T, m *Machine, _ *Subject, _ string) {
			m.Dial = func(context.Context, string, string) error { return syscall.ECONNREFUSED }
		}, CheckContainerd, []string{"fail nobody answers at"}},
		"a containerd that hangs": {replies("ctr", "", errors.New("no answer within 5s")), CheckContainerd, []string{"fail takes connections and does not answer: no answer within 5s | sudo systemctl restart containerd"}},
		"no ctr":                  {replies("ctr", "", exec.ErrNotFound), CheckContainerd, []string{"warn its version is not known"}},
		"an old containerd":       {replies("ctr", "Server:\n  Version: v1.5.9\n", nil), CheckContainerd, []string{"fail older than any"}},
		"Debian's containerd":     {replies("ctr", "Server:\n  Version: 1.6.20~ds1\n", nil), CheckContainerd, []string{"warn CVE-2024-40635"}},
		"no runc":                 {replies("runc", "", exec.ErrNotFound), CheckRunc, []string{"fail there is no runc"}},
		"an odd runc":             {replies("runc", "crun version one", nil), CheckRunc, []string{"warn not understood"}},
		"a full disk": {func(_ *testing.T, m *Machine, _ *Subject, _ string) {
			m.Space = func(string) (Space, error) { return Space{10 << 20, 10 << 30, 900, 1000}, nil }
		}, CheckDisk, []string{"fail 10 MiB free (0%)", "fail make room"}},
		"a clock on its own": {func(_ *testing.T, m *Machine, _ *Subject, _ string) {
			m.Synced = func() (bool, error) { return false, nil }
		}, CheckClock, []string{"warn timedatectl"}},
		"a taken port": {func(_ *testing.T, m *Machine, _ *Subject, _ string) {
			m.Try = func(network, addr string) error {
				if network == "udp" {
					return &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
				}
				return nil
			}
		}, CheckPorts, []string{"fail udp 0.0.0.0:7946 is taken by another program | find it: sudo ss -lnp --udp"}},
		"an address of another machine": {func(_ *testing.T, m *Machine, _ *Subject, _ string) {
			m.Try = func(string, string) error { return syscall.EADDRNOTAVAIL }
		}, CheckPorts, []string{"fail is no address of this machine", "fail mend [ring] bind", "fail mend [peer] bind"}},
		"an agentd that does not listen": {func(_ *testing.T, m *Machine, s *Subject, _ string) {
			s.Runs = true
			m.Try = func(network, addr string) error {
				if addr == "0.0.0.0:7947" {
					return nil
				}
				return syscall.EADDRINUSE
			}
		}, CheckPorts, []string{"fail agentd does not listen at tcp 0.0.0.0:7947"}},
		"a unit with troubles": {replies("systemctl", "LoadState=loaded\nActiveState=failed\nUnitFileState=disabled\nNRestarts=4\nNeedDaemonReload=yes\n", nil), CheckService,
			[]string{"fail agentd.service is failed", "warn does not start with this machine", "warn restart agentd, 4 times", "warn daemon-reload"}},
		"no unit": {replies("systemctl", "LoadState=not-found\n", nil), CheckService, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := node(t)
			m := healthy(t)
			c.edit(t, &m, &s, dir)
			list, _ := Examine(t.Context(), m, s)
			expect(t, list, c.check, c.want...)
		})
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func chmod(name string, mode os.FileMode) func(*testing.T, *Machine, *Subject, string) {
	return func(t *testing.T, _ *Machine, _ *Subject, dir string) {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// replies makes a program answer something else.
func replies(program, out string, err error) func(*testing.T, *Machine, *Subject, string) {
	return func(_ *testing.T, m *Machine, _ *Subject, _ string) {
		before := m.Run
		m.Run = func(ctx context.Context, name string, args ...string) (string, error) {
			if name == program {
				return out, err
			}
			return before(ctx, name, args...)
		}
	}
}

func TestJudgeCgroups(t *testing.T) {
	const v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
	for name, c := range map[string]struct{ mounts, unified, want string }{
		"hybrid":         {hybrid, "", "ok v1, hybrid"},
		"v2":             {v2, "cpuset cpu io memory pids\n", "ok v2, with cpu"},
		"v2, no memory":  {v2, "cpuset cpu io pids\n", "fail v2, without memory: daemons with such limits can't start | boot with cgroup_enable=memory"},
		"v2, none":       {v2, "", "fail without cpu, memory, pids"},
		"v1 alone":       {strings.ReplaceAll(hybrid, "cgroup2", "tmpfs"), "", "ok v1, with"},
		"v1, no pids":    {strings.ReplaceAll(hybrid, "pids", "freezer"), "", "fail without pids"},
		"nothing":        {"tmpfs / tmpfs rw 0 0\nshort\n", "", "fail no cgroups are mounted"},
		"v2 but no root": {"cgroup2 /elsewhere cgroup2 rw 0 0\n", "", "fail no cgroups"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, []Finding{judgeCgroups(c.mounts, c.unified)}, CheckCgroups, c.want) })
	}
}

func TestJudgeSpace(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		s    Space
		want string
	}{
		"plenty":                  {Space{50 * gib, 100 * gib, 50, 100}, "ok 51200 MiB free (50%), 50% of inodes"},
		"no inodes to count":      {Space{50 * gib, 100 * gib, 0, 0}, "ok /d: 51200 MiB free (50%)"},
		"little of a large disk":  {Space{40 * gib, 1000 * gib, 50, 100}, "ok 4%"},
		"little of a small one":   {Space{gib, 40 * gib, 50, 100}, "warn 2%"},
		"less than an image":      {Space{400 << 20, gib, 50, 100}, "warn 400 MiB"},
		"nothing":                 {Space{0, gib, 50, 100}, "fail 0 MiB free (0%)"},
		"few inodes":              {Space{50 * gib, 100 * gib, 4, 100}, "warn 4% of inodes"},
		"no inodes":               {Space{50 * gib, 100 * gib, 0, 100}, "fail 0% of inodes"},
		"a file system of nobody": {Space{}, "fail 0 MiB"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, []Finding{judgeSpace("/d", c.s)}, CheckDisk, c.want) })
	}
}

func TestHoles(t *testing.T) {
	for version, want := range map[string]string{
		"1.6.20~ds1": "CVE-2024-40635 CVE-2024-25621 CVE-2026-53488",
		"1.6.40":     "CVE-2024-25621 CVE-2026-53488",
		"v1.7.26":    "CVE-2024-40635 CVE-2024-25621 CVE-2026-53488",
		"1.7.30":     "CVE-2026-46680 CVE-2026-53488",
		"1.7.33":     "", "2.0.10": "", "2.1.9": "CVE-2026-46680", "2.2.5": "", "2.3.2": "", "2.4.0": "", "3.0": "",
		"2.1.5":      "CVE-2026-46680 CVE-2026-53488",
		"2.2.0-rc.1": "CVE-2026-46680 CVE-2026-53488",
		"2.3.1":      "CVE-2026-53488",
	} {
		v, ok := parseRelease(version)
		if !ok {
			t.Fatalf("%s is not understood", version)
		}
		var got []string
		for _, h := range containerdHoles {
			if h.in(v) {
				got = append(got, h.name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s has %q, want %q", version, got, want)
		}
	}
	f := judgeVersion(CheckContainerd, "containerd", "1.7.20", oldestContainerd, containerdHoles)
	if f.Result != Warn || f.Fix != "upgrade containerd to 1.7.33 or newer; running containers go on" {
		t.Errorf("%+v", f)
	}
	if f := judgeVersion(CheckRunc, "runc", "1.1.5+ds1", release{}, runcHoles); f.Result != Warn || !strings.Contains(f.Fix, "1.2.8") {
		t.Errorf("%+v", f)
	}
	if f := judgeVersion(CheckRunc, "runc", "1.3.3", release{}, runcHoles); f.Result != OK {
		t.Errorf("%+v", f)
	}
}

func TestRing(t *testing.T) {
	well := func() Answers {
		return Answers{
			Info:   api.Info{Version: "1.2.0", Node: "n1", RingName: "prod", PID: 42},
			Status: api.Status{Ring: api.RingStatus{Nodes: api.NodeCounts{Alive: 2}, Holding: 2, InSync: true}},
			Nodes:  api.Nodes{Nodes: []api.Node{{Name: "n1", State: "alive", Version: "1.2.0"}, {Name: "n2", State: "alive", Version: "1.2.0"}}},
			Reach:  &api.Reach{Peers: []api.ReachPeer{{Node: "n2", State: "alive", Known: true, Sees: "alive"}}},
			Own:    "1.2.0",
		}
	}
	for name, c := range map[string]struct {
		edit  func(*Answers)
		check string
		want  []string
	}{
		"well":          {func(*Answers) {}, CheckRing, []string{"ok 2 alive, all hold the same records"}},
		"itself":        {func(*Answers) {}, CheckAgent, []string{"ok 1.2.0 runs as process 42, node n1 of ring prod"}},
		"both ways":     {func(*Answers) {}, CheckReach, []string{"ok both ways, to and from 1 node"}},
		"clocks agree":  {func(a *Answers) { a.Reach.Peers[0].Skew = -1.9 }, CheckClock, nil},
		"clocks differ": {func(a *Answers) { a.Reach.Peers[0].Skew = -61 }, CheckClock, []string{"warn n2 by -61 s"}},
		"left":          {func(a *Answers) { a.Info.Left = true }, CheckRing, []string{"warn left its ring", "ok 2 alive"}},
		"notes":         {func(a *Answers) { a.Status.Ring.Notes = []string{"two\nlines"} }, CheckRing, []string{"warn two lines"}},
		"a dead node":   {func(a *Answers) { a.Status.Ring.Nodes.Failed = 1 }, CheckRing, []string{"warn 1 of 3 nodes can't be reached | see: agentctl nodes"}},
		"behind":        {func(a *Answers) { a.Status.Ring.InSync, a.Status.Ring.Holding = false, 1 }, CheckRing, []string{"warn 1 of 2 nodes hold"}},
		"alone":         {func(a *Answers) { a.Reach.Peers = nil }, CheckReach, []string{"ok there is no other node yet"}},
		"an old agentd": {func(a *Answers) { a.Reach = nil }, CheckReach, nil},
		"an old peer":   {func(a *Answers) { a.Reach.Peers[0] = api.ReachPeer{Node: "n2", State: "alive"} }, CheckReach, []string{"ok too old to tell"}},
		"many":          {func(a *Answers) { a.Reach.Untried = 7 }, CheckReach, []string{"ok both ways", "ok 7 nodes more were not tried"}},
		"out":           {func(a *Answers) { a.Reach.Peers[0].Out = "gossip (TCP): refused" }, CheckReach, []string{"fail n2 can't be reached from here: gossip (TCP): refused | open TCP and UDP"}},
		"out to the dead": {func(a *Answers) { a.Reach.Peers[0].Out, a.Reach.Peers[0].State = "no", "failed" }, CheckReach,
			[]string{"warn n2 (failed) can't be reached"}},
		"in":            {func(a *Answers) { a.Reach.Peers[0].In = "it does not answer" }, CheckReach, []string{"fail n2 can't reach this node: it does not answer | open TCP and UDP of [ring] bind (7946) and TCP of [peer] bind (7947) on this machine"}},
		"udp":           {func(a *Answers) { a.Reach.Peers[0].Sees = "suspect" }, CheckReach, []string{"warn n2 takes this node for suspect, though it reaches it over TCP"}},
		"one version":   {func(*Answers) {}, CheckVersions, []string{"ok every node runs 1.2.0"}},
		"two versions":  {func(a *Answers) { a.Nodes.Nodes[1].Version = "1.1.0" }, CheckVersions, []string{"warn 2 versions of agentd run"}},
		"not restarted": {func(a *Answers) { a.Own = "1.3.0" }, CheckVersions, []string{"warn agentctl is 1.3.0 and agentd 1.2.0 | after an upgrade"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := well()
			c.edit(&a)
			expect(t, Ring(a), c.check, c.want...)
		})
	}
}

func TestJudgeSocket(t *testing.T) {
	cfg := config.API{Socket: "/run/a.sock", Group: "agentd"}
	for _, c := range []struct {
		mode            os.FileMode
		uid, gid, group int
		want            string
	}{
		{0o660, 0, 7, 7, "ok root and group agentd"},
		{0o666, 0, 7, 7, "fail everybody on this machine may read | chmod 660 /run/a.sock"},
		{0o600, 0, 0, -1, "warn there is no group agentd: only root may use agentctl | groupadd --system agentd"},
		{0o600, 0, 0, 7, "warn is not the group agentd's"},
		{0o660, 0, 8, 7, "warn is not the group agentd's"},
		{0o660, 5, 7, 7, "warn owned by user 5"},
	} {
		expect(t, judgeSocket(cfg, c.mode, c.uid, c.gid, c.group), CheckSocket, c.want)
	}
	cfg.Group = ""
	expect(t, judgeSocket(cfg, 0o600, 0, 0, -1), CheckSocket, "ok root's alone")
}

// What this very machine is like is anybody's guess; that it can be looked at
// is not.
func TestThisMachine(t *testing.T) {
	s, dir := node(t)
	if err := os.Remove(dir + "/c.sock"); err != nil { // nobody would answer there
		t.Fatal(err)
	}
	list, loaded := Examine(t.Context(), This(), s)
	Sort(list)
	if loaded == nil || len(list) < 8 || list[0].Check != CheckConfig {
		t.Errorf("%+v", list)
	}
	for _, f := range list {
		if rank(f.Result) < 0 || f.Detail == "" {
			t.Errorf("%+v", f)
		}
	}
	if Count(list, OK)+Count(list, Warn)+Count(list, Fail) != len(list) {
		t.Error("findings are not counted")
	}
}
