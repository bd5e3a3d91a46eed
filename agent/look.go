package agent

import (
	"time"

	"github.com/agentd/agentd/spec/record"
)

// lookSpacing keeps bursts of news, and what is due very soon, from becoming a
// busy loop.
const lookSpacing = 20 * time.Millisecond

// look decides what is wanted and tells the supervisor. It returns when to look
// again though nothing happens; zero for no such time.
func (a *Agent) look() (again time.Duration) {
	a.knowSelf()
	entries := a.store.List(record.KindDaemon)
	views := make([]daemonView, 0, len(entries))
	all := make([]decided, 0, len(entries))
	act := a.fed.Load() && !a.left.Load()
	for _, e := range entries {
		var d decided
		if act {
			d = decide(e, a.store)
		} else {
			d.view, _ = understand(e.Winner())
			d.view.conflict = conflictOf(e)
		}
		views, all = append(views, d.view), append(all, d)
	}
	a.mu.Lock()
	before := a.view
	a.view = views
	a.mu.Unlock()
	if before != nil { // what is there at the start is not news
		for _, e := range applied(before, views) {
			a.emit(e)
		}
	}
	members := a.ring.Members()
	for _, e := range news(a.members, members, a.cfg.Node.Name) {
		a.emit(e)
	}
	a.members = members
	if since := isolatedSince(a.isolated, time.Now(), a.cfg.Node.Name, members, a.hadPeers); !since.Equal(a.isolated) {
		a.isolated = since
		a.super.SetIsolated(since)
	}
	if act {
		wants, due := a.takeTurns(all)
		again = due
		a.super.Set(wants)
	}
	a.applyForgets()
	return again
}
