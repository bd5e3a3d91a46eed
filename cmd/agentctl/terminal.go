package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/agentd/agentd/api"
)

// terminal is the operator's terminal while a command in a container has it:
// what is typed goes through as it is, Ctrl-C too.
type terminal struct {
	in, out *os.File
	state   *term.State
	sizes   chan api.WinSize // new sizes; closed by close

	resized chan os.Signal
	done    chan struct{} // closed by close
	ended   sync.WaitGroup
}

// openTerminal makes it raw. close has to be called whatever happens.
func openTerminal(stdin, stdout any) (*terminal, error) {
	in, inOK := stdin.(*os.File)
	out, outOK := stdout.(*os.File)
	if !inOK || !outOK {
		return nil, fmt.Errorf("stdin and stdout are no terminals")
	}
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("make the terminal raw: %w", err)
	}
	t := &terminal{in: in, out: out, state: state, sizes: make(chan api.WinSize), resized: make(chan os.Signal, 1), done: make(chan struct{})}
	signal.Notify(t.resized, unix.SIGWINCH)
	t.ended.Go(t.watch)
	return t, nil
}

// size is the terminal's present size; zero when it does not say.
func (t *terminal) size() api.WinSize {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width < 0 || height < 0 || width > 0xffff || height > 0xffff {
		return api.WinSize{}
	}
	return api.WinSize{Width: uint16(width), Height: uint16(height)}
}

// watch sends the size whenever it changed.
func (t *terminal) watch() {
	defer close(t.sizes)
	for {
		select {
		case <-t.resized:
		case <-t.done:
			return
		}
		size := t.size()
		if size == (api.WinSize{}) {
			continue
		}
		select {
		case t.sizes <- size:
		case <-t.done:
			return
		}
	}
}

// close gives the terminal back as it was.
func (t *terminal) close() error {
	signal.Stop(t.resized)
	close(t.done)
	t.ended.Wait()
	if err := term.Restore(int(t.in.Fd()), t.state); err != nil {
		return fmt.Errorf("give the terminal back: %w", err)
	}
	return nil
}
