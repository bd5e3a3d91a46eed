package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// UnreachableError says that agentd could not be asked, why, and what to do.
type UnreachableError struct {
	Socket string
	Reason string // in words: "no such file", "connection refused", "permission denied"
	Hint   string
	Err    error
}

// Error returns "cannot reach agentd at SOCKET: REASON".
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot reach agentd at %s: %s", e.Socket, e.Reason)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// newUnreachable reads the cause out of what net/http returned.
func newUnreachable(socket string, err error) *UnreachableError {
	e := &UnreachableError{Socket: socket, Err: err}
	start := "sudo systemctl start agentd"
	if socket != DefaultSocket {
		start = "agentd --config FILE (with this [api] socket), or another --socket"
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Reason = "no such file"
		e.Hint = "agentd is not running; try: " + start
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Reason = "connection refused"
		e.Hint = "agentd is not running any more (its socket was left behind); try: " + start
	case errors.Is(err, fs.ErrPermission):
		e.Reason = "permission denied"
		e.Hint = "try again with sudo, or add yourself to group agentd: sudo usermod -aG agentd $USER, and log in anew"
	case errors.Is(err, syscall.ENOTSOCK), errors.Is(err, syscall.EPROTOTYPE), errors.Is(err, syscall.ENOTDIR):
		e.Reason = "not a socket"
		e.Hint = "see [api] socket in agentd.toml, and --socket"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		e.Reason = "no answer in time"
		e.Hint = "agentd is running but hangs; see: sudo journalctl -u agentd"
	case !dialing(err):
		e.Reason = "it closed the connection without an answer"
		e.Hint = "agentd may have stopped just now; see: sudo systemctl status agentd"
	default:
		e.Reason = err.Error()
		var op *net.OpError
		if errors.As(err, &op) {
			e.Reason = op.Err.Error()
		}
		e.Hint = "see: sudo systemctl status agentd"
	}
	return e
}

// dialing reports whether the connection could not be made at all.
func dialing(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// RunningAgents returns the ids of the processes named agentd in this
// machine's /proc, so that "not running" can be told from "listens elsewhere".
func RunningAgents() []int {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil
	}
	var pids []int
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(comm)) != "agentd" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
