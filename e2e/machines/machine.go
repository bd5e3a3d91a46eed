package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/e2e/lab"
)

// Namespace is the containerd namespace of an installed agentd.
const Namespace = "agentd"

// bootLimit is how long a machine may take until its units are started.
const bootLimit = 2 * time.Minute

// Machine is one Debian machine. Its root is kept over power cuts and reboots.
type Machine struct {
	lab.NetNode
	Dir    string // on this machine: upper, work, merged, containerd, agentd, console.log
	Leader int    // PID of its systemd as seen from here; 0 while it is off
	world  *World
	nspawn *lab.Process
}

// Each machine gets a subtree of every cgroup hierarchy, or two of them would
// meet in the same paths.
const nspawnScript = `set -e
for c in /sys/fs/cgroup/*; do
	mountpoint -q "$c" || continue
	mkdir -p "$c/$1"
	if [ -e "$c/cpuset.cpus" ]; then
		cat "$c/cpuset.cpus" >"$c/$1/cpuset.cpus"
		cat "$c/cpuset.mems" >"$c/$1/cpuset.mems"
	fi
	echo $$ >"$c/$1/cgroup.procs"
done
shift
exec "$@"`

// Boot mounts the machine's root, switches it on and returns when systemd has
// started all units.
func (m *Machine) Boot(ctx context.Context) error {
	if err := m.mount(); err != nil {
		return err
	}
	args := []string{"sh", "-c", nspawnScript, "sh", m.NetNS,
		"systemd-nspawn", "--quiet", "-D", m.Path("/"), "-M", m.NetNS, "--hostname=" + m.Name,
		"--boot", "--register=no", "--keep-unit", "--capability=all", "--system-call-filter=@known",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--network-namespace-path=/run/netns/" + m.NetNS,
		// overlayfs does not stack on the root, itself one.
		"--bind=" + filepath.Join(m.Dir, "containerd") + ":/var/lib/containerd",
	}
	var err error
	m.nspawn, err = lab.StartProcess(lab.ProcessConfig{ID: m.world.ID, Args: args, Log: filepath.Join(m.Dir, "console.log")})
	if err != nil {
		return err
	}
	err = lab.Within(ctx, bootLimit, func(ctx context.Context) error {
		if !m.nspawn.Running() {
			return fmt.Errorf("nspawn exited with code %d", m.nspawn.ExitCode())
		}
		if m.Leader, err = m.leader(); err != nil {
			return err
		}
		res, err := m.Exec(ctx, "systemctl", "is-system-running")
		if state := strings.TrimSpace(res.Stdout); err == nil && state != "running" && state != "degraded" {
			err = fmt.Errorf("it is %q: %s", state, res.Stderr)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("boot %s: %w; its console ends:\n%s", m.Name, err, m.nspawn.Tail())
	}
	return nil
}

// mount makes the machine's root: the tree, with what this machine writes on
// top of it.
func (m *Machine) mount() error {
	mounts, err := lab.Mounts()
	if err != nil {
		return err
	}
	for _, mounted := range mounts {
		if mounted == m.Path("/") {
			return nil
		}
	}
	for _, dir := range []string{"upper", "work", "merged", "containerd"} {
		if err := os.MkdirAll(filepath.Join(m.Dir, dir), 0o755); err != nil {
			return fmt.Errorf("make the root of %s: %w", m.Name, err)
		}
	}
	how := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", m.world.tree, filepath.Join(m.Dir, "upper"), filepath.Join(m.Dir, "work"))
	if err := syscall.Mount("overlay", m.Path("/"), "overlay", 0, how); err != nil {
		return fmt.Errorf("mount the root of %s: %w", m.Name, err)
	}
	return nil
}

// leader finds nspawn's child that is PID 1 of the machine.
func (m *Machine) leader() (int, error) {
	procs, err := lab.Procs()
	if err != nil {
		return 0, err
	}
	for _, p := range procs {
		if p.PPID == m.nspawn.PID && p.Base() == "systemd" {
			return p.PID, nil
		}
	}
	return 0, errors.New("systemd does not run yet")
}

// Path is a path of the machine's root file system as seen from here, whether
// it runs or not. What is mounted inside (/run, /tmp) is under Inside.
func (m *Machine) Path(path string) string { return filepath.Join(m.Dir, "merged", path) }

// Inside is a path as the running machine sees it.
func (m *Machine) Inside(path string) string {
	return filepath.Join("/proc", fmt.Sprint(m.Leader), "root", path)
}

// Exec runs a command inside.
func (m *Machine) Exec(ctx context.Context, argv ...string) (lab.Result, error) {
	return m.ExecInput(ctx, "", argv...)
}

// ExecInput is Exec with an input.
func (m *Machine) ExecInput(ctx context.Context, stdin string, argv ...string) (lab.Result, error) {
	enter := []string{"nsenter", "--target", fmt.Sprint(m.Leader), "--all", "env", "-i",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive"}
	return lab.ExecEnv(ctx, nil, stdin, append(enter, argv...)...)
}

// Must is Exec with a non-zero exit as an error; it returns stdout.
func (m *Machine) Must(ctx context.Context, argv ...string) (string, error) {
	res, err := m.Exec(ctx, argv...)
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return res.Stdout, fmt.Errorf("run %q on %s: exit %d: %s", strings.Join(argv, " "), m.Name, res.Code, res.Output())
	}
	return res.Stdout, nil
}

// Copy puts a file of this machine into the root of that one.
func (m *Machine) Copy(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", m.Name, err)
	}
	defer in.Close()
	out, err := os.Create(m.Path(to))
	if err != nil {
		return fmt.Errorf("copy to %s: %w", m.Name, err)
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return fmt.Errorf("copy to %s: %w", m.Name, err)
	}
	return out.Close()
}

// PowerCut ends everything at once, without a word to anybody inside.
func (m *Machine) PowerCut() error {
	if err := syscall.Kill(m.Leader, syscall.SIGKILL); err != nil {
		return fmt.Errorf("cut the power of %s: %w", m.Name, err)
	}
	return m.off()
}

// Shutdown switches it off as an operator would.
func (m *Machine) Shutdown(ctx context.Context) error {
	if _, err := m.Exec(ctx, "systemctl", "--no-block", "poweroff"); err != nil {
		return err
	}
	return m.off()
}

// off waits until nspawn has ended, and with it all processes of the machine.
func (m *Machine) off() error {
	timer := time.NewTimer(3 * time.Minute)
	defer timer.Stop()
	select {
	case <-m.nspawn.Done():
		m.Leader = 0
		return nil
	case <-timer.C:
		return fmt.Errorf("%s did not go off; its console ends:\n%s", m.Name, m.nspawn.Tail())
	}
}

// Containerd is the machine's containerd.
func (m *Machine) Containerd() *lab.Containerd {
	return &lab.Containerd{Address: m.Inside("run/containerd/containerd.sock"), Dir: m.Dir, Proc: m.Inside("proc")}
}

// Unit is one property of a unit, as systemctl shows it.
func (m *Machine) Unit(ctx context.Context, unit, property string) (string, error) {
	out, err := m.Must(ctx, "systemctl", "show", "--value", "--property="+property, unit)
	return strings.TrimSpace(out), err
}

// Journal is the end of a unit's journal, of all boots; "" is everything.
func (m *Machine) Journal(ctx context.Context, unit string, lines int) string {
	argv := []string{"journalctl", "--no-pager", "--quiet", "-n", fmt.Sprint(lines)}
	if unit != "" {
		argv = append(argv, "-u", unit)
	}
	var res lab.Result
	var err error
	if m.Leader != 0 {
		res, err = m.Exec(ctx, argv...)
	} else {
		res, err = lab.Exec(ctx, append(argv, "--root="+m.Path("/"))...)
	}
	if err != nil {
		return err.Error()
	}
	return res.Output()
}

// Get fetches a URL from inside the machine's network.
func (m *Machine) Get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialIn(ctx, "/run/netns/"+m.NetNS, network, address)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s", url, resp.Status)
	}
	return string(body), err
}

// dialIn connects from within a network namespace.
func dialIn(ctx context.Context, netns, network, address string) (net.Conn, error) {
	type answer struct {
		conn net.Conn
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		// The thread is not given back, and ends with this goroutine.
		goruntime.LockOSThread()
		ns, err := os.Open(netns)
		if err != nil {
			answers <- answer{err: err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			answers <- answer{err: fmt.Errorf("enter %s: %w", netns, err)}
			return
		}
		// A literal address: with a name, another thread would do the work.
		conn, err := (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
		answers <- answer{conn, err}
	}()
	a := <-answers
	return a.conn, a.err
}
