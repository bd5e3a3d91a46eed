package agent

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentd/agentd/agent/logs"
	"github.com/agentd/agentd/api"
)

// logPath is a daemon's log file, where output goes to files.
func (a *Agent) logPath(daemon string) string {
	return filepath.Join(a.cfg.Node.DataDir, "logs", daemon+".log")
}

// Logs emits what a daemon's containers wrote on this node, also when none runs
// any more.
func (a *Agent) Logs(ctx context.Context, q api.LogQuery, emit func(api.LogLine) error) error {
	if _, known := a.known(q.Daemon); !known {
		return problem(http.StatusNotFound, "there is no daemon \""+q.Daemon+"\" on "+a.cfg.Node.Name, "agentctl status lists them")
	}
	query := logs.Query{Daemon: q.Daemon, Since: q.Since, Follow: q.Follow}
	switch {
	case q.Tail < 0:
		query.Tail = 0 // all
	case q.Tail == 0:
		query.Tail = -1 // none
	default:
		query.Tail = q.Tail
	}
	return a.logs.Read(ctx, query, func(e logs.Entry) error {
		return emit(api.LogLine{Time: e.Time, Stream: e.Stream, Line: strings.ToValidUTF8(e.Line, "\uFFFD")})
	})
}

// known reports whether this node has heard of a daemon, deleted ones included.
func (a *Agent) known(name string) (daemonView, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.view {
		if v.name == name {
			return v, true
		}
	}
	for _, r := range a.super.Reports() {
		if r.Name == name {
			return daemonView{name: name}, true
		}
	}
	return daemonView{}, false
}

// lastOutput is the end of what a daemon wrote, to say why it failed.
func (a *Agent) lastOutput(ctx context.Context, daemon string) string {
	const lines = 5
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var out []string
	err := a.logs.Read(ctx, logs.Query{Daemon: daemon, Tail: lines}, func(e logs.Entry) error {
		out = append(out, strings.ToValidUTF8(e.Line, "\uFFFD"))
		return nil
	})
	if err != nil {
		return ""
	}
	return strings.Join(out, "\n")
}
