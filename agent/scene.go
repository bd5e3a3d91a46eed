package agent

import (
	"fmt"
	"maps"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// scene is what all daemons' inputs have in common.
type scene struct {
	self    self
	reports map[string]supervise.Report
	peers   peers
	steer   steering
}

func (a *Agent) scene() scene {
	a.mu.Lock()
	s := scene{self: a.self, reports: map[string]supervise.Report{}}
	a.mu.Unlock()
	for _, r := range a.super.Reports() {
		s.reports[r.Name] = r
	}
	a.hear()
	s.peers = a.turns.heard.peers(a.ring.Members())
	s.peers.names = maps.Clone(s.peers.names) // others keep it, see turns.remember
	s.peers.names[a.turns.keeper.ID()] = a.cfg.Node.Name
	s.peers.left = maps.Clone(s.peers.left)
	for _, id := range a.turns.keeper.Past() {
		s.peers.left[id] = rollout.LeftWord
	}
	s.steer = a.steering()
	return s
}

// hear takes over what others said, and reports whether it can matter here.
func (a *Agent) hear() bool {
	return a.turns.heard.follow(a.book, a.turns.keeper.ID(), a.cfg.Node.Name)
}

// steering reads the control records again when any record changed.
func (a *Agent) steering() steering {
	root := a.store.Root()
	t := &a.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.steered || t.steerRoot != root {
		t.steer, t.steerRoot, t.steered = steer(a.store.List(record.KindControl)), root, true
	}
	return t.steer
}

// input is what a daemon's rollout gets of the scene.
func (s scene) input(v daemonView) rollout.Input {
	return rollout.Input{
		Peers: s.peers.states[v.name], Down: s.peers.down, Names: s.peers.names,
		Words:  s.steer.words(v.name, v.version, s.peers),
		Paused: s.steer.paused(v.name), Forgiven: s.steer.forgiven(v.name, v.version),
	}
}

// here is what this node's supervisor says of a daemon.
func (a *Agent) here(v daemonView, s scene, now time.Time) rollout.Here {
	h := rollout.Here{Placed: true}
	state := a.turns.keeper.State(v.name)
	if state.Observed == (rollout.Version{Version: v.version, Vetoed: true}) {
		if back, ok := fallbackOf(v, a.store); ok {
			v.spec = back.spec // it may be meant for other nodes
		}
	}
	if ok, _ := v.spec.Selects(s.self.node); !ok || s.self.draining {
		h.Placed = false
	}
	for _, t := range v.spec.Untolerated(s.self.node.Taints) {
		switch t.Effect {
		case spec.NoExecute:
			h.Placed = false
		case spec.NoSchedule:
			h.Closed = fmt.Sprintf("taint %s keeps this node from taking anything new", t)
		}
	}
	if s.self.cordoned {
		h.Closed = "this node is cordoned; agentctl uncordon " + s.self.node.Name
	}
	a.turns.mu.Lock()
	told, held := a.turns.told[v.name], a.turns.boot[v.name]
	a.turns.mu.Unlock()
	h.Told = told == v.version && !told.IsZero()
	h.Rebooted = state.Slot != nil && *state.Slot == held
	r, ok := s.reports[v.name]
	if !ok {
		h.Alive, h.Known = a.super.Present(v.name)
		return h
	}
	if r.Denied && r.Container == "" {
		h.Placed = false // this node's policy keeps it off, and nothing of it was ever here
	}
	h.Known, h.Alive, h.Digest, h.Ready = r.Looked, r.Alive, r.Digest, r.Ready && !r.ReadySince.IsZero()
	if !r.ReadySince.IsZero() {
		h.ReadyFor = now.Sub(r.ReadySince)
	}
	if !r.TryingSince.IsZero() && r.Wanted == state.Current.Digest {
		h.Tried = max(now.Sub(r.TryingSince), 1)
	}
	if b := r.Beside; b != nil && !b.ReadySince.IsZero() && b.Digest == state.Current.Digest {
		h.Tried = 0 // a surge whose new container is ready, and waits for min_ready, is not late
	}
	return h
}
