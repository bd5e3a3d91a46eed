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
	// failedFor is how long nothing may be on its way any more before --wait
	// gives up: a container that is just being restarted is no failure yet.
	failedFor = 10 * time.Second
)

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
	show    interface{ update(list []standing) }
	failing map[string]time.Time // by name: since when nothing is on its way
}

// waitFor waits until every change is on every alive node that it concerns.
func (a *app) waitFor(ctx context.Context, c *api.Client, plan []change, results []sent, atMost time.Duration) error {
	w := waiter{app: a, client: c, show: a.progress(), failing: map[string]time.Time{}}
	for i, ch := range plan {
		t := target{ch.name, results[i].accepted.Generation, ch.result == resultDeleted}
		if ch.result == resultUnchanged {
			t.generation = ch.cur.version.Generation
		}
		w.targets = append(w.targets, t)
	}
	err := w.wait(ctx, atMost)
	if errors.Is(err, context.Canceled) {
		names := make([]string, len(w.targets))
		for i, t := range w.targets {
			names[i] = t.name
		}
		a.notef("only the waiting ended: %s goes on; see: agentctl rollout status %s", someOf(names), names[0])
	}
	return err
}

func (w *waiter) wait(ctx context.Context, atMost time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	var last []standing // what was seen when the time is up amidst a look
	for {
		list, err := w.look(limited)
		if err == nil {
			last = list
			w.show.update(list)
			if !slices.ContainsFunc(list, func(s standing) bool { return !s.done() }) {
				w.tellRest(list)
				return nil
			}
			if err := w.stopped(list); err != nil {
				return err
			}
		}
		if wait(limited, waitEvery) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if last == nil {
			return cannot("see whether it runs", err)
		}
		return late(last, atMost)
	}
}

// late is the error of a wait that took too long.
func late(list []standing, atMost time.Duration) error {
	var open, names []string
	for _, s := range list {
		if !s.done() {
			open, names = append(open, s.text()), append(names, s.name)
		}
	}
	return withHint(fmt.Errorf("not everywhere within %s: %s", shortDuration(atMost), strings.Join(open, "; ")),
		"it goes on; see: agentctl rollout status %s", names[0])
}

// tellRest names the nodes that were not waited for.
func (w *waiter) tellRest(list []standing) {
	for _, s := range list {
		if len(s.told) > 0 {
			w.app.notef("daemon/%s: update.strategy is on-delete: %s %s, until somebody types there: sudo agentctl restart %s",
				s.name, firstOf(s.told), verb(len(s.told), "waits", "wait"), s.name)
		}
		if len(s.closed) > 0 {
			w.app.notef("daemon/%s: %s %s cordoned, and not updated", s.name, firstOf(s.closed), verb(len(s.closed), "is", "are"))
		}
		if len(s.away) > 0 {
			w.app.notef("daemon/%s: %s %s down, and %s when back", s.name, firstOf(s.away), verb(len(s.away), "is", "are"), verb(len(s.away), "follows", "follow"))
		}
	}
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// look asks once how far each target is.
func (w *waiter) look(ctx context.Context) ([]standing, error) {
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
	var list []standing
	for _, t := range w.targets {
		i := slices.IndexFunc(st.Daemons, func(d api.DaemonStatus) bool { return d.Name == t.name })
		if i < 0 {
			// Nothing is left of what was deleted; anything else is to come.
			list = append(list, standing{name: t.name, known: t.deleted, gone: t.deleted, reason: "not in the status yet"})
			continue
		}
		var ro *api.Rollout
		if !t.deleted {
			if ro, err = readRollout(ctx, w.client, t.name); err != nil {
				return nil, err
			}
		}
		list = append(list, standingOf(st.Daemons[i], ro, t.generation, nodes.Nodes))
	}
	return list, nil
}

// stopped returns an error when one of them won't get there by itself.
func (w *waiter) stopped(list []standing) error {
	for _, s := range list {
		if !s.known || s.done() {
			continue
		}
		now := w.app.now()
		if err := s.stop(); err != nil {
			return err
		}
		switch {
		case !s.stuck():
			delete(w.failing, s.name)
		case w.failing[s.name].IsZero():
			w.failing[s.name] = now
		case now.Sub(w.failing[s.name]) >= failedFor:
			return s.failure()
		}
	}
	return nil
}
