package agent

import (
	"context"
	"net/http"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
)

// silentRuntime is how long a leaving node waits for a container runtime that
// does not answer before it says so and goes; its daemons are stopped once the
// runtime is back.
const silentRuntime = 10 * time.Second

// announceTimeout bounds how long a leaving node waits for its last word to be
// heard.
const announceTimeout = 5 * time.Second

// Leave takes this node out of the ring for good: its daemons stop, the ring is
// told, and neither a restart nor a reboot brings it back, only Rejoin. The
// decision is on disk before the first container stops, so that a crash in the
// middle ends in the same place.
func (a *Agent) Leave(ctx context.Context) (api.LeaveReport, error) {
	out := api.LeaveReport{Schema: api.Schema, Node: a.cfg.Node.Name, Stopped: []string{}, Failed: []string{}, Warnings: []string{}}
	if err := writeLeft(a.cfg.Node.DataDir); err != nil {
		return out, problem(http.StatusInternalServerError, "leaving could not be written down, so nothing was stopped: "+err.Error(), "")
	}
	a.left.Store(true)
	a.log.Info("leaving the ring")
	before := map[string]bool{}
	for _, r := range a.super.Reports() {
		before[r.Name] = r.Container != ""
	}
	err := a.stopAll(ctx)
	for _, r := range a.super.Reports() {
		switch {
		case r.Container != "":
			out.Failed = append(out.Failed, r.Name+": "+r.Reason)
		case before[r.Name]:
			out.Stopped = append(out.Stopped, r.Name)
		}
	}
	if err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	} else if err := a.turns.keeper.Left(); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	a.tell()
	alone := true
	for _, m := range a.ring.Members() {
		if m.Name != a.cfg.Node.Name && m.State == gossip.Alive {
			alone = false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	switch err := a.ring.Leave(ctx); {
	case err != nil:
		out.Warnings = append(out.Warnings, "the ring could not be told: "+err.Error())
	case alone:
		out.Warnings = append(out.Warnings, "nobody could be reached; others will see this node as failed until it is forgotten")
	default:
		out.Announced = true
	}
	poke(a.wake)
	return out, nil
}

// stopAll stops this node's daemons, unless the runtime is silent for too long.
func (a *Agent) stopAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- a.super.StopAll(ctx) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	heard := time.Now()
	for {
		select {
		case err := <-stopped:
			return err
		case now := <-tick.C:
			if a.super.Trouble() == "" {
				heard = now
			}
			if now.Sub(heard) >= silentRuntime {
				cancel()
			}
		}
	}
}

// Rejoin undoes Leave.
func (a *Agent) Rejoin(_ context.Context, addrs []string) error {
	if err := a.turns.keeper.Rejoined(); err != nil {
		return problem(http.StatusInternalServerError, err.Error(), "")
	}
	if err := clearLeft(a.cfg.Node.DataDir); err != nil {
		return problem(http.StatusInternalServerError, err.Error(), "")
	}
	a.left.Store(false)
	a.super.Resume()
	a.ring.Rejoin(addrs...)
	poke(a.wake)
	return nil
}
