package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

// fakeRoll is what a scenario says of a daemon's rollout. Nodes that it does
// not name are done.
type fakeRoll struct {
	RolledBack bool                       `json:"rolled_back"`
	Paused     string                     `json:"paused"` // why
	Failures   []string                   `json:"failures"`
	Turns      map[string]api.RolloutNode `json:"turns"`    // by node
	Outcomes   map[string]string          `json:"outcomes"` // by generation
	Reason     string                     `json:"reason"`
}

func (f *fakeRing) Rollout(_ context.Context, name string) (api.Rollout, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.daemon(name)
	if !ok || f.s.Mute {
		return api.Rollout{}, &api.Problem{Status: 404, Detail: fmt.Sprintf("there is no daemon %q in this ring", name)}
	}
	says := f.s.Rollouts[name]
	r := api.Rollout{Schema: api.Schema, Daemon: name, Generation: d.rec.Generation, Record: d.rec.Digest.String(), Revision: d.body.Revision,
		State: api.DaemonOK, Reason: says.Reason, Strategy: d.spec.Update.Strategy, AppliedAt: d.rec.Created, AppliedBy: d.rec.Author,
		Deleted: d.deleted, First: d.body.Rollout.First, MaxUnavailable: d.body.Rollout.K, Paused: says.Paused != "", PausedReason: says.Paused,
		RolledBack: says.RolledBack, Finished: true, FallbackGeneration: d.body.Rollout.Fallback.Generation, Failures: says.Failures,
		Threshold: d.spec.Update.MaxFailures, Nodes: []api.RolloutNode{}}
	if g := r.FallbackGeneration; g > 0 {
		for _, p := range d.entry.All() {
			if b, err := record.DecodeDaemon(p.Body); err == nil && p.Generation == g {
				r.FallbackRevision = b.Revision
			}
		}
	}
	if e := f.set.Entry(record.PauseKey(name)); !e.Empty() {
		p, err := record.DecodePause(e.Winner().Body)
		if err != nil {
			panic(err)
		}
		if p.Paused {
			r.Paused, r.PausedBy, r.PausedReason = true, e.Winner().Author, "paused by "+e.Winner().Author
		} else if says.Paused != "" && !slices.ContainsFunc(says.Failures, func(n string) bool { return !slices.Contains(p.Forgiven, fakeID(n)) }) {
			r.Paused, r.PausedReason = false, ""
		}
	}
	blob := f.set.Entry(record.Key{Kind: record.KindBlob, Name: d.body.Rollout.LanesBlob})
	lanes, err := record.LanesOf(d.body, blob.Winner().Body)
	if err != nil {
		panic(err)
	}
	r.Lanes = len(lanes)
	listed := map[string]bool{}
	for i, lane := range lanes {
		for j, id := range lane {
			n := f.rollNode(d, says, id)
			n.Lane, n.Place, n.Canary = i+1, j+1, slices.Contains(d.body.Rollout.Canaries, id)
			listed[n.Node] = true
			r.Nodes = append(r.Nodes, n)
			r.Finished = r.Finished && n.State == api.TurnDone && n.Word == ""
		}
	}
	slices.SortStableFunc(r.Nodes, func(a, b api.RolloutNode) int {
		if a.Canary != b.Canary {
			return map[bool]int{true: -1, false: 1}[a.Canary]
		}
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Lane, b.Lane))
	})
	for _, n := range f.s.Nodes {
		if turn, ok := says.Turns[n.Name]; ok && turn.State == api.TurnLate && !listed[n.Name] {
			r.Nodes = append(r.Nodes, f.rollNode(d, says, fakeID(n.Name)))
		}
	}
	for _, n := range r.Nodes {
		r.Total++
		switch n.State {
		case api.TurnDone:
			r.Done++
		case api.TurnUpdating, api.TurnFailed:
			r.Updating++
		}
	}
	switch {
	case r.RolledBack:
		r.State = api.DaemonRolledBack
	case r.Paused:
		r.State = api.DaemonPaused
	case r.Done < r.Total:
		r.State = api.DaemonRolling
	}
	return r, nil
}

func (f *fakeRing) rollNode(d fakeDaemon, says fakeRoll, id record.NodeID) api.RolloutNode {
	n := api.RolloutNode{Node: id.String()[:8], ID: id.String(), State: api.TurnDone}
	for _, m := range f.s.Nodes {
		if fakeID(m.Name) == id {
			row, _ := f.nodeDaemon(d, m)
			n.Node, n.Member, n.Phase, n.Ready, n.Revision, n.Since = m.Name, m.State, row.State, row.Ready, row.Revision, row.Since
		}
	}
	if t, ok := says.Turns[n.Node]; ok {
		n.Waits = t.Waits
		n.State, n.Reason, n.WaitsFor, n.Word, n.Failed = t.State, t.Reason, t.WaitsFor, t.Word, t.Failed || t.State == api.TurnFailed
		n.Pulled, n.PullTotal, n.LentTo = t.Pulled, t.PullTotal, t.LentTo
		if t.Revision != 0 {
			n.Revision = t.Revision
		}
	}
	return n
}

func (f *fakeRing) History(_ context.Context, name string) (api.History, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.daemon(name)
	if !ok {
		return api.History{}, &api.Problem{Status: 404, Detail: fmt.Sprintf("there is no daemon %q in this ring", name)}
	}
	h := api.History{Schema: api.Schema, Daemon: name, Revisions: []api.Revision{}}
	records := f.set.History(name)
	if d.deleted {
		records = append([]record.Record{d.rec}, records...)
	} else if w := d.entry.Winner(); !w.Delete {
		records = append([]record.Record{w}, records...)
	}
	for i, r := range records {
		rev := api.Revision{Generation: r.Generation, Record: r.Digest.String(), Author: r.Author, Created: r.Created, Delete: r.Delete,
			Current: i == 0 && !r.Delete, Outcome: f.s.Rollouts[name].Outcomes[fmt.Sprint(r.Generation)]}
		for _, id := range r.Signers {
			s := api.Signer{ID: id}
			for _, k := range f.trust.Keys() {
				if k.ID() == id {
					s.Name = k.Comment
				}
			}
			rev.Signers = append(rev.Signers, s)
		}
		if r.Delete {
			rev.Outcome = api.OutcomeDeleted
		} else {
			cur, err := currentOf(record.EntryOf(r))
			if err != nil {
				panic(errors.Join(err, errors.New("the fake's history")))
			}
			rev.Revision, rev.Digest, rev.Image, rev.Spec = cur.body.Revision, cur.spec.Digest(), cur.spec.Image, cur.body.Spec
		}
		h.Revisions = append(h.Revisions, rev)
	}
	return h, nil
}
