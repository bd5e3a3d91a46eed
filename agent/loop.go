package agent

import (
	"context"
	"time"

	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec/record"
)

// lookSpacing keeps bursts of news, and what is due very soon, from becoming a
// busy loop.
const lookSpacing = 20 * time.Millisecond

// loop is level-triggered: whatever woke it, it looks at the whole store and
// the whole supervisor again.
func (a *Agent) loop(ctx context.Context) error {
	changed, members := a.store.Subscribe(), a.ring.Changed()
	// After a boot: the ring's word is looked for often, and not for long.
	news, patience := time.NewTicker(100*time.Millisecond), time.NewTimer(a.bootWait())
	defer news.Stop()
	defer patience.Stop()
	var pulse <-chan time.Time
	if every := a.pulse(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		pulse = ticker.C
	}
	again := time.NewTimer(time.Hour) // for what time alone changes
	defer again.Stop()
	var last, done time.Time // of the last look
	look := func() {
		last = time.Now()
		if due := a.look(); due > 0 {
			again.Reset(max(due, lookSpacing))
		} else {
			again.Stop()
		}
		a.tell()
		a.inform()
	}
	// soon puts a look off, so that a burst of news costs one.
	soon := func() bool {
		// In a ring of thousands a look takes milliseconds: a tenth of the time
		// at most goes into it.
		wait := max(lookSpacing, 10*done.Sub(last)) - time.Since(last)
		if wait > 0 {
			again.Reset(wait)
		}
		return wait > 0
	}
	look()
	a.manager.isReady(a.sentence())
	refresh := time.NewTicker(30 * time.Second) // ages of problems; costs nothing
	defer refresh.Stop()
	for {
		a.turned.now()
		a.tellManager()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pulse:
			continue
		case <-news.C:
			if !a.fed.Load() && !a.heardFromRing() {
				continue
			}
			news.Stop()
			a.fed.Store(true)
		case <-patience.C:
			a.fed.Store(true)
		case <-changed:
		case <-members:
		case <-a.wake:
		case <-again.C:
		case <-a.moved:
			if !a.turns.moving() {
				// Containers are the supervisor's to look after; others want to know.
				a.tell()
				continue
			}
			if soon() {
				continue
			}
		case <-a.book.Changed():
			// What others say matters to who waits for a turn, or lends one.
			if !a.hear() || soon() {
				continue
			}
		case <-refresh.C:
		}
		look()
	}
}

// bootWait is zero where nobody can know better than this node's disk.
func (a *Agent) bootWait() time.Duration {
	if len(a.cfg.Ring.Join) == 0 && !a.hadPeers {
		return 0
	}
	return firstExchange
}

// heardFromRing reports whether another node answered since the start and holds
// the same records as this one.
func (a *Agent) heardFromRing() bool {
	root := a.store.Root().String()
	for _, s := range a.book.All() {
		if s.Node == a.cfg.Node.Name {
			continue
		}
		if said, err := decodeStatement(s.Body); err == nil && said.Root == root {
			return true
		}
	}
	return false
}

// look decides what is wanted and tells the supervisor. It returns when to look
// again though nothing happens; zero for no such time.
func (a *Agent) look() (again time.Duration) {
	a.knowSelf()
	act := a.fed.Load() && !a.left.Load()
	all := a.decideAll(act)
	views := make([]daemonView, len(all))
	for i, d := range all {
		views[i] = d.view
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

// decisions are about all daemons, as of a state of the records.
type decisions struct {
	all   []decided
	root  gossip.Hash
	act   bool
	final bool // nothing but other records would change them
}

// decideAll decides about every daemon: anew when the records changed, or when
// something else, such as a full disk, stood in the way the last time. What
// containers do, and others say, is no reason to read every spec again.
func (a *Agent) decideAll(act bool) []decided {
	now := decisions{root: a.store.Root(), act: act, final: true} // the root first: what is listed may be newer
	if was := a.decided; was.final && was.root == now.root && was.act == act {
		return was.all
	}
	for _, e := range a.store.List(record.KindDaemon) {
		var d decided
		if act {
			if d = decide(e, a.store); d.taken != nil {
				d.plan = a.turns.plan(*d.taken, d.held, a.store)
			}
		} else {
			d.view, _ = understand(e.Winner())
			d.view.conflict = conflictOf(e)
		}
		now.final = now.final && d.view.problem == ""
		now.all = append(now.all, d)
	}
	a.decided = now
	return now.all
}
