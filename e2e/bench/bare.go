package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/runtime/logger"
)

// bare is a running e2e/bench/floor, in a containerd namespace of its own on a
// node.
type bare struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Scanner
}

// bare starts one. With logs, its containers have the logger that agentd's have,
// which is a process more per container; without, nobody takes their output.
func (r *rig) bare(ctx context.Context, n *lab.Node, name string, logs bool) (*bare, error) {
	program := filepath.Join(r.Dir, "floor")
	if _, err := os.Stat(program); err != nil {
		if _, err := lab.Must(ctx, "env", "CGO_ENABLED=0", "go", "build", "-buildvcs=false", "-o", program, "github.com/agentd/agentd/e2e/bench/floor"); err != nil {
			return nil, fmt.Errorf("build the floor: %w", err)
		}
	}
	ns := n.Namespace + "-" + name // apart from agentd's
	if err := n.Containerd.Import(ctx, ns, filepath.Join(r.Dir, archive)); err != nil {
		return nil, err
	}
	args := []string{"-address", n.Containerd.Address, "-namespace", ns, "-image", lab.TestImageRef}
	if logs {
		logd, err := r.Program(logger.Program)
		if err != nil {
			return nil, err
		}
		if logd, err = filepath.Abs(logd); err != nil {
			return nil, err
		}
		uri, err := logger.Options{Daemon: "CONTAINER_ID", Sink: logger.SinkFile, Path: filepath.Join(r.Dir, ns+"-CONTAINER_ID.log")}.URI(logd)
		if err != nil {
			return nil, err
		}
		args = append(args, "-log", uri)
	}
	b := &bare{cmd: exec.CommandContext(ctx, program, args...)}
	b.cmd.Env = append(os.Environ(), lab.EnvID+"="+r.ID)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.cmd.Stderr = os.Stderr
	var err error
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	b.stdout = bufio.NewScanner(out)
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the floor: %w", err)
	}
	return b, nil
}

// do gives it a command and waits for the answer.
func (b *bare) do(command string, args ...any) error {
	command = fmt.Sprintf(command, args...)
	if _, err := fmt.Fprintln(b.stdin, command); err != nil {
		return fmt.Errorf("tell the floor %q: %w", command, err)
	}
	if !b.stdout.Scan() {
		return fmt.Errorf("the floor ended at %q", command)
	}
	if got := b.stdout.Text(); got != "ok" {
		return fmt.Errorf("the floor at %q: %s", command, got)
	}
	return nil
}

// close removes its containers and ends it.
func (b *bare) close() error {
	return errors.Join(b.do("clear"), b.stdin.Close(), b.cmd.Wait())
}

// witness sees the test program's processes start on one node, in /proc, in the
// same way whoever starts them; asking containerd would take as long as what is
// measured.
type witness struct {
	comm  string
	netns os.FileInfo
	old   map[string]bool // processes that were there at first
}

func newWitness(n *lab.Node) (*witness, error) {
	w := &witness{comm: program, old: map[string]bool{}}
	var err error
	if w.netns, err = os.Stat("/run/netns/" + n.NetNS); err != nil {
		return nil, err
	}
	all, err := pids()
	for _, pid := range all {
		w.old[pid] = true
	}
	return w, err
}

// started waits until so many of them have started since newWitness.
func (w *witness) started(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found := map[string]bool{}
	for {
		all, err := pids()
		if err != nil {
			return err
		}
		for _, pid := range all {
			if !w.old[pid] && !found[pid] && w.is(pid) {
				found[pid] = true
			}
		}
		if len(found) >= want {
			return nil
		}
		if err := lab.Pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("wait for %d processes, have %d: %w", want, len(found), err)
		}
	}
}

func (w *witness) is(pid string) bool {
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil || strings.TrimSpace(string(comm)) != w.comm {
		return false
	}
	st, err := os.Stat("/proc/" + pid + "/ns/net")
	return err == nil && os.SameFile(st, w.netns)
}

func pids() ([]string, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := names[:0]
	for _, name := range names {
		if _, err := strconv.Atoi(name); err == nil {
			all = append(all, name)
		}
	}
	return all, nil
}
