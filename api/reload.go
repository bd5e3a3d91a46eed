package api

import (
	"context"
	"net/http"
)

// Reloader is the part of a Backend that reads the configuration again. When
// something is wrong with it, nothing is changed, and the error is a *Problem
// with status 409 that says what.
type Reloader interface {
	Reload(ctx context.Context) (Reloaded, error)
}

// Reloaded is the answer to POST /v1/reload.
type Reloaded struct {
	Schema  int      `json:"schema"`
	Node    string   `json:"node"`
	Changed []string `json:"changed"` // keys that are in effect now, such as "node.labels"
	Restart []string `json:"restart"` // keys that changed, and take a restart
}

// Reload makes agentd read its configuration and the trusted keys again.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	return call[Reloaded](ctx, c, http.MethodPost, "/v1/reload", nil, nil, putTime)
}
