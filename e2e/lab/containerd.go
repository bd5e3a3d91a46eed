package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ContainerdConfig says what to start.
type ContainerdConfig struct {
	Dir         string // holds everything of it; kept short, for unix sockets; not on an overlay
	NetNS       string // name under /run/netns; its host-network containers are in it too
	ID          string // lab id, marks the process; "" for none
	Binary      string // default "containerd" from PATH; its shim is looked for beside it first
	Snapshotter string // for ctr run; default: containerd's
}

// Containerd is a private containerd: own root, state, address and log.
type Containerd struct {
	Address string // of its socket
	PID     int
	Dir     string
	Proc    string // where the processes that it tells of are seen; "" is /proc
	cfg     ContainerdConfig
	proc    *Process
	env     []string
}

// containerd writes below /opt and /run unless told otherwise; the CRI and NRI
// plugins would listen on well-known paths.
const containerdConfig = `version = 2
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.restart", "io.containerd.monitor.container.v1.restart"]
[grpc]
address = %[3]q
[ttrpc]
address = %[4]q
[plugins."io.containerd.internal.v1.opt"]
path = %[5]q
`

// StartContainerd starts a containerd and returns once it answers.
func StartContainerd(ctx context.Context, cfg ContainerdConfig) (*Containerd, error) {
	if cfg.Binary == "" {
		cfg.Binary = "containerd"
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("make containerd's folder: %w", err)
	}
	c := &Containerd{Address: filepath.Join(cfg.Dir, "c.sock"), Dir: cfg.Dir, cfg: cfg}
	if strings.Contains(cfg.Binary, "/") {
		c.env = []string{"PATH=" + filepath.Dir(cfg.Binary) + ":" + os.Getenv("PATH")}
	}
	conf := fmt.Sprintf(containerdConfig, c.root(), c.state(), c.Address,
		filepath.Join(cfg.Dir, "t.sock"), filepath.Join(cfg.Dir, "opt"))
	if err := os.WriteFile(c.config(), []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write containerd's configuration: %w", err)
	}
	if err := c.Start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Containerd) root() string   { return filepath.Join(c.Dir, "root") }
func (c *Containerd) state() string  { return filepath.Join(c.Dir, "state") }
func (c *Containerd) config() string { return filepath.Join(c.Dir, "config.toml") }

// Args is the daemon's command line.
func (c *Containerd) Args() []string { return []string{c.cfg.Binary, "--config", c.config()} }

// Start starts it again after Kill or Terminate, on the same folders.
func (c *Containerd) Start(ctx context.Context) error {
	if c.proc != nil && c.proc.Running() {
		return nil
	}
	proc, err := StartProcess(ProcessConfig{
		ID: c.cfg.ID, NetNS: c.cfg.NetNS, Env: c.env,
		Args: c.Args(),
		Log:  filepath.Join(c.Dir, "containerd.log"),
	})
	if err != nil {
		return err
	}
	c.proc, c.PID = proc, proc.PID
	err = Within(ctx, 30*time.Second, func(ctx context.Context) error {
		if !proc.Running() {
			return nil
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", c.Address)
		if err != nil {
			return err
		}
		_ = conn.Close()
		_, err = c.Ctr(ctx, "", "version")
		return err
	})
	if err == nil && !proc.Running() {
		err = errors.New("it exited")
	}
	if err != nil {
		return fmt.Errorf("start containerd: %w; its log ends:\n%s", err, proc.Tail())
	}
	return nil
}

// Kill ends the daemon with SIGKILL; its containers go on.
func (c *Containerd) Kill() error {
	if c.proc == nil {
		return nil
	}
	return c.proc.Kill()
}

// Terminate ends the daemon with SIGTERM; its containers go on.
func (c *Containerd) Terminate() error {
	if c.proc == nil {
		return nil
	}
	return c.proc.Stop(syscall.SIGTERM, 10*time.Second)
}

// Restart is Terminate and Start.
func (c *Containerd) Restart(ctx context.Context) error {
	if err := c.Terminate(); err != nil {
		return err
	}
	return c.Start(ctx)
}

// Freeze stops the daemon with SIGSTOP: it accepts connections and never answers.
func (c *Containerd) Freeze() error { return c.proc.Signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (c *Containerd) Thaw() error { return c.proc.Signal(syscall.SIGCONT) }

// Running reports whether the daemon runs.
func (c *Containerd) Running() bool { return c.proc != nil && c.proc.Running() }

// Log is the path of its log.
func (c *Containerd) Log() string { return filepath.Join(c.Dir, "containerd.log") }

// Stop ends the daemon and its containers and removes everything of it, in Dir
// and outside of it. It may be called at any time and again.
func (c *Containerd) Stop() error {
	var errs []error
	if c.proc != nil && c.proc.Running() {
		_ = c.Thaw()
		// Killed, not asked: nothing of it is kept, and 1.6 waits for streams.
		errs = append(errs, c.proc.Kill())
	}
	errs = append(errs, SweepContainerd(c.Dir))
	for _, dir := range []string{c.root(), c.state(), filepath.Join(c.Dir, "opt")} {
		errs = append(errs, removeTree(dir))
	}
	for _, f := range []string{"c.sock", "c.sock.ttrpc", "t.sock", "config.toml"} {
		if err := os.Remove(filepath.Join(c.Dir, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
