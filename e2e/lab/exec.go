package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// EnvID is the environment variable that marks every process of a lab with
// its id, so that what an interrupted run left is found again.
const EnvID = "AGENTD_LAB"

// Result is how a command ended.
type Result struct {
	Args   []string
	Stdout string
	Stderr string
	Code   int // -1 when a signal ended it
}

// Output is stdout followed by stderr, trimmed.
func (r Result) Output() string { return strings.TrimSpace(r.Stdout + r.Stderr) }

// Exec runs argv to its end and returns what it printed. A non-zero exit is in
// Result.Code, not in the error: that tells only that argv could not be run.
func Exec(ctx context.Context, argv ...string) (Result, error) {
	return run(exec.CommandContext(ctx, argv[0], argv[1:]...))
}

// ExecEnv is Exec with additions to the environment and an input.
func ExecEnv(ctx context.Context, env []string, stdin string, argv ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	return run(cmd)
}

// Must runs argv and makes a non-zero exit an error that carries its output.
func Must(ctx context.Context, argv ...string) (string, error) {
	res, err := Exec(ctx, argv...)
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return res.Stdout, fmt.Errorf("run %q: exit %d: %s", strings.Join(argv, " "), res.Code, res.Output())
	}
	return res.Stdout, nil
}

func run(cmd *exec.Cmd) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A grandchild that keeps the pipe open must not keep us.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	res := Result{Args: cmd.Args, Stdout: stdout.String(), Stderr: stderr.String(), Code: -1}
	if cmd.ProcessState != nil {
		res.Code = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return res, fmt.Errorf("run %q: %w", strings.Join(cmd.Args, " "), err)
	}
	return res, nil
}

// Process is a long-running child whose output goes to a file.
type Process struct {
	PID  int
	Log  string // path of its output
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been reaped
}

// ProcessConfig says what to start.
type ProcessConfig struct {
	ID    string   // lab id, for EnvID; "" for none
	NetNS string   // name under /run/netns to run in; "" stays
	Args  []string // command and arguments
	Env   []string // additions
	Log   string   // file that gets stdout and stderr, appended
}

// StartProcess starts a child in a process group of its own, so that Ctrl-C in
// a terminal reaches only us. It outlives us when we are killed: whoever
// cleans up finds it by EnvID.
func StartProcess(cfg ProcessConfig) (*Process, error) {
	log, err := os.OpenFile(cfg.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", cfg.Args[0], err)
	}
	defer log.Close()
	argv := InNetNS(cfg.NetNS, cfg.Args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), cfg.Env...)
	if cfg.ID != "" {
		cmd.Env = append(cmd.Env, EnvID+"="+cfg.ID)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Args[0], err)
	}
	p := &Process{PID: cmd.Process.Pid, Log: cfg.Log, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// InNetNS is argv as it has to be run to be in the network namespace; with
// nsenter, because `ip netns exec` remounts /sys and hides the cgroups.
func InNetNS(netns string, argv ...string) []string {
	if netns == "" {
		return argv
	}
	return append([]string{"nsenter", "--net=/run/netns/" + netns}, argv...)
}

// Done is closed when the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether it has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ExitCode is valid after Done: -1 when a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends sig; a process that has ended is not an error.
func (p *Process) Signal(sig syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// Stop sends sig and, when grace is over, SIGKILL; it returns when the process
// is gone.
func (p *Process) Stop(sig syscall.Signal, grace time.Duration) error {
	if err := p.Signal(sig); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Kill is SIGKILL, and waits.
func (p *Process) Kill() error { return p.Stop(syscall.SIGKILL, time.Minute) }

// Tail is the end of the process's output, for messages.
func (p *Process) Tail() string { return tailFile(p.Log, 20) }

func tailFile(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
