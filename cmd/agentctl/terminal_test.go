package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/agentd/agentd/api"
)

// openPTY returns both ends of a new terminal.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func resize(t *testing.T, f *os.File, width, height uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
}

// A terminal is raw while a command has it, tells its new sizes, and is as
// before afterwards.
func TestTerminal(t *testing.T) {
	master, slave := openPTY(t)
	resize(t, master, 80, 24)
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	tm, err := openTerminal(slave, slave)
	if err != nil {
		t.Fatal(err)
	}
	if size := tm.size(); size != (api.WinSize{Width: 80, Height: 24}) {
		t.Errorf("size %v", size)
	}
	// Raw: what is typed comes at once, and Ctrl-C is a byte.
	if _, err := master.Write([]byte("a\x03")); err != nil {
		t.Fatal(err)
	}
	typed := make([]byte, 2)
	if n, err := slave.Read(typed); err != nil || n != 2 || typed[1] != 3 {
		t.Errorf("typed %q: %v", typed[:n], err)
	}
	// A process is told by a signal; this one sends it to itself.
	resize(t, master, 132, 50)
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	select {
	case size := <-tm.sizes:
		if size != (api.WinSize{Width: 132, Height: 50}) {
			t.Errorf("new size %v", size)
		}
	case <-time.After(10 * time.Second):
		t.Error("no new size")
	}
	// Nobody takes this one; closing does not wait for it.
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	if err := tm.close(); err != nil {
		t.Fatal(err)
	}
	if _, open := <-tm.sizes; open {
		t.Error("sizes go on after the end")
	}
	after, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Error("the terminal is not as it was")
	}
}

func TestNoTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := openTerminal(f, f); err == nil {
		t.Error("/dev/null is a terminal")
	}
	if _, err := openTerminal("text", nil); err == nil {
		t.Error("what is no file is a terminal")
	}
}
