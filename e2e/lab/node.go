package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/agentd/agentd/api"
)

// Node is one machine of a lab.
type Node struct {
	NetNode
	Name       string
	Dir        string
	Namespace  string // containerd namespace that its agentd owns
	Containerd *Containerd
	Agent      *Process // nil before StartAgent
	Extra      string   // more TOML for the drop-in that Configure writes
	lab        *Lab
}

// ConfigDir is what --config-dir of init and join gets; they put data and
// socket in there, too.
func (n *Node) ConfigDir() string { return n.Dir }

// DataDir is agentd's data_dir.
func (n *Node) DataDir() string { return filepath.Join(n.Dir, "data") }

// Socket is agentd's API socket.
func (n *Node) Socket() string { return filepath.Join(n.Dir, "agentd.sock") }

// Config is the path of agentd.toml.
func (n *Node) Config() string { return filepath.Join(n.ConfigDir(), "agentd.toml") }

// DropIn is the path of the drop-in that Configure writes.
func (n *Node) DropIn() string { return filepath.Join(n.ConfigDir(), "agentd.d", "50-node.toml") }

// DropInText is what has to differ between agents that share a machine.
func (n *Node) DropInText() string {
	return fmt.Sprintf("[runtime]\naddress = %q\nnamespace = %q\n%s", n.Containerd.Address, n.Namespace, n.Extra)
}

// Configure writes the drop-in, after init or join made agentd.toml.
func (n *Node) Configure() error {
	if err := os.MkdirAll(filepath.Dir(n.DropIn()), 0o755); err != nil {
		return fmt.Errorf("make folder for the drop-in: %w", err)
	}
	if err := os.WriteFile(n.DropIn(), []byte(n.DropInText()), 0o644); err != nil {
		return fmt.Errorf("write drop-in: %w", err)
	}
	return nil
}

// Init runs `agentctl init` and Configure: the first node of a ring.
func (n *Node) Init(ctx context.Context, args ...string) error {
	args = append([]string{"init", "--ring", "lab", "--name", n.Name, "--advertise", n.Address, "--config-dir", n.ConfigDir(), "--no-start"}, args...)
	if _, err := n.MustCtl(ctx, args...); err != nil {
		return err
	}
	return n.Configure()
}

// Token runs `agentctl token` on this node's configuration.
func (n *Node) Token(ctx context.Context) (string, error) {
	return n.MustCtl(ctx, "token", "--config-dir", n.ConfigDir())
}

// Join runs `agentctl join` with a token and Configure: a later node.
func (n *Node) Join(ctx context.Context, token string, args ...string) error {
	args = append([]string{"join", "-", "--name", n.Name, "--config-dir", n.ConfigDir(), "--no-start"}, args...)
	res, err := n.CtlInput(ctx, token, args...)
	if err != nil {
		return err
	}
	if res.Code != 0 {
		return fmt.Errorf("agentctl join: exit %d: %s", res.Code, res.Output())
	}
	return n.Configure()
}

// CtlArgs is the agentctl command line for this node.
func (n *Node) CtlArgs(args ...string) ([]string, error) {
	program, err := n.lab.Program("agentctl")
	if err != nil {
		return nil, err
	}
	return append([]string{program, "--socket", n.Socket()}, args...), nil
}

// Ctl runs agentctl against this node, with the lab's operator key.
func (n *Node) Ctl(ctx context.Context, args ...string) (Result, error) {
	return n.CtlInput(ctx, "", args...)
}

// CtlInput is Ctl with an input.
func (n *Node) CtlInput(ctx context.Context, stdin string, args ...string) (Result, error) {
	argv, err := n.CtlArgs(args...)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return ExecEnv(ctx, []string{"HOME=" + n.lab.Home(), "AGENTCTL_KEY="}, stdin, argv...)
}

// MustCtl is Ctl with a non-zero exit as an error; it returns stdout.
func (n *Node) MustCtl(ctx context.Context, args ...string) (string, error) {
	res, err := n.Ctl(ctx, args...)
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return res.Stdout, fmt.Errorf("agentctl %s on %s: exit %d: %s", args[0], n.Name, res.Code, res.Output())
	}
	return res.Stdout, nil
}

// Status asks the node's agent.
func (n *Node) Status(ctx context.Context, args ...string) (api.Status, error) {
	var s api.Status
	res, err := n.Ctl(ctx, append([]string{"status", "-o", "json"}, args...)...)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(res.Stdout), &s); err != nil {
		return s, fmt.Errorf("status of %s: exit %d: %s", n.Name, res.Code, res.Output())
	}
	return s, nil
}

// AgentLog is where agentd's output goes.
func (n *Node) AgentLog() string { return filepath.Join(n.Dir, "agentd.log") }

// AgentArgs is the command line of the node's agent.
func (n *Node) AgentArgs() ([]string, error) {
	program, err := n.lab.Program("agentd")
	if err != nil {
		return nil, err
	}
	return []string{program, "--config", n.Config()}, nil
}

// StartAgent starts agentd and returns once its socket answers.
func (n *Node) StartAgent(ctx context.Context) error {
	if err := n.LaunchAgent(); err != nil {
		return err
	}
	err := Within(ctx, 30*time.Second, func(ctx context.Context) error {
		if !n.Agent.Running() {
			return nil
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", n.Socket())
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err == nil && !n.Agent.Running() {
		err = fmt.Errorf("it exited with code %d", n.Agent.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("start agentd on %s: %w; its log ends:\n%s", n.Name, err, n.Agent.Tail())
	}
	return nil
}

// LaunchAgent starts agentd and does not wait for anything.
func (n *Node) LaunchAgent() error {
	argv, err := n.AgentArgs()
	if err != nil {
		return err
	}
	n.Agent, err = StartProcess(ProcessConfig{ID: n.lab.ID, NetNS: n.NetNS, Args: argv, Log: n.AgentLog()})
	return err
}

// StopAgent ends agentd with SIGTERM; it has to exit by itself, with code 0.
func (n *Node) StopAgent() error {
	if n.Agent == nil || !n.Agent.Running() {
		return nil
	}
	if err := n.Agent.Stop(syscall.SIGTERM, 20*time.Second); err != nil {
		return err
	}
	if code := n.Agent.ExitCode(); code != 0 {
		return fmt.Errorf("stop agentd on %s: exit %d; its log ends:\n%s", n.Name, code, n.Agent.Tail())
	}
	return nil
}

// KillAgent ends agentd with SIGKILL.
func (n *Node) KillAgent() error {
	if n.Agent == nil {
		return nil
	}
	return n.Agent.Kill()
}

// Containers are all containers in the node's containerd namespace.
func (n *Node) Containers(ctx context.Context) ([]Container, error) {
	return n.Containerd.Containers(ctx, n.Namespace)
}

// Container is one of them; zero but for its id when it is not there.
func (n *Node) Container(ctx context.Context, id string) (Container, error) {
	return n.Containerd.Container(ctx, n.Namespace, id)
}

// Programs counts the processes of a program in the node's network namespace,
// whoever started them: a second copy shows even when containerd lost it.
func (n *Node) Programs(program string) (int, error) {
	inside := inode("/run/netns/" + n.NetNS)
	procs, err := Procs()
	if err != nil {
		return 0, err
	}
	if inside == 0 {
		return 0, errors.New("count processes: no network namespace " + n.NetNS)
	}
	count := 0
	for _, p := range procs {
		if p.NetNS == inside && p.Base() == program {
			count++
		}
	}
	return count, nil
}

// Exec runs a command on the node, in its network namespace.
func (n *Node) Exec(ctx context.Context, argv ...string) (Result, error) {
	return Exec(ctx, InNetNS(n.NetNS, argv...)...)
}
