package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// runWithin is how long another program may take to answer.
const runWithin = 5 * time.Second

// Machine is what is looked at. This is the one that agentctl runs on.
type Machine struct {
	Proc string // "/proc"
	Sys  string // "/sys"
	// Run runs a program and returns what it wrote, on stderr too when it failed.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// Space tells of a folder's file system.
	Space func(path string) (Space, error)
	// Synced reports whether the kernel's clock is kept right by something.
	Synced func() (bool, error)
	// Try makes a listener at an address and closes it again.
	Try func(network, addr string) error
	// Dial makes a connection and closes it again.
	Dial   func(ctx context.Context, network, addr string) error
	Booted bool // by systemd
	EUID   int
}

// Space is what is left in a file system.
type Space struct {
	Free, Size   uint64 // bytes, for root
	Inodes, Most uint64 // free, and all; zero where the file system has no limit
}

// This returns the machine that this process runs on.
func This() Machine {
	_, err := os.Stat("/run/systemd/system")
	return Machine{
		Proc: "/proc", Sys: "/sys", Run: run, Space: space, Synced: synced, Try: try, Dial: dial,
		Booted: err == nil, EUID: os.Geteuid(),
	}
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runWithin)
	defer cancel()
	if sbin := "/usr/sbin/" + name; !onPath(name) && exists(sbin) {
		name = sbin // as for a user whose PATH lacks it
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("no answer within %s", runWithin)
	case errors.As(err, &exit):
		return string(out), fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(string(exit.Stderr)), " "))
	}
	return string(out), err
}

func onPath(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func space(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return Space{Free: st.Bfree * uint64(st.Bsize), Size: st.Blocks * uint64(st.Bsize), Inodes: st.Ffree, Most: st.Files}, nil
}

// synced asks the kernel (adjtimex(2)): whatever keeps the clock tells it.
func synced() (bool, error) {
	state, err := unix.Adjtimex(&unix.Timex{})
	return state != unix.TIME_ERROR, err
}

func try(network, addr string) error {
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	return l.Close()
}

func dial(ctx context.Context, network, addr string) error {
	c, err := (&net.Dialer{Timeout: runWithin}).DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	return c.Close()
}
