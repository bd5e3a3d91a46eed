package agent

import (
	"context"
	"net/http"
	"time"

	"github.com/agentd/agentd/api"
)

// The methods of api.Backend about this node's containers.

func notYet() error {
	return problem(http.StatusNotImplemented, "not supported yet", "")
}

// Logs is not supported yet.
func (a *Agent) Logs(context.Context, api.LogQuery, func(api.LogLine) error) error { return notYet() }

// Exec is not supported yet.
func (a *Agent) Exec(context.Context, string, api.ExecRequest, api.ExecStreams) (int, error) {
	return 0, notYet()
}

// Restart is not supported yet.
func (a *Agent) Restart(context.Context, string) error { return notYet() }

// Events is not supported yet.
func (a *Agent) Events(context.Context, time.Time, bool, func(api.Event) error) error {
	return notYet()
}

// Top is not supported yet.
func (a *Agent) Top(context.Context) (api.Top, error) { return api.Top{}, notYet() }

// Volumes is not supported yet.
func (a *Agent) Volumes(context.Context) (api.Volumes, error) { return api.Volumes{}, notYet() }

// PruneVolumes is not supported yet.
func (a *Agent) PruneVolumes(context.Context, []string) (api.Pruned, error) {
	return api.Pruned{}, notYet()
}
