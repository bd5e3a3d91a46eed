package agent

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// The methods of api.Backend about rollouts.

// Rollout answers from what this node knows, at once.
func (a *Agent) Rollout(_ context.Context, name string) (api.Rollout, error) {
	v := a.snapshot()
	i := slices.IndexFunc(v.daemons, func(d daemonView) bool { return d.name == name })
	if i < 0 {
		return api.Rollout{}, problem(http.StatusNotFound, fmt.Sprintf("there is no daemon %q in this ring", name), "agentctl status lists them")
	}
	return v.rollout(v.daemons[i]), nil
}

// History lists a daemon's revisions and what became of them.
func (a *Agent) History(_ context.Context, name string) (api.History, error) {
	key := record.Key{Kind: record.KindDaemon, Name: name}
	e, ok := a.store.Get(key)
	if !ok {
		return api.History{}, problem(http.StatusNotFound, fmt.Sprintf("there is no daemon %q in this ring", name), "agentctl status --all lists deleted ones too")
	}
	v := a.snapshot()
	pr, current := v.progress(name), e.Winner()
	finished := map[record.Digest]bool{}
	all := append([]record.Record{current}, a.store.History(name)...)
	for _, r := range append(all, e.Past...) {
		if d, err := understand(r); err == nil {
			finished[d.rollout.Fallback.Digest] = true // a successor found it finished
		}
	}
	out := api.History{Schema: api.Schema, Daemon: name, Revisions: []api.Revision{}}
	for _, r := range all {
		rev := api.Revision{
			Generation: r.Generation, Record: r.Digest.String(), Author: r.Author, Created: r.Created.UTC(),
			Delete: r.Delete, Current: r.Digest == current.Digest, Signers: a.signers(r),
		}
		d, err := understand(r)
		switch {
		case r.Delete:
			rev.Outcome = api.OutcomeDeleted
			if prev, ok := viewOf(key, record.Version{Generation: r.Generation - 1, Digest: r.Parent}, a.store); ok {
				rev.Revision = prev.revision
			}
		case err != nil:
			rev.Reason = err.Error()
		default:
			rev.Revision, rev.Digest, rev.Image, rev.Spec = d.revision, d.digest, d.spec.Image, spec.Encode(d.spec)
			rev.Outcome, rev.Reason = a.outcome(r, current, finished, v, pr)
		}
		out.Revisions = append(out.Revisions, rev)
	}
	slices.SortStableFunc(out.Revisions, func(x, y api.Revision) int { return cmp.Compare(y.Generation, x.Generation) })
	return out, nil
}

// outcome is what became of a record.
func (a *Agent) outcome(r, current record.Record, finished map[record.Digest]bool, v view, pr progress) (outcome, reason string) {
	if r.Digest != current.Digest {
		if finished[r.Digest] {
			return api.OutcomeFinished, ""
		}
		return a.outcomes.of(r.Key.Name, r.Version())
	}
	if pr.plan.Version != r.Version() {
		return api.OutcomeUnderWay, "this node does not follow it yet"
	}
	outcome = judgeOutcome(pr)
	i := slices.IndexFunc(v.daemons, func(d daemonView) bool { return d.name == r.Key.Name })
	if outcome != api.OutcomeFinished && i >= 0 {
		reason = v.daemon(v.daemons[i]).Reason
	}
	return outcome, reason
}

// judgeOutcome names where the newest record's rollout is.
func judgeOutcome(pr progress) string {
	switch {
	case pr.g.Vetoed:
		return api.OutcomeRolledBack
	case pr.finished:
		return api.OutcomeFinished
	case pr.paused != "":
		return api.OutcomePaused
	case pr.stopped():
		return api.OutcomeFailed
	}
	return api.OutcomeUnderWay
}

// signers names who signed a record.
func (a *Agent) signers(r record.Record) []api.Signer {
	out := []api.Signer{}
	for _, id := range r.Signers {
		s := api.Signer{ID: id}
		for _, k := range a.store.Trust().Keys() {
			if k.ID() == id {
				s.Name = k.Comment
			}
		}
		out = append(out, s)
	}
	return out
}

// takeNewest lets this node go on to the newest revision of an on-delete daemon; ok
// is false when it does not wait for that word.
func (a *Agent) takeNewest(daemon string) (ok bool) {
	if !a.turns.tellHere(daemon) {
		return false
	}
	a.emit(api.Event{Type: api.EventRollout, Daemon: daemon, Reason: "an operator lets this node take the newest revision"})
	poke(a.wake)
	return true
}
