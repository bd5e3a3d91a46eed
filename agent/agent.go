// Package agent is one node's supervisor: it brings the rooms together. Records
// come from the socket and the ring into the store; what the store holds decides
// what the supervisor shall run; what runs is told to the ring and to whoever
// asks at the socket.
//
// Promises: nothing is acted upon that was not signed, verified and persisted
// first; membership, a dead ring, a full disk or the end of this process never
// stop a container; what can't be done is said, with the reason.
//
// Run owns all goroutines and returns after they have ended. Methods that
// answer the socket may be called from any goroutine.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/agent/events"
	"github.com/agentd/agentd/agent/logs"
	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/agent/store"
	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/peer"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec/record"
)

// firstExchange is how long a boot waits for news from the ring before it
// starts daemons from disk: a machine that was away takes the newest
// generation at once instead of starting an old one first.
const firstExchange = 3 * time.Second

// Config is what an agent is made of.
type Config struct {
	Config  *config.Loaded
	Version string
	Commit  string
	Runtime runtime.Runtime // owned by the agent: closed when Run returns
	Log     *slog.Logger
	Service Service // the service manager; the zero value is none
	// Socket is the API's, when the service manager made it; may be nil.
	Socket *net.UnixListener
	// Reloaded is told what is in effect after a reload; it must not block. May
	// be nil.
	Reloaded func(config.Config)
	// Rotate bounds a container's log file, LogURI says where its output goes
	// instead ("" for the file), and Logs reads it; see supervise.Config.
	Rotate func(path string, maxSize int64, maxFiles int) error
	LogURI func(daemon, path string) string
	Logs   logs.Reader
}

// Agent is one node.
type Agent struct {
	cfg     config.Config
	version string
	commit  string
	log     *slog.Logger
	started time.Time

	file     string // agentd.toml
	service  Service
	manager  manager
	reload   reloading
	reloaded func(config.Config)
	back     atomic.Bool // from a reload: the service manager is to be told
	turned   moment      // when the loop last came round

	lock      *supervise.NodeLock
	ringKey   config.RingKey
	trust     *record.Trust
	store     *store.Store
	identity  *peer.Identity
	authority *peer.Authority
	bindings  *peer.Bindings
	book      *gossip.Book
	ring      *gossip.Ring
	server    *peer.Server
	client    *peer.Client
	runtime   runtime.Runtime
	super     *supervise.Supervisor
	turns     turns // this node's part in rollouts
	outcomes  outcomes
	api       *api.Server

	metrics    *prometheus.Registry
	eventCount *prometheus.CounterVec
	events     *events.Log
	logs       logs.Reader

	wake  chan struct{} // capacity 1: look at everything again
	moved chan struct{} // capacity 1: the supervisor's reports changed
	left  atomic.Bool   // this node left its ring
	fed   atomic.Bool   // the supervisor may be told what is wanted

	hadPeers  bool              // in earlier runs
	isolated  time.Time         // owned by the loop: since when nobody else is reached
	decided   decisions         // owned by the loop: as of the records last seen
	waiting   []rollout.NodeID  // owned by the loop: who waits for what this node says next
	members   []gossip.Member   // owned by the loop: as seen last
	forgotten map[string]string // owned by the loop: by node, the digest of the word that was followed

	telling sync.Mutex
	told    []byte // guarded by telling: what was said last, but for the time

	mu    sync.Mutex
	notes []string     // guarded by mu: what an operator should know, for status
	view  []daemonView // guarded by mu: the record set as decided last
	self  self         // guarded by mu: labels, taints and so on as followed last
}

// New opens everything that can fail before anything starts: it takes the node
// lock, reads keys, opens the store and binds the ports. All that is wrong with
// the node's own files is reported at once.
func New(c Config) (_ *Agent, err error) {
	a := blank(c)
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if err := os.MkdirAll(a.cfg.Node.DataDir, 0o750); err != nil {
		return nil, fmt.Errorf("create data_dir: %w", err)
	}
	if a.lock, err = supervise.Lock(a.cfg.Node.DataDir, a.cfg.Runtime.Address, a.cfg.Runtime.Namespace); err != nil {
		return nil, err
	}
	if err := a.openEvents(); err != nil {
		return nil, err
	}
	if err := a.openKeys(); err != nil {
		return nil, err
	}
	if err := a.openStore(c.Config); err != nil {
		return nil, err
	}
	if err := a.openSupervisor(c); err != nil {
		return nil, err
	}
	if err := a.openRing(); err != nil {
		return nil, err
	}
	a.api = api.NewServer(api.ServerConfig{
		Socket: a.cfg.API.Socket, Group: a.cfg.API.Group, Passed: c.Socket, Backend: a, Log: a.log,
	})
	return a, a.api.Listen()
}

// blank is an agent that has opened nothing.
func blank(c Config) *Agent {
	a := &Agent{
		cfg: c.Config.Config, version: c.Version, commit: c.Commit, log: c.Log,
		file: c.Config.Files[0], service: c.Service, manager: manager{notify: c.Service.Notify, log: c.Log},
		reload: reloading{cfg: c.Config.Config, own: c.Config.Node}, reloaded: c.Reloaded,
		runtime: c.Runtime, started: time.Now(), wake: make(chan struct{}, 1), moved: make(chan struct{}, 1),
	}
	a.eventCount = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "agentd_events_total", Help: "Events on this node since this agentd began, by type; see agentctl events.",
	}, []string{"type"})
	a.metrics = a.registry()
	return a
}

func (a *Agent) openEvents() (err error) {
	a.events, err = events.Open(events.Config{Dir: filepath.Join(a.cfg.Node.DataDir, "events"), Node: a.cfg.Node.Name, Log: a.log})
	return err
}

// openKeys reads the ring key and the operators' keys.
func (a *Agent) openKeys() error {
	key, trust, err := readKeys(a.cfg)
	if err != nil {
		return err
	}
	a.ringKey, a.trust = key, trust
	return bindRing(a.cfg.Node.DataDir, key.ID)
}

func readKeys(c config.Config) (config.RingKey, *record.Trust, error) {
	key, keyErr := config.ReadRingKey(c.Ring.KeyFile)
	operators, trustErr := config.ReadTrustDir(c.Trust.Dir)
	return key, record.NewTrust(operators...), errors.Join(keyErr, trustErr)
}

// CheckKeys reads the ring key and the operators' keys, and says all that is
// wrong with them.
func CheckKeys(c config.Config) error {
	_, _, err := readKeys(c)
	return err
}

func (a *Agent) openStore(loaded *config.Loaded) (err error) {
	floor, err := config.ReadFloor(config.FloorFile(filepath.Dir(loaded.Files[0])))
	if err != nil {
		return err
	}
	a.store, err = store.Open(store.Config{
		Dir: a.cfg.Node.DataDir, Ring: a.ringKey.ID, Trust: a.trust, Log: a.log, Floor: floor, Now: time.Now,
	})
	if err != nil {
		return err
	}
	left, err := readLeft(a.cfg.Node.DataDir)
	a.left.Store(left)
	return err
}

func (a *Agent) openSupervisor(c Config) error {
	pol, err := a.newPolicy(a.cfg)
	if err != nil {
		return err
	}
	a.logs = c.Logs
	if a.logs == nil {
		a.logs = logs.Files{Path: a.logPath}
	}
	a.super = supervise.New(supervise.Config{
		Node: ownSelf(a.cfg.Node, a.version, a.cfg.Ring.Advertise, record.NodeBody{}).node, Runtime: a.runtime, Policy: pol, DataDir: a.cfg.Node.DataDir,
		LogPath: a.logPath, LastOutput: a.lastOutput, Event: a.happened,
		LogURI: func(daemon string) string {
			if c.LogURI == nil {
				return ""
			}
			return c.LogURI(daemon, a.logPath(daemon))
		},
		Log: a.log, Changed: func() { poke(a.moved) }, Left: a.left.Load(),
		LogMaxSize: int64(a.cfg.Log.MaxSize), LogMaxFiles: a.cfg.Log.MaxFiles, Rotate: c.Rotate,
	})
	return nil
}

// Run runs the node until ctx ends. Containers go on after it.
func (a *Agent) Run(ctx context.Context) error {
	defer a.close()
	if err := a.greet(ctx); err != nil {
		return err
	}
	defer a.keepEvents(ctx)()
	defer context.AfterFunc(ctx, a.manager.stops)()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.api.Run(ctx) })
	g.Go(func() error { return a.server.Run(ctx) })
	g.Go(func() error { return a.super.Run(ctx) })
	g.Go(func() error { return a.ring.Run(ctx) })
	g.Go(func() error { return a.loop(ctx) })
	g.Go(func() error { return a.serveMetrics(ctx) })
	g.Go(func() error { watch(ctx, a.service, a.hearts(), a.log); return nil })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// keepEvents starts the log of events, which outlives all that may have
// something to tell. The function that it returns ends it.
func (a *Agent) keepEvents(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- a.events.Run(ctx) }()
	a.emit(api.Event{Type: api.EventAgent, Reason: fmt.Sprintf("agentd %s started", a.version)})
	return func() {
		a.emit(api.Event{Type: api.EventAgent, Reason: "agentd stops; containers go on"})
		cancel()
		if err := <-ended; err != nil {
			a.log.Warn("events were not all kept", "err", err)
		}
	}
}

func (a *Agent) close() {
	if a.runtime != nil {
		_ = a.runtime.Close() // containers go on; nothing is left to do about it
	}
	if a.lock != nil {
		a.lock.Unlock()
	}
}

// poke wakes whoever waits on a channel of capacity 1; it never blocks.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (a *Agent) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.mu.Lock()
	a.notes = append(a.notes, text)
	a.mu.Unlock()
	a.log.Warn("found at the start", "reason", text)
}
