package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// execProtocol is what a connection of POST /v1/exec/{name} is upgraded to:
// frames of one byte of kind, four of length (big endian) and the payload.
const execProtocol = "agentd-exec/1"

// Kinds of frames. The caller's come first.
const (
	frameInput   = 0 // bytes for the command's stdin; no more than agentd has room for
	frameEnd     = 1 // end of input
	frameResize  = 2 // width and height of the terminal, two bytes each, big endian
	frameStdout  = 3
	frameStderr  = 4
	frameRoom    = 5 // the command read that many bytes of input; four bytes, big endian
	frameExit    = 6 // {"exit_code": 0}; the last
	frameProblem = 7 // a problem document instead of an exit code; the last
)

const (
	frameHeader = 5
	// maxFrame bounds a payload before it is allocated.
	maxFrame = 64 << 10
	// chunk is how much input or output goes into a frame: it keeps frames of
	// stdout and stderr mixed as they came.
	chunk = 32 << 10
	// inputWindow is how much input may be on its way to a command that does
	// not read. Without it a full pipe would hide that the caller is gone.
	inputWindow = 256 << 10
)

// exitFrame is the payload of frameExit.
type exitFrame struct {
	ExitCode int `json:"exit_code"`
}

// frame is one message of a session.
type frame struct {
	kind    byte
	payload []byte
}

// readFrame reads one frame; io.EOF only between two.
func readFrame(r io.Reader) (frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: head[0]}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return f, fmt.Errorf("a frame of %d bytes is larger than %d", size, maxFrame)
	}
	f.payload = make([]byte, size)
	if _, err := io.ReadFull(r, f.payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return f, err
	}
	return f, nil
}

// frameWriter writes whole frames from several goroutines.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (w *frameWriter) write(kind byte, payload []byte) error {
	b := make([]byte, frameHeader, frameHeader+len(payload))
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload)))
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(append(b, payload...))
	return err
}

// stream returns an io.Writer whose bytes become frames of a kind.
func (w *frameWriter) stream(kind byte) io.Writer { return frameStream{w, kind} }

type frameStream struct {
	w    *frameWriter
	kind byte
}

func (s frameStream) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, chunk)
		if err := s.w.write(s.kind, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

func encodeSize(s WinSize) []byte {
	b := make([]byte, 4)
	binary.BigEndian.PutUint16(b, s.Width)
	binary.BigEndian.PutUint16(b[2:], s.Height)
	return b
}

func decodeSize(b []byte) (WinSize, error) {
	if len(b) != 4 {
		return WinSize{}, fmt.Errorf("a terminal's size has 4 bytes, not %d", len(b))
	}
	return WinSize{Width: binary.BigEndian.Uint16(b), Height: binary.BigEndian.Uint16(b[2:])}, nil
}

func encodeRoom(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

func decodeRoom(b []byte) (int, error) {
	if len(b) != 4 {
		return 0, fmt.Errorf("a number of bytes has 4 bytes, not %d", len(b))
	}
	n := binary.BigEndian.Uint32(b)
	if n > inputWindow {
		return 0, fmt.Errorf("room for %d bytes is more than %d", n, inputWindow)
	}
	return int(n), nil
}
