package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/peer"
	"github.com/agentd/agentd/gossip/sim"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
)

// machine is a node of a world: a disk, a container runtime, and, at times, an
// agent.
type machine struct {
	w    *world
	name string
	rt   *fake.Runtime
	key  int // which of its node keys it has
	used int // the greatest key that an agent had, plus 1
	disk int // which of its folders is the disk
	boot int // how often it was booted
	left bool

	agent *Agent // nil while none runs
	seat  *sim.Seat
	link  *link // of the agent to the runtime
	stop  context.CancelFunc
	lost  bool // the rollout state was lost since its agent ran last
}

// link is one agent's connection to its machine's runtime. When the agent dies
// it is cut: what was asked for goes on, nothing more is asked.
type link struct {
	*fake.Runtime
	m   *machine
	cut atomic.Bool
}

var errDead = errors.New("this agent is dead")

func (l *link) Ready(ctx context.Context) error {
	if l.cut.Load() {
		return errDead
	}
	return l.Runtime.Ready(ctx)
}

func (l *link) List(ctx context.Context) ([]runtime.Instance, error) {
	if l.cut.Load() {
		return nil, errDead
	}
	return l.Runtime.List(ctx)
}

func (l *link) Pull(ctx context.Context, p runtime.Pull) (string, error) {
	if l.cut.Load() {
		return "", errDead
	}
	defer l.m.w.by.pulls(p.Ref)()
	i := l.m.w.image(p.Ref)
	select {
	case <-time.After(time.Duration(float64(i.pull) * (0.5 + l.m.w.share("pull", p.Ref, l.m.name)))):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if _, _, missing := l.m.w.behaves(p.Ref, l.m.name); missing && l.m.w.share("pulled", p.Ref, l.m.name) < 0.5 {
		return "", runtime.ErrImage
	}
	return l.Runtime.Pull(ctx, p)
}

func (l *link) Ensure(ctx context.Context, s runtime.Spec) (runtime.Instance, error) {
	if l.cut.Load() || l.sprung(fake.OpEnsure, s.ID) {
		return runtime.Instance{}, errDead
	}
	return l.Runtime.Ensure(ctx, s)
}

func (l *link) Stop(ctx context.Context, id string, grace time.Duration) (runtime.Exit, error) {
	if l.cut.Load() {
		return runtime.Exit{}, errDead
	}
	if l.sprung(fake.OpStop, id) {
		// The runtime was asked, and nobody is there to hear the answer.
		go func() { _, _ = l.Runtime.Stop(context.WithoutCancel(ctx), id, grace) }()
		return runtime.Exit{}, errDead
	}
	return l.Runtime.Stop(ctx, id, grace)
}

func (l *link) Remove(ctx context.Context, id string) error {
	if l.cut.Load() {
		return errDead
	}
	return l.Runtime.Remove(ctx, id)
}

func (l *link) SetLabels(ctx context.Context, id string, labels map[string]string) error {
	if l.cut.Load() {
		return errDead
	}
	return l.Runtime.SetLabels(ctx, id, labels)
}

// sprung lets the agent die in the very moment in which it acts, with the disk
// as it is then.
func (l *link) sprung(op fake.Op, id string) bool {
	m := l.m
	m.w.mu.Lock()
	dies := m.w.trap != nil && m.w.trap(m, op)
	m.w.mu.Unlock()
	if !dies || !l.cut.CompareAndSwap(false, true) {
		return false
	}
	m.w.say("%s: agent dies at %s %s", m.name, op, id)
	m.copyDisk(m.folder(m.disk), m.folder(m.disk+1))
	return true
}

func (m *machine) folder(n int) string {
	return filepath.Join(m.w.dir, m.name, strconv.Itoa(n))
}

// fresh gives the machine an empty disk.
func (m *machine) fresh() {
	m.disk++
	if err := os.MkdirAll(m.folder(m.disk), 0o750); err != nil {
		m.w.t.Fatal(err)
	}
}

// start begins an agent on the machine, as the service manager does.
func (m *machine) start() {
	m.w.t.Helper()
	if m.agent != nil {
		return
	}
	a, err := m.assemble()
	if err != nil {
		m.w.t.Fatalf("start %s: %v", m.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.agent, m.stop, m.lost = a, cancel, false
	m.w.say("%s: agent starts, rollout id %s", m.name, m.id())
	stopped := a.keepEvents(ctx)
	m.w.dead.Go(func() {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return a.super.Run(ctx) })
		g.Go(func() error { return a.ring.Run(ctx) })
		g.Go(func() error { return a.loop(ctx) })
		if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			m.w.failf("%s: %v", m.name, err)
		}
		stopped()
	})
}

// assemble is New without sockets.
func (m *machine) assemble() (*Agent, error) {
	dir := m.folder(m.disk)
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir = m.name, dir
	cfg.Ring.KeyFile, cfg.Trust.Dir = filepath.Join(dir, "etc", "ring.key"), filepath.Join(dir, "etc", "trust.d")
	cfg.API.Socket = filepath.Join(dir, "run", "agentd.sock")
	cfg.Runtime.Address = filepath.Join(dir, "run", "containerd.sock")
	for i := range 3 {
		if seed := sim.Name(i); seed != m.name {
			cfg.Ring.Join = append(cfg.Ring.Join, m.w.net.Addr(seed))
		}
	}
	m.link = &link{Runtime: m.rt, m: m}
	c := Config{
		Config: &config.Loaded{Config: cfg, Files: []string{filepath.Join(dir, "etc", "agentd.toml")}}, Version: "1.0.0",
		Runtime: m.link, Log: m.w.logger(m.name),
	}
	a := blank(c)
	a.ringKey, a.trust = config.RingKey{ID: m.w.ring, Keys: [][]byte{sim.Key()}}, m.w.trust
	if err := a.openEvents(); err != nil {
		return nil, err
	}
	if err := a.openStore(c.Config); err != nil {
		return nil, err
	}
	if err := a.openSupervisor(c); err != nil {
		return nil, err
	}
	key := sim.NodeKey(m.name + "#" + strconv.Itoa(m.key))
	a.identity = &peer.Identity{Name: m.name, Key: key, ID: gossip.MakeNodeID(m.name, key.Public().(ed25519.PublicKey))}
	if err := a.openSelf(m.isNew(), "boot "+strconv.Itoa(m.boot)); err != nil {
		return nil, err
	}
	a.authority = m.w.authority // nobody speaks TLS here
	m.seat = m.w.net.Sit(m.name, a.store, a.book)
	rc := a.ringConfig()
	rc.Bind, rc.Exchanger, rc.Tuning = m.seat.Addr(), m.seat, m.seat.Tuning()
	var err error
	a.ring, err = gossip.New(rc)
	return a, err
}

// crash ends the agent as SIGKILL does: the disk stays as it is at this
// instant, whatever the old agent's goroutines still do.
func (m *machine) crash() {
	if m.agent == nil {
		return
	}
	m.w.say("%s: agent dies", m.name)
	next := m.folder(m.disk + 1)
	if m.link.cut.CompareAndSwap(false, true) {
		m.copyDisk(m.folder(m.disk), next)
	}
	m.disk++
	m.seat.Close()
	m.stop()
	m.agent = nil
}

// died reports whether a trap killed the agent, and buries it.
func (m *machine) died() bool {
	if m.agent == nil || !m.link.cut.Load() {
		return false
	}
	m.crash()
	return true
}

// powerCut crashes the machine; it is off until start.
func (m *machine) powerCut() {
	m.w.say("%s: power is cut", m.name)
	m.w.by.powerCut(m)
	m.rt.SetUnavailable(true)
	m.rt.PowerCut()
	m.crash()
	m.boot++
}

// powerOn is its counterpart, a second later at the least.
func (m *machine) powerOn() {
	m.w.say("%s: power is back", m.name)
	m.rt.PowerCut() // what a call under way had started is not there
	m.rt.SetUnavailable(false)
	m.start()
}

// forgetTurns loses the rollout state, while no agent runs.
func (m *machine) forgetTurns() {
	m.w.say("%s: rollout state lost", m.name)
	_ = os.Remove(filepath.Join(m.folder(m.disk), turnsFile)) // it may have none
	m.lost = true
}

// forgetAll loses the whole disk but for the node's key, while no agent runs.
func (m *machine) forgetAll() {
	m.w.say("%s: disk lost", m.name)
	m.fresh()
	m.lost, m.left = true, false // it does not know that it left either
	m.w.by.fresh(m)
}

// copyDisk copies a data_dir while it is in use, as a crash would leave it: what
// is written last is copied first, so that nothing is there without what was on
// the disk before it.
func (m *machine) copyDisk(from, to string) {
	one := func(path string) error {
		b, err := os.ReadFile(filepath.Join(from, path))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // renamed or removed meanwhile
		}
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, path)), 0o750); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), b, 0o600)
	}
	if err := one(turnsFile); err != nil {
		m.w.failf("%s: copy the disk: %v", m.name, err)
	}
	for _, top := range []string{"ratchet", "."} {
		err := filepath.WalkDir(filepath.Join(from, top), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			rel, relErr := filepath.Rel(from, path)
			if err = errors.Join(err, relErr); err != nil {
				return err
			}
			if d.IsDir() {
				return os.MkdirAll(filepath.Join(to, rel), 0o750)
			}
			if _, err := os.Stat(filepath.Join(to, rel)); err == nil {
				return nil // copied already
			}
			return one(rel)
		})
		if err != nil {
			m.w.failf("%s: copy the disk: %v", m.name, err)
		}
	}
}

// isNew reports whether this is the first agent with the machine's node key.
func (m *machine) isNew() bool {
	first := m.used != m.key+1
	m.used = m.key + 1
	return first
}
