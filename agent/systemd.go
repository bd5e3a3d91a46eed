package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Service is the service manager that runs this agent; the zero value is none.
type Service struct {
	// Notify tells it a state, in the words of sd_notify(3). nil: nobody listens.
	Notify func(state string) error
	// Watchdog is how long it waits for a sign of life before it ends this
	// process; 0: for ever.
	Watchdog time.Duration
}

const (
	// maxStatus bounds the sentence in `systemctl status`, in bytes.
	maxStatus = 400
	// latest is how late a loop may be however short the watchdog's patience is:
	// the slowest turns every five seconds when nothing happens.
	latest = 12 * time.Second
	// statusEvery is how often the sentence is looked at when nothing happens:
	// nodes that die and runtimes that hang don't wake the loop.
	statusEvery = 5 * time.Second
)

// manager tells the service manager how this agent is. Its methods may be called
// from any goroutine.
type manager struct {
	notify func(string) error // nil: nobody listens
	log    *slog.Logger

	mu     sync.Mutex
	ready  bool   // guarded by mu: READY was sent
	ending bool   // guarded by mu: STOPPING was sent
	status string // guarded by mu: as sent last
}

// isReady tells that the agent is up, or back from reloading.
func (m *manager) isReady(status string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready = true
	m.sendLocked("READY=1", status)
}

// is tells how things are, unless nothing changed.
func (m *manager) is(status string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ready && !m.ending && status != m.status {
		m.sendLocked("", status)
	}
}

// reloads tells that the configuration is read again; isReady has to follow.
// systemd before 253 takes no notice of the time, newer ones insist on it.
func (m *manager) reloads() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready {
		return
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		m.log.Warn("the monotonic clock cannot be read", "err", err)
	}
	m.sendLocked(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000), m.status)
}

// stops tells that the agent ends; nothing is told after it.
func (m *manager) stops() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sendLocked("STOPPING=1", "stopping; containers go on")
	m.ending = true
}

// sendLocked sends a state with a status; m.mu is held.
func (m *manager) sendLocked(state, status string) {
	if m.notify == nil || m.ending {
		return
	}
	m.status = status
	if state != "" {
		state += "\n"
	}
	if err := m.notify(state + "STATUS=" + clip(strings.Join(strings.Fields(status), " "), maxStatus)); err != nil {
		m.log.Warn("the service manager was not told", "err", err)
	}
}

// heart is one loop that has to turn.
type heart struct {
	name   string
	turned func() time.Time // zero: it has not begun
}

// stalled names the loops that have not turned for longer than limit. Pure.
func stalled(hearts []heart, now time.Time, limit time.Duration) []string {
	var out []string
	for _, h := range hearts {
		if at := h.turned(); !at.IsZero() && now.Sub(at) > limit {
			out = append(out, fmt.Sprintf("%s (for %s)", h.name, age(now.Sub(at))))
		}
	}
	return out
}

// watch tells the service manager that this process lives, for as long as all
// hearts beat. A loop may be late by half of what the manager waits, or by latest:
// what takes longer is no work that agentd does. The container runtime is in none of them.
func watch(ctx context.Context, s Service, hearts []heart, log *slog.Logger) {
	if s.Notify == nil || s.Watchdog <= 0 {
		return
	}
	tick := time.NewTicker(s.Watchdog / 4)
	defer tick.Stop()
	said := false
	for {
		hang := stalled(hearts, time.Now(), max(s.Watchdog/2, latest))
		switch {
		case len(hang) == 0:
			if err := s.Notify("WATCHDOG=1"); err != nil && !said {
				log.Warn("the watchdog was not fed", "err", err)
			}
			said = false
		case !said:
			said = true
			log.Error("agentd hangs; the watchdog is not fed any more", "reason", strings.Join(hang, ", "))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hearts are the loops that make this agent one.
func (a *Agent) hearts() []heart {
	return []heart{
		{"the agent's loop", a.turned.at},
		{"the supervisor's loop", a.super.Turned},
		{"the ring", a.ring.Turned},
	}
}

// moment is a time that goroutines share.
type moment struct{ p atomic.Pointer[time.Time] }

func (m *moment) now() {
	t := time.Now()
	m.p.Store(&t)
}

func (m *moment) at() time.Time {
	if t := m.p.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// tellManager tells the service manager how things are. Only the loop may call it.
func (a *Agent) tellManager() {
	switch {
	case a.service.Notify == nil:
	case a.back.Swap(false):
		a.manager.isReady(a.sentence())
	default:
		a.manager.is(a.sentence())
	}
}

// pulse is how often the loop has to turn when nothing happens; 0: never.
func (a *Agent) pulse() time.Duration {
	switch s := a.service; {
	case s.Notify == nil:
		return 0
	case s.Watchdog > 0:
		return min(statusEvery, s.Watchdog/8)
	}
	return statusEvery
}

// standing is what the one sentence of `systemctl status` is made of.
type standing struct {
	node, ring     string
	left           bool
	ready, placed  int // daemons here
	alive          int // nodes, this one included
	alone, waiting bool
	trouble        string   // of the container runtime
	notes          []string // of the last reload
}

// sentence tells how this node is. Pure.
func (s standing) sentence() string {
	if s.left {
		return fmt.Sprintf("node %s left ring %s; agentctl join takes it back", s.node, s.ring)
	}
	out := fmt.Sprintf("node %s of ring %s: ", s.node, s.ring)
	switch {
	case s.waiting:
		out += "asks the ring for news before it starts anything"
	case s.placed == 0:
		out += "no daemon is meant for it"
	case s.placed == 1:
		out += fmt.Sprintf("%d of 1 daemon ready", s.ready)
	default:
		out += fmt.Sprintf("%d of %d daemons ready", s.ready, s.placed)
	}
	switch {
	case s.alone:
		out += "; no other node is reached"
	case s.alive == 1:
		out += "; 1 node alive"
	default:
		out += fmt.Sprintf("; %d nodes alive", s.alive)
	}
	for _, more := range append([]string{s.trouble}, s.notes...) {
		if more != "" {
			out += "; " + more
		}
	}
	return out
}

// sentence tells how this node is now. Only the loop may call it.
func (a *Agent) sentence() string {
	s := standing{
		node: a.cfg.Node.Name, ring: a.cfg.Ring.Name, left: a.left.Load(), alive: a.ring.NumAlive(),
		alone: !a.isolated.IsZero(), waiting: !a.fed.Load(), trouble: a.super.Trouble(), notes: a.reloadNotes(),
	}
	for _, r := range a.super.Reports() {
		if r.Placed {
			s.placed++
		}
		if r.Placed && r.Ready {
			s.ready++
		}
	}
	return s.sentence()
}
