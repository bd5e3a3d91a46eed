package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
)

// emit keeps an event and counts it.
func (a *Agent) emit(e api.Event) {
	a.eventCount.WithLabelValues(e.Type).Inc()
	a.events.Emit(e)
}

// happened keeps what the supervisor tells.
func (a *Agent) happened(e supervise.Event) {
	a.emit(api.Event{
		Time: e.Time, Daemon: e.Daemon, Type: e.Type, Reason: e.Reason, From: e.From, To: e.To,
		Revision: e.Revision, ExitCode: e.ExitCode, OOM: e.OOM,
	})
}

// Events emits what happened on this node.
func (a *Agent) Events(ctx context.Context, since time.Time, follow bool, emit func(api.Event) error) error {
	return a.events.Read(ctx, since, follow, emit)
}

// news finds what changed in the ring between two looks. Pure.
func news(before, after []gossip.Member, self string) []api.Event {
	was := make(map[string]gossip.MemberState, len(before))
	for _, m := range before {
		was[m.Name] = m.State
	}
	var out []api.Event
	for _, m := range after {
		from, known := was[m.Name]
		if m.Name == self || from == m.State || (m.State == gossip.Suspect || from == gossip.Suspect && m.State == gossip.Alive) {
			continue // a suspicion that came to nothing is none
		}
		e := api.Event{Type: api.EventMember, Node: m.Name, From: string(from), To: string(m.State)}
		switch {
		case m.State == gossip.Alive && !known:
			e.Reason = "joined the ring at " + m.Addr
		case m.State == gossip.Alive:
			e.Reason = "is back"
		case m.State == gossip.Left:
			e.Reason = "left the ring"
		default:
			e.Reason = "can't be reached; its daemons run on as far as the ring knows"
		}
		out = append(out, e)
	}
	return out
}

// applied finds which daemons have a newer generation than before. Pure.
func applied(before, after []daemonView) []api.Event {
	was := make(map[string]uint64, len(before))
	for _, d := range before {
		was[d.name] = d.generation
	}
	var out []api.Event
	for _, d := range after {
		if d.generation <= was[d.name] {
			continue
		}
		e := api.Event{Type: api.EventApply, Daemon: d.name, Revision: d.revision}
		switch {
		case d.conflict != "":
			e.Reason = d.conflict
		case d.problem != "":
			e.Reason = d.problem
		case d.deleted:
			e.Reason = fmt.Sprintf("deleted by %s (generation %d)", d.author, d.generation)
		default:
			e.Reason = fmt.Sprintf("generation %d by %s is revision %d", d.generation, d.author, d.revision)
		}
		out = append(out, e)
	}
	return out
}
