package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentd/agentd/api"
)

const (
	waitEvery = 500 * time.Millisecond
	// failedFor is how long a daemon may be ready nowhere, with nothing on its
	// way, before --wait gives up: a container that is just being restarted is
	// no failure yet.
	failedFor = 10 * time.Second
)

// waitFor waits until every change is on every alive node that it concerns.
func (a *app) waitFor(ctx context.Context, c *api.Client, plan []change, results []sent, atMost time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	w := waiter{app: a, client: c, last: map[string]string{}, failing: map[string]time.Time{}}
	for i, ch := range plan {
		t := target{ch.name, results[i].accepted.Generation, ch.result == resultDeleted}
		if ch.result == resultUnchanged {
			t.generation = ch.cur.version.Generation
		}
		w.targets = append(w.targets, t)
	}
	for {
		open, err := w.look(limited)
		if err == nil && len(open) == 0 {
			return nil
		}
		var stopped *stoppedError
		if errors.As(err, &stopped) {
			return withHint(err, "see: agentctl status %s", stopped.name)
		}
		if wait(limited, waitEvery) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && len(open) == 0 {
			return cannot("see whether it runs", err)
		}
		return withHint(fmt.Errorf("not everywhere within %s: %s", atMost, strings.Join(open, "; ")), "it goes on; see: agentctl status")
	}
}

// stoppedError ends a wait before its time.
type stoppedError struct {
	name, state, reason string
}

func (e *stoppedError) Error() string {
	msg := fmt.Sprintf("daemon/%s is %s", e.name, e.state)
	if e.reason != "" {
		msg += ": " + e.reason
	}
	return msg
}

// target is what one daemon is waited for.
type target struct {
	name       string
	generation uint64 // at least this one
	deleted    bool
}

// waiter looks at the ring again and again.
type waiter struct {
	app     *app
	client  *api.Client
	targets []target
	last    map[string]string    // by name: what was told
	failing map[string]time.Time // by name: since when it is ready nowhere
}

// look asks once and returns, in words, what is still missing. A *stoppedError
// says that it will not come.
func (w *waiter) look(ctx context.Context) (open []string, err error) {
	var names []string
	for _, t := range w.targets {
		names = append(names, t.name)
	}
	st, err := w.client.Status(ctx, api.StatusQuery{Names: names, All: true})
	if err != nil {
		return nil, err
	}
	nodes, err := w.client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	alive := map[string]bool{}
	for _, n := range nodes.Nodes {
		alive[n.Name] = n.State == "alive" || n.State == "suspect"
	}
	for _, t := range w.targets {
		i := slices.IndexFunc(st.Daemons, func(d api.DaemonStatus) bool { return d.Name == t.name })
		if i < 0 {
			if !t.deleted {
				open = append(open, fmt.Sprintf("daemon/%s is not in the status yet", t.name))
			}
			continue
		}
		d := st.Daemons[i]
		p := progressOf(d, t.generation, alive)
		if text := p.text(d); text != w.last[d.Name] {
			w.last[d.Name] = text
			w.app.notef("%s", text)
		}
		if p.done() {
			continue
		}
		open = append(open, p.text(d))
		if p.known && w.stopped(d, p) {
			return open, &stoppedError{d.Name, d.State, d.Reason}
		}
	}
	return open, nil
}

// stopped reports whether a daemon won't get there by itself.
func (w *waiter) stopped(d api.DaemonStatus, p progress) bool {
	switch {
	case d.State == api.DaemonPaused, d.State == api.DaemonRolledBack:
		return true
	case d.State != api.DaemonFailed || p.moving:
		delete(w.failing, d.Name)
		return false
	case w.failing[d.Name].IsZero():
		w.failing[d.Name] = w.app.now()
	}
	return w.app.now().Sub(w.failing[d.Name]) >= failedFor
}

// progress counts the alive nodes that a daemon is placed on.
type progress struct {
	known  bool // the generation is in agentd's view
	want   int
	have   int  // updated and available
	left   int  // containers of a deleted daemon
	gone   bool // it is deleted
	moving bool // something is on its way
}

func (p progress) done() bool { return p.known && p.have == p.want && p.left == 0 }

func progressOf(d api.DaemonStatus, generation uint64, alive map[string]bool) progress {
	p := progress{known: d.Generation >= generation, gone: d.State == api.DaemonDeleted || d.State == api.DaemonDeleting}
	for _, n := range d.Nodes {
		if !alive[n.Node] {
			continue
		}
		switch n.State {
		case api.StateWaiting, api.StatePulling, api.StateStarting, api.StateStopping:
			p.moving = true
		}
		if p.gone {
			if n.Container != "" {
				p.left++
			}
			continue
		}
		if !n.Placed {
			continue
		}
		p.want++
		if n.Ready && n.Digest == d.Digest {
			p.have++
		}
	}
	return p
}

func (p progress) text(d api.DaemonStatus) string {
	if p.gone {
		return fmt.Sprintf("daemon/%s: %s to stop", d.Name, plural(p.left, "container"))
	}
	text := fmt.Sprintf("daemon/%s: %d of %d updated and available", d.Name, p.have, p.want)
	if !p.done() && d.Reason != "" {
		text += " (" + d.Reason + ")"
	}
	return text
}
