package agent

import (
	"context"
	"net/http"
	"time"

	"github.com/agentd/agentd/api"
)

func notYet() error {
	return problem(http.StatusNotImplemented, "not supported yet", "")
}

// Logs is not supported yet.
func (a *Agent) Logs(context.Context, api.LogQuery, func(api.LogLine) error) error { return notYet() }

// Restart is not supported yet.
func (a *Agent) Restart(context.Context, string) error { return notYet() }

// Events is not supported yet.
func (a *Agent) Events(context.Context, time.Time, bool, func(api.Event) error) error {
	return notYet()
}
