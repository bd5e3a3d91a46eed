// Package runtime says WHERE a container runs: the Runtime interface that the
// agent drives, the values that cross it, and (in runtimetest) the conformance
// suite that every implementation passes.
//
// A Runtime is level-triggered and idempotent: Ensure converges from any
// half-state that a crash, a kill or a lost connection may have left, and List
// is the only source of truth about what runs. All methods may be called from
// any goroutine; calls for one id are made by one goroutine at a time, and an
// implementation serialises them besides.
package runtime

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers branch on; test with errors.Is.
var (
	// ErrUnavailable: the runtime did not answer. It is never "stopped":
	// decisions are frozen until Ready succeeds.
	ErrUnavailable = errors.New("runtime unavailable")
	// ErrNotFound: no container, or no running task, under that id.
	ErrNotFound = errors.New("not found")
	// ErrForeign: a container with that id exists and is not ours.
	ErrForeign = errors.New("container belongs to somebody else")
	// ErrImage: the image is not there and could not be pulled.
	ErrImage = errors.New("image unavailable")
	// ErrStray: a process of an earlier instance is still alive.
	ErrStray = errors.New("a process of the old container is still running")
)

// Runtime drives the containers of one agent.
type Runtime interface {
	// Ready returns nil when the runtime answers, within ctx's deadline.
	Ready(ctx context.Context) error
	// List returns the containers of this agent, by label, sorted by id.
	// Containers of others in the same namespace are never in it.
	List(ctx context.Context) ([]Instance, error)
	// Pull makes the image present (by policy p.Policy) and returns its
	// digest: what the reference resolves to, so the index's for a multi-platform
	// image. It never stops or starts anything.
	Pull(ctx context.Context, p Pull) (digest string, err error)
	// Ensure makes exactly one container of s run, from whatever half-state it
	// finds. A container that already runs with the same Labels.Digest is
	// adopted: its processes are untouched (a paused one goes on), its labels
	// are brought up to date except the counters (see Counter). One with another
	// digest is stopped with its own signal and grace and replaced. One that does
	// not run is made anew, from a fresh root file system; see MergeLabels. The
	// image must be present (see Pull). Cancelling ctx stops the waiting, never
	// a lifecycle call under way.
	Ensure(ctx context.Context, s Spec) (Instance, error)
	// Stop ends the container's processes: its stop signal, then SIGKILL after
	// grace. The record stays, so that the exit can be read. Stopping what is
	// not running returns ErrNotFound.
	Stop(ctx context.Context, id string, grace time.Duration) (Exit, error)
	// Remove deletes container, task, snapshot and leases of id, killing what
	// still runs. Removing what does not exist is nil.
	Remove(ctx context.Context, id string) error
	// Wait returns when the running instance of id ended. It retries lost
	// connections itself; an error means that ctx ended, or ErrNotFound that
	// there is no task to wait for.
	Wait(ctx context.Context, id string) (Exit, error)
	// Exec runs argv in the container and returns its exit code. The process
	// is killed when ctx ends.
	Exec(ctx context.Context, id string, argv []string) (code int, err error)
	// ExecStream runs a process in the container with its streams connected,
	// and returns its exit code once it ended and its output was written. The
	// process is killed when ctx ends. A Read of o.Stdin that is under way at
	// the end is not waited for: its reader has to end it.
	ExecStream(ctx context.Context, id string, o ExecOptions) (code int, err error)
	// Stats measures the running instance of id; ErrNotFound without one.
	Stats(ctx context.Context, id string) (Stats, error)
	// SetLabels merges labels into the container's (restart counts, windows).
	SetLabels(ctx context.Context, id string, labels map[string]string) error
	// Events returns a channel that gets a value, capacity 1, whenever
	// something may have changed. It is a hint: events may be lost.
	Events(ctx context.Context) <-chan struct{}
	// Close releases the connection. Containers go on.
	Close() error
}

// Labels that a runtime keeps on each container; they are the runtime's state,
// from which a restarted agent rebuilds everything.
const (
	LabelDaemon     = "agentd.io/daemon"
	LabelDigest     = "agentd.io/digest"
	LabelGeneration = "agentd.io/generation"
	LabelRevision   = "agentd.io/revision"
	LabelNode       = "agentd.io/node"
	LabelRestarts   = "agentd.io/restarts"
	LabelWindow     = "agentd.io/window" // start of the back-off window, RFC 3339
	LabelStopSignal = "agentd.io/stop-signal"
	LabelStopGrace  = "agentd.io/stop-grace"
	LabelImage      = "agentd.io/image" // manifest digest that runs
	LabelExit       = "agentd.io/exit"  // last recorded exit, JSON of Exit
	// LabelStarted is set by the runtime just before the first start, RFC 3339
	// with nanoseconds. A container that has it and no task ran and was lost;
	// one without it was never started.
	LabelStarted = "agentd.io/started"
)

// State of an instance.
type State string

const (
	StateCreated State = "created" // container record, task never started or lost
	StateRunning State = "running"
	StatePaused  State = "paused"
	StateStopped State = "stopped" // the task ended; Instance.Exit tells how
	StateBroken  State = "broken"  // wedged or half-made; Ensure and Remove mend it
)

// Instance is one container as the runtime sees it.
type Instance struct {
	ID        string
	State     State
	PID       int // of init on the host; 0 unless running or paused
	Labels    map[string]string
	StartedAt time.Time // zero when unknown
	Exit      *Exit     // set when State is stopped
}

// Exit tells how an instance ended.
type Exit struct {
	Code  uint32    `json:"code"`  // 128+n for signal n
	At    time.Time `json:"at"`    //
	Known bool      `json:"known"` // false: it ended while nobody watched
	OOM   bool      `json:"oom"`   // the kernel's OOM killer was at work
}

// ExecOptions is a process to run in a container, with its streams.
type ExecOptions struct {
	Argv []string
	Env  []string // KEY=VALUE, over the container's
	Cwd  string   // "" is the container's
	User string   // numeric uid[:gid]; "" is the container's
	// TTY gives the process a terminal. Its output is one stream then, Stdout.
	TTY bool
	// Stdin is copied until it ends, which the process sees; nil is empty.
	Stdin io.Reader
	// Stdout and Stderr get the output, from one goroutine each; nil drops it.
	Stdout, Stderr io.Writer
	// Resize carries the sizes of the caller's terminal; nil for none.
	Resize <-chan WinSize
}

// WinSize is the size of a terminal, in characters.
type WinSize struct{ Width, Height uint16 }

// Stats is what an instance uses.
type Stats struct {
	CPU         time.Duration // CPU time since its start
	Memory      uint64        // bytes, without file cache that can be dropped at once
	MemoryLimit uint64        // bytes; 0: none
	Pids        uint64        // processes and threads
	OOMKills    uint64        // by the kernel's OOM killer, since its start
	At          time.Time     // when it was measured
}

// Pull asks for an image.
type Pull struct {
	Ref      string // as written: tag and/or digest
	Digest   string // pinned manifest digest; "" resolves the tag
	Policy   string // missing | always | never
	Progress func(done, total int64)
}

// Spec is a container to run, resolved: nothing in it depends on the ring.
type Spec struct {
	ID     string // the daemon's name, or NAME.next
	Image  string // reference as written
	Digest string // manifest digest to run, from Pull; "" uses what Image names locally

	Args       []string // image's CMD when nil
	Command    []string // image's entrypoint when nil
	Env        []string // KEY=VALUE, over the image's
	WorkingDir string
	User       string // numeric uid[:gid]; "" is the image's
	Hostname   string

	HostNetwork bool // else a namespace with only loopback
	HostPID     bool

	Privileged bool
	CapAdd     []string // with CAP_
	CapDrop    []string
	Devices    []string // PATH[:rwm]
	ReadOnly   bool

	Mounts    []Mount
	Resources Resources

	StopSignal string        // "SIGTERM"
	StopGrace  time.Duration // used when Ensure replaces it
	// LogURI is where the output goes: "binary:///PATH?…" is a logger (see
	// package logger), "file:///PATH" is appended to. "" is LogPath.
	LogURI  string
	LogPath string // file that the output is appended to when LogURI is ""; "" drops it
	Labels  map[string]string
}

// Mount is one mount of a container.
type Mount struct {
	Type    string // bind | tmpfs
	Source  string
	Target  string
	Options []string
}

// Resources are limits; zero means none, negative ulimits unlimited.
type Resources struct {
	CPU           float64
	Memory        int64
	MemoryReserve int64
	Pids          int64
	CPUWeight     uint64
	OOMScoreAdj   int
	Ulimits       map[string]int64
}
