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
		return r, &api.Problem{Status: 409, Title: "Conflict", Detail: "configuration not reloaded, nothing changed: " + err.Error()}
	}
	now := f.cfg.Taking(loaded.Config)
	r.Changed = append(r.Changed, config.Changed(f.cfg.Config, now)...)
	r.Restart = append(r.Restart, config.Changed(now, loaded.Config)...)
	return r, nil
}
