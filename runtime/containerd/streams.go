package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/pkg/cio"

	"github.com/agentd/agentd/runtime"
)

// drainIdle is how long the output of a process that ended may say nothing
// before it counts as over: a child in the background may hold it open.
const drainIdle = time.Second

// streams are the fifos of one exec and the goroutines that copy them.
type streams struct {
	paths  cio.Config
	direct *cio.DirectIO
	dir    string
	cancel context.CancelFunc

	copying sync.WaitGroup // output only; guarded by mu for Add against Wait
	output  chan struct{}  // closed when all output was copied
	moved   atomic.Int64   // counts Reads and Writes of output that ended
	writing atomic.Int64   // Writes to the caller that are under way

	mu     sync.Mutex // guards closed
	closed bool
}

// openStreams makes the fifos. Opening never waits for the other side.
func openStreams(dir, execID string, o runtime.ExecOptions) (*streams, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the fifos' folder: %w", err)
	}
	// Output that nobody wants has fifos too: a shim takes all or none of them.
	cfg := cio.Config{Terminal: o.TTY, Stdout: filepath.Join(dir, execID+"-stdout")}
	if o.Stdin != nil {
		cfg.Stdin = filepath.Join(dir, execID+"-stdin")
	}
	if !o.TTY {
		cfg.Stderr = filepath.Join(dir, execID+"-stderr")
	}
	remove := func() error { return os.RemoveAll(dir) }
	// Its context ends the waiting for the other side.
	ctx, cancel := context.WithCancel(context.Background())
	direct, err := cio.NewDirectIO(ctx, cio.NewFIFOSet(cfg, remove))
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("make fifos: %w", err), remove())
	}
	return &streams{paths: cfg, direct: direct, dir: dir, cancel: cancel, output: make(chan struct{})}, nil
}

// copy starts to copy. ended is called when the input ended by itself.
func (s *streams) copy(o runtime.ExecOptions, ended func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.paths.Stdin != "" {
		// Not waited for: nothing ends a Read of the caller's.
		go func() {
			_, err := io.Copy(s.direct.Stdin, o.Stdin)
			_ = s.direct.Stdin.Close()
			if err == nil {
				ended()
			}
		}()
	}
	s.copying.Go(func() { s.copyOut(o.Stdout, s.direct.Stdout) })
	if s.paths.Stderr != "" {
		s.copying.Go(func() { s.copyOut(o.Stderr, s.direct.Stderr) })
	}
	go func() {
		s.copying.Wait()
		close(s.output)
	}()
}

// copyOut copies one stream of output. A caller that cannot be written to any
// more must not block the process: the rest is dropped.
func (s *streams) copyOut(to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		s.moved.Add(1)
		if n > 0 && to != nil {
			s.writing.Add(1)
			if _, werr := to.Write(buf[:n]); werr != nil {
				to = nil
			}
			s.moved.Add(1)
			s.writing.Add(-1)
		}
		if err != nil {
			return
		}
	}
}

// drain returns when all output was copied, or when none has come for a while
// and the caller is not what it waits for.
func (s *streams) drain(ctx context.Context) {
	t := time.NewTicker(drainIdle)
	defer t.Stop()
	for last := s.moved.Load(); ; {
		select {
		case <-s.output:
			return
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := s.moved.Load()
		if now == last && s.writing.Load() == 0 {
			return
		}
		last = now
	}
}

// close ends the copying, waits for the output's, and removes the fifos. It may
// be called again, and by several.
func (s *streams) close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	var err error
	if first {
		s.cancel()
		// What was closed already, an ended input, says so.
		if cerr := s.direct.Close(); cerr != nil && !errors.Is(cerr, fs.ErrClosed) {
			err = fmt.Errorf("close fifos: %w", cerr)
		}
	}
	s.copying.Wait()
	return err
}
