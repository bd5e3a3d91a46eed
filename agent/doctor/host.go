package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/agentd/agentd/agent/config"
)

// containerd checks that it answers, and its version.
func containerd(ctx context.Context, m Machine, address string) []Finding {
	const start = "sudo systemctl start containerd; where it is missing: sudo apt-get install containerd, or sudo dnf install containerd.io; another socket goes into [runtime] address"
	path := strings.TrimPrefix(address, "unix://")
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{fail(CheckContainerd, "there is no containerd at "+path, start)}
	case err != nil:
		return []Finding{fail(CheckContainerd, flat(err), needsRoot(m, err))}
	case info.Mode().Type() != os.ModeSocket:
		return []Finding{fail(CheckContainerd, path+" is not a socket", "name containerd's in [runtime] address")}
	}
	var list []Finding
	if info.Mode().Perm()&0o002 != 0 {
		list = append(list, fail(CheckContainerd, fmt.Sprintf("%s has mode %04o: everybody on this machine can become root by it", path, info.Mode().Perm()), "chmod 660 "+path))
	}
	if err := m.Dial(ctx, "unix", path); err != nil {
		if errors.Is(err, fs.ErrPermission) && m.EUID != 0 {
			return append(list, warn(CheckContainerd, path+" can only be asked by root", "run this as root (sudo)"))
		}
		return append(list, fail(CheckContainerd, "nobody answers at "+path, start))
	}
	out, err := m.Run(ctx, "ctr", "--address", path, "version")
	switch version := parseServer(out); {
	case errors.Is(err, exec.ErrNotFound):
		return append(list, warn(CheckContainerd, "it takes connections, and its version is not known: there is no ctr on this machine", ""))
	case err != nil:
		return append(list, fail(CheckContainerd, "it takes connections and does not answer: "+flat(err), "sudo systemctl restart containerd (containers run on); see: journalctl -u containerd"))
	default:
		return append(list, judgeVersion(CheckContainerd, "containerd", version, oldestContainerd, containerdHoles))
	}
}

// runc checks its version.
func runc(ctx context.Context, m Machine) Finding {
	out, err := m.Run(ctx, "runc", "--version")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fail(CheckRunc, "there is no runc, without which containerd starts nothing", "install it: sudo apt-get install runc, or sudo dnf install runc")
	case err != nil:
		return fail(CheckRunc, "runc does not run: "+flat(err), "install it again")
	}
	return judgeVersion(CheckRunc, "runc", parseRunc(out), release{}, runcHoles)
}

// cgroups checks that the limits of daemons can be kept.
func cgroups(m Machine) []Finding {
	mounts, err := os.ReadFile(filepath.Join(m.Proc, "mounts"))
	if err != nil {
		return []Finding{warn(CheckCgroups, flat(err), "")}
	}
	unified, _ := os.ReadFile(filepath.Join(m.Sys, "fs/cgroup/cgroup.controllers")) // absent with v1
	return []Finding{judgeCgroups(string(mounts), string(unified))}
}

// judgeCgroups judges /proc/mounts, and the controllers at the unified
// hierarchy's root. Pure.
func judgeCgroups(mounts, unified string) Finding {
	var v1 []string // controllers
	v2, root := false, false
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		switch {
		case len(f) < 4:
		case f[2] == "cgroup2":
			v2 = true
			root = root || f[1] == "/sys/fs/cgroup"
		case f[2] == "cgroup":
			v1 = append(v1, strings.Split(f[3], ",")...)
		}
	}
	kind, have := "v1", v1
	switch {
	case root:
		kind, have = "v2", strings.Fields(unified)
	case v2 && len(v1) > 0:
		kind = "v1, hybrid"
	case len(v1) == 0:
		return fail(CheckCgroups, "no cgroups are mounted: containers can't start", "boot with systemd, or mount them: sudo apt-get install cgroupfs-mount")
	}
	var missing []string
	for _, c := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(have, c) {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return ok(CheckCgroups, kind+", with cpu, memory and pids")
	}
	fix := "switch them on, on the kernel's command line"
	if slices.Contains(missing, "memory") {
		fix = "boot with cgroup_enable=memory on the kernel's command line"
	}
	return fail(CheckCgroups, fmt.Sprintf("%s, without %s: daemons with such limits can't start", kind, strings.Join(missing, ", ")), fix)
}

var rootOf = regexp.MustCompile(`(?m)^root\s*=\s*['"]([^'"]+)['"]`)

// disks checks what is left where agentd and containerd write.
func disks(ctx context.Context, m Machine, cfg config.Config) []Finding {
	root := "/var/lib/containerd"
	if out, err := m.Run(ctx, "containerd", "config", "dump"); err == nil {
		if found := rootOf.FindStringSubmatch(out); found != nil {
			root = found[1]
		}
	}
	var list []Finding
	for _, path := range []string{cfg.Node.DataDir, root} {
		at := path
		for !exists(at) && at != "/" { // it will be made there
			at = filepath.Dir(at)
		}
		s, err := m.Space(at)
		if err != nil {
			list = append(list, warn(CheckDisk, flat(err), needsRoot(m, err)))
			continue
		}
		list = append(list, judgeSpace(path, s))
	}
	return list
}

// judgeSpace judges what is left in a folder's file system. Pure.
func judgeSpace(path string, s Space) Finding {
	const mib = 1 << 20
	share := func(part, whole uint64) int { return int(100 * part / max(whole, 1)) }
	const fix = "make room: agentctl volumes prune; images: ctr --namespace agentd images prune --all; the journal: journalctl --vacuum-size=500M"
	text := fmt.Sprintf("%s: %d MiB free (%d%%)", path, s.Free/mib, share(s.Free, s.Size))
	if s.Most > 0 {
		text += fmt.Sprintf(", %d%% of inodes", share(s.Inodes, s.Most))
	}
	switch {
	case s.Free < 50*mib, s.Most > 0 && s.Inodes*100 < s.Most:
		return fail(CheckDisk, text, fix)
	case s.Free < 500*mib, s.Free*20 < s.Size && s.Free < 5<<30, s.Most > 0 && s.Inodes*20 < s.Most:
		return warn(CheckDisk, text, fix)
	}
	return ok(CheckDisk, text)
}

// clock checks that something keeps the clock right. agentd decides nothing by
// other machines' clocks; people who read its times do.
func clock(m Machine) Finding {
	synced, err := m.Synced()
	switch {
	case err != nil:
		return warn(CheckClock, "whether the clock is kept right is not known: "+flat(err), "")
	case !synced:
		return warn(CheckClock, "nothing keeps the clock right, as far as the kernel knows", "sudo timedatectl set-ntp true, or install chrony")
	}
	return ok(CheckClock, "kept right")
}

// ports checks that agentd listens, or could: a port that it listens at is taken.
// Connecting would tell less, and look like a stranger to agentd.
func ports(m Machine, cfg config.Config, runs bool) []Finding {
	want := []struct{ network, addr, key string }{
		{"tcp", cfg.Ring.Bind, "[ring] bind"}, {"udp", cfg.Ring.Bind, "[ring] bind"}, {"tcp", cfg.Peer.Bind, "[peer] bind"},
	}
	var list []Finding
	for _, w := range want {
		err := m.Try(w.network, w.addr)
		switch taken := errors.Is(err, syscall.EADDRINUSE); {
		case taken && runs, err == nil && !runs:
		case err == nil:
			list = append(list, fail(CheckPorts, fmt.Sprintf("agentd does not listen at %s %s", w.network, w.addr), "see: journalctl -u agentd; was "+w.key+" changed? Then: sudo systemctl restart agentd"))
		case taken:
			list = append(list, fail(CheckPorts, fmt.Sprintf("%s %s is taken by another program", w.network, w.addr),
				fmt.Sprintf("find it: sudo ss -lnp --%s; or choose another %s", w.network, w.key)))
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			list = append(list, fail(CheckPorts, w.addr+" is no address of this machine", "mend "+w.key))
		default:
			list = append(list, fail(CheckPorts, fmt.Sprintf("%s %s: %v", w.network, w.addr, err), needsRoot(m, err)))
		}
	}
	if len(list) > 0 {
		return list
	}
	if runs {
		return []Finding{ok(CheckPorts, fmt.Sprintf("agentd listens at %s and %s", cfg.Ring.Bind, cfg.Peer.Bind))}
	}
	return []Finding{ok(CheckPorts, fmt.Sprintf("%s and %s are free", cfg.Ring.Bind, cfg.Peer.Bind))}
}

// service checks agentd's unit, where systemd runs this machine.
func service(ctx context.Context, m Machine) []Finding {
	if !m.Booted {
		return nil
	}
	out, err := m.Run(ctx, "systemctl", "show", "agentd.service", "--property", "LoadState,ActiveState,UnitFileState,NRestarts,NeedDaemonReload")
	if err != nil {
		return []Finding{warn(CheckService, "systemd does not tell: "+flat(err), "")}
	}
	props := map[string]string{}
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		props[k] = v
	}
	return judgeService(props)
}

// judgeService judges what systemctl show says. Pure.
func judgeService(p map[string]string) []Finding {
	if p["LoadState"] != "loaded" {
		return nil // not installed as a package: nothing to judge
	}
	var list []Finding
	if p["ActiveState"] != "active" {
		list = append(list, fail(CheckService, "agentd.service is "+p["ActiveState"], "sudo systemctl start agentd; see: systemctl status agentd"))
	}
	if p["UnitFileState"] == "disabled" {
		list = append(list, warn(CheckService, "agentd does not start with this machine", "sudo systemctl enable agentd"))
	}
	if n := p["NRestarts"]; n != "" && n != "0" {
		list = append(list, warn(CheckService, "systemd has had to restart agentd, "+map[bool]string{true: "once", false: n + " times"}[n == "1"], "see why: journalctl -u agentd; to count anew: systemctl reset-failed agentd"))
	}
	if p["NeedDaemonReload"] == "yes" {
		list = append(list, warn(CheckService, "agentd.service changed on disk", "sudo systemctl daemon-reload"))
	}
	if len(list) == 0 {
		list = append(list, ok(CheckService, "agentd.service is active and starts with this machine"))
	}
	return list
}
