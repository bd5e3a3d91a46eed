// Command agentd-log is the logger of one container: containerd's shim starts
// it, with the container's output in descriptors 3 and 4, because agentd asked
// for it by a binary:// URI. It outlives agentd and containerd, and ends with
// the container. Package logger tells the rest.
package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime/logger"
)

// What containerd hands over (its runtime v2 logging protocol).
const (
	fdStdout = 3
	fdStderr = 4
	fdReady  = 5
)

// pipeSize is how much a container may write while the logger is not
// scheduled; the kernel's default is 64 KiB. The kernel takes memory for it
// only as it fills.
const pipeSize = 256 << 10

func main() {
	if err := run(os.Args[1:], os.Getenv); err != nil {
		_, _ = io.WriteString(os.Stderr, "agentd-log: "+err.Error()+"\n")
		os.Exit(1)
	}
}

func run(args []string, getenv func(string) string) error {
	// One of these runs for each container; there is next to nothing to collect.
	debug.SetGCPercent(25)
	debug.SetMemoryLimit(4 << 20)
	runtime.GOMAXPROCS(1) // more cost memory, and writing is one thread anyway

	if len(args) == 0 {
		return errors.New("this is started by containerd for a container of agentd, not by hand")
	}
	// From here on a container may depend on us. We were started in its bundle,
	// which is to be removable.
	_ = os.Chdir("/")
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE)
	stdout, stderr := pipe(fdStdout, "stdout"), pipe(fdStderr, "stderr")
	terms, released := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(terms, syscall.SIGTERM)
	go watch(terms, os.Getppid(), []*os.File{stdout, stderr}, released)

	o, err := logger.ParseArgs(args, getenv)
	return errors.Join(err, logger.Run(logger.Config{
		Options: o, Stdout: stdout, Stderr: stderr, Ready: ready, Released: released,
	}))
}

func pipe(fd uintptr, name string) *os.File {
	_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) // more is a nicety
	_ = unix.SetNonblock(int(fd), true)                   // so that Close ends a Read
	return os.NewFile(fd, name)
}

// ready tells containerd that the container may start: a byte, or the end of
// the pipe, depending on its version.
func ready() {
	f := os.NewFile(fdReady, "ready")
	if f == nil {
		return
	}
	_, _ = f.Write([]byte{1})
	_ = f.Close()
}

// watch passes on the SIGTERMs that come from the shim when it has closed its
// ends of the pipes. All others are ignored: as long as somebody can write,
// somebody has to read.
func watch(terms <-chan os.Signal, parent int, pipes []*os.File, released chan<- struct{}) {
	for range terms {
		if os.Getppid() != parent || slices.ContainsFunc(pipes, func(p *os.File) bool { return logger.Holds(parent, p) }) {
			continue // without a shim nobody waits for us: the end of the pipes comes by itself
		}
		select {
		case released <- struct{}{}:
		default:
		}
	}
}
