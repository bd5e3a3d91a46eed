package api

import (
	"io"
	"time"
)

// Streams of a LogLine.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// AllLines asks for every line that is kept.
const AllLines = -1

// LogQuery selects what GET /v1/logs/{name} answers.
type LogQuery struct {
	Daemon string
	Follow bool      // go on with what comes, until the caller has enough
	Tail   int       // at most so many of the newest lines; negative: all that are kept; 0: none
	Since  time.Time // not older than this; zero: no limit
}

// LogLine is one line of a container's output, one document of the answer to
// GET /v1/logs/{name}.
type LogLine struct {
	Time   time.Time `json:"time,omitzero"` // not there when nobody noted it
	Stream string    `json:"stream"`        // stdout | stderr; the logger's own words are on stderr
	// Line has no line end. Bytes that are no UTF-8 come as U+FFFD.
	Line string `json:"line"`
}

// ExecRequest is the body of POST /v1/exec/{name}.
type ExecRequest struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`  // KEY=VALUE, besides the container's own
	Cwd  string   `json:"cwd,omitempty"`  // "": the container's
	User string   `json:"user,omitempty"` // numeric, UID or UID:GID; "": the container's
	TTY  bool     `json:"tty,omitempty"`  // a terminal: stderr comes with stdout
	// Stdin: the caller has input; without it the command reads nothing.
	Stdin bool    `json:"stdin,omitempty"`
	Size  WinSize `json:"size,omitzero"` // of the terminal at the start
}

// WinSize is a terminal's size in characters; zero is not known.
type WinSize struct {
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// ExecStreams are the streams of one command. Stdin is nil without input, and
// Stderr unused with a terminal. Resize brings the terminal's new sizes; it is
// closed with the session, or nil.
type ExecStreams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Resize <-chan WinSize
}

// Restarted is the answer to POST /v1/restart/{name}.
type Restarted struct {
	Schema int    `json:"schema"`
	Node   string `json:"node"`
	Daemon string `json:"daemon"`
}

// Top is the answer to GET /v1/top: what the containers of this node use. Rates
// are made by whoever asks twice.
type Top struct {
	Schema  int         `json:"schema"`
	Node    string      `json:"node"`
	Daemons []TopDaemon `json:"daemons"` // those that have a container; sorted by name
}

// TopDaemon is what one container uses.
type TopDaemon struct {
	Name      string     `json:"name"`
	Container string     `json:"container"`
	PID       int        `json:"pid"` // tells one instance from the next
	State     string     `json:"state"`
	Restarts  int        `json:"restarts"`
	StartedAt *time.Time `json:"started_at"`
	// At is when the numbers were read. Without numbers it is nil, and Error
	// says why.
	At    *time.Time `json:"at"`
	Error string     `json:"error,omitempty"`

	CPUSeconds  float64 `json:"cpu_seconds"`  // used since the start, of one core
	Memory      uint64  `json:"memory_bytes"` // in use
	MemoryLimit uint64  `json:"memory_limit_bytes"`
	PIDs        uint64  `json:"pids"`
	OOMKills    uint64  `json:"oom_kills"`
}

// Volume is a named folder under data_dir that daemons of this node mount.
type Volume struct {
	Name string `json:"name"`
	Path string `json:"path"`
	// Daemons mount it by the ring's word or by a container that is still here;
	// a volume that has one is never pruned.
	Daemons    []string   `json:"daemons"`
	Bytes      uint64     `json:"bytes"` // on disk
	ModifiedAt *time.Time `json:"modified_at"`
}

// Volumes is the answer to GET /v1/volumes.
type Volumes struct {
	Schema  int      `json:"schema"`
	Node    string   `json:"node"`
	Volumes []Volume `json:"volumes"` // sorted by name
}

// PruneRequest is the body of POST /v1/volumes/prune.
type PruneRequest struct {
	Names []string `json:"names"` // empty: all that no daemon uses
}

// Pruned is the answer to POST /v1/volumes/prune.
type Pruned struct {
	Schema  int      `json:"schema"`
	Removed []Volume `json:"removed"`
	// Kept are those that were named and are still there, by name, with the
	// reason.
	Kept map[string]string `json:"kept"`
}
