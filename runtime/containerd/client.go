// Package containerd runs the containers of one agent through containerd, as
// runtime.Runtime asks. It is the only package that imports containerd.
//
// It promises: an instance that runs is never touched because agentd or
// containerd restarted; at most one instance of an id runs at any time; every
// half-state that a crash, a kill or a lost connection leaves is mended by the
// next Ensure or Remove; what somebody else made is never changed. It keeps no
// state of its own: labels on the containers are all that a restarted agent
// needs.
//
// Where to look: ensure.go makes one container run, teardown.go takes one away,
// stop.go and wait.go end and await it, repair.go mends what containerd itself
// cannot, cgroup.go finds processes that were left over, ocispec.go and its
// neighbours (mounts.go, resources.go, user.go) say how a container is set up,
// pull.go, registry.go and image.go fetch images, lifecycle.go tells why no call
// is ever cancelled half-way.
//
// All methods are safe for concurrent use; lifecycle calls for one id run one
// after the other. The goroutines that it starts end with the contexts they
// were started for, and Close waits for them.
package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/defaults"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/agentd/agentd/runtime"
)

// Limits on calls. A hung containerd blocks a client for ever, so every call
// has one.
const (
	dialLimit  = 2 * time.Second
	redial     = 200 * time.Millisecond // between two dials of a socket that refuses
	callLimit  = 10 * time.Second
	closeLimit = 10 * time.Second
)

// Config says which containerd, and who we are.
type Config struct {
	Address     string // socket; default /run/containerd/containerd.sock
	Namespace   string // containerd namespace that this agent owns; default agentd
	Node        string // value of runtime.LabelNode: whose containers are ours
	Snapshotter string // default: containerd's, overlayfs
	RegistryDir string // hosts.toml folders; "" none
	AuthFile    string // docker's config.json; "" none
	// StateDir is containerd's state folder, where bundles are; default: the
	// folder of the socket. What containerd itself says in errors comes first.
	StateDir string
	// FIFODir is where the fifos of execs with streams are; default
	// /run/containerd/fifo. Containerd's shims have to see it too.
	FIFODir string
	// SystemdCgroup lets systemd make the cgroups; nil: where systemd is PID 1.
	SystemdCgroup *bool
	// PullStall is how long a registry may send nothing; default 60 s.
	PullStall time.Duration
	Log       *slog.Logger // default: discards
}

// Runtime is a connection to one containerd. Use New.
type Runtime struct {
	cfg     Config
	systemd bool
	client  *client.Client
	cgroups hierarchies
	log     *slog.Logger
	session string // of this connection, in the ids of its execs

	base    context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup // of goroutines

	mu       sync.Mutex          // guards what follows; never held during a call
	locks    map[string]*idLock  // by container id
	ooms     map[string]struct{} // ids of which an OOM event came
	leases   map[string]struct{} // leases in use
	oomsGone uint64              // what goneOOMs counted when it was last told of
	swept    bool                // left-over leases were looked for
}

var _ runtime.Runtime = (*Runtime)(nil)

// New prepares a connection. It does not fail because containerd does not
// answer: see Ready.
func New(cfg Config) (*Runtime, error) {
	if cfg.Address == "" {
		cfg.Address = defaults.DefaultAddress
	}
	if cfg.Namespace == "" {
		cfg.Namespace = "agentd"
	}
	if cfg.Snapshotter == "" {
		cfg.Snapshotter = defaults.DefaultSnapshotter
	}
	if cfg.StateDir == "" {
		cfg.StateDir = filepath.Dir(cfg.Address)
	}
	if cfg.PullStall <= 0 {
		cfg.PullStall = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Node == "" {
		return nil, errors.New("open containerd: no node name given")
	}
	systemd := systemdBooted()
	if cfg.SystemdCgroup != nil {
		systemd = *cfg.SystemdCgroup
	}
	hier, err := findHierarchies()
	if err != nil {
		return nil, fmt.Errorf("open containerd: %w", err)
	}
	// A socket on this machine is worth another try at once: gRPC's back-off
	// would sit out seconds after containerd is back.
	again := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: redial, Multiplier: 1, MaxDelay: redial},
		MinConnectTimeout: dialLimit,
	}
	c, err := client.New(cfg.Address, client.WithTimeout(dialLimit), client.WithDefaultNamespace(cfg.Namespace),
		client.WithExtraDialOpts([]grpc.DialOption{grpc.WithConnectParams(again)}))
	if err != nil {
		return nil, fmt.Errorf("open containerd at %s: %w", cfg.Address, err)
	}
	r := &Runtime{
		cfg: cfg, systemd: systemd, client: c, cgroups: hier, log: cfg.Log,
		session: rand.Text()[:8], locks: map[string]*idLock{}, ooms: map[string]struct{}{}, leases: map[string]struct{}{},
	}
	r.oomsGone, _ = r.goneOOMs()
	r.base, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// Ready implements runtime.Runtime. Its errors say what to do.
func (r *Runtime) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	// A plain look at the socket first: gRPC only says "unavailable".
	if err := r.diagnose(ctx); err != nil {
		return fmt.Errorf("%w: %w", runtime.ErrUnavailable, err)
	}
	ok, err := r.client.IsServing(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s accepts connections but does not answer as containerd does (%w); hung, starting, or not containerd? see: systemctl status containerd",
			runtime.ErrUnavailable, r.cfg.Address, err)
	}
	if !ok {
		return fmt.Errorf("%w: containerd at %s is still starting", runtime.ErrUnavailable, r.cfg.Address)
	}
	r.sweep(ctx)
	return nil
}

// diagnose tells the usual reasons why nobody answers apart.
func (r *Runtime) diagnose(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", r.cfg.Address)
	switch {
	case err == nil:
		return conn.Close()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no containerd socket at %s: is containerd installed and running? try: systemctl start containerd; another path goes into [runtime] address", r.cfg.Address)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to use containerd's socket %s: agentd has to run as root", r.cfg.Address)
	case notSocket(r.cfg.Address):
		return fmt.Errorf("%s is not a socket; set [runtime] address to containerd's", r.cfg.Address)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at containerd's socket %s: containerd is not running; try: systemctl restart containerd", r.cfg.Address)
	case errors.Is(err, syscall.EPROTOTYPE):
		return fmt.Errorf("%s is not containerd's socket; set [runtime] address", r.cfg.Address)
	}
	return fmt.Errorf("connect to containerd: %w", err)
}

// notSocket: Linux refuses connections to a plain file as it does to a socket
// on which nobody listens.
func notSocket(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&fs.ModeSocket == 0
}

// Close implements runtime.Runtime. It waits a while for lifecycle calls under
// way: a call that is cut off may leave an id wedged until it is mended.
func (r *Runtime) Close() error {
	r.mu.Lock()
	closed := r.base.Err() != nil
	r.stop() // under mu: see spawn
	r.mu.Unlock()
	if closed {
		return nil
	}
	done := make(chan struct{})
	go func() {
		r.running.Wait()
		close(done)
	}()
	t := time.NewTimer(closeLimit)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		r.log.Warn("closing while containerd still has calls under way", "after", closeLimit)
	}
	return r.client.Close()
}

// spawn runs f in a goroutine that Close waits for; false after Close.
func (r *Runtime) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.base.Err() != nil {
		return false
	}
	r.running.Go(f)
	return true
}

// errClosed is what calls answer after Close.
var errClosed = fmt.Errorf("%w: the connection was closed", runtime.ErrUnavailable)

func (r *Runtime) tasks() tasks.TasksClient { return r.client.TaskService() }

func (r *Runtime) containers() containers.Store { return r.client.ContainerService() }

func (r *Runtime) snapshots() snapshots.Snapshotter {
	return r.client.SnapshotService(r.cfg.Snapshotter)
}

// systemdBooted is sd_booted(3).
func systemdBooted() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}
