package main

import (
	"context"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
)

// Reload reads the fake's configuration again, and takes no file over.
func (f *fakeRing) Reload(context.Context) (api.Reloaded, error) {
	r := api.Reloaded{Schema: api.Schema, Node: f.cfg.Node.Name, Changed: []string{}, Restart: []string{}}
	loaded, err := config.Load(f.cfg.Files[0])
	if err != nil {
		return r, &api.Problem{Status: 409, Title: "Conflict", Detail: "nothing was changed: " + err.Error()}
	}
	now := f.cfg.Taking(loaded.Config)
	r.Changed = append(r.Changed, config.Changed(f.cfg.Config, now)...)
	r.Restart = append(r.Restart, config.Changed(now, loaded.Config)...)
	return r, nil
}

// Reach tells what the scene says of the other nodes: alive ones are reached.
func (f *fakeRing) Reach(context.Context) (api.Reach, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := api.Reach{Schema: api.Schema, Node: f.cfg.Node.Name, Peers: []api.ReachPeer{}}
	for _, n := range f.s.Nodes {
		p := api.ReachPeer{Node: n.Name, State: n.State, Address: "10.0.0.9:7946", Known: n.State == "alive", Sees: "alive"}
		switch {
		case n.Name == f.cfg.Node.Name:
			continue
		case n.State == "suspect":
			p.Known, p.Sees, p.In = true, "failed", "gossip (TCP): 10.0.0.1:7946 does not answer"
		case n.State != "alive":
			p.Out = "gossip (TCP): 10.0.0.9:7946 does not answer"
		}
		r.Peers = append(r.Peers, p)
	}
	return r, nil
}
