package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/agentd/agentd/agent/store"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// order is what an operator applies.
type order struct {
	image  string
	update spec.Update
	by     int  // which operator
	drop   bool // leave out whom this node can't reach, by the operator's word
}

// daemonOf is the spec that an operator has in a file.
func daemonOf(o order) spec.Daemon {
	d := spec.Daemon{Name: simDaemon, Image: o.image, Update: o.update}
	d.Health.Readiness = &spec.Probe{Exec: []string{"/ready"}, Interval: spec.Duration(time.Second)}
	return d.WithDefaults()
}

// apply signs and sends as agentctl does, with what one agent knows and nothing
// else.
func (w *world) apply(via *machine, o order) (signed, error) {
	a, d := via.agent, daemonOf(o)
	key := record.Key{Kind: record.KindDaemon, Name: simDaemon}
	cur, _ := a.store.Get(key)
	roster, err := a.Roster(context.Background())
	if err != nil {
		return signed{}, err
	}
	s := record.Succession{Spec: spec.Encode(d), Changed: true}
	for _, n := range roster.Nodes {
		var id record.NodeID
		if id.UnmarshalText([]byte(n.ID)) != nil || n.State != string(gossip.Alive) {
			continue
		}
		s.Roster = append(s.Roster, record.Candidate{ID: id, Unhealthy: !n.Healthy})
	}
	s.K = d.Update.Budget(len(s.Roster))
	for i := range min(d.Update.Canary, len(s.Roster)) {
		s.Roster[i].Canary = true
	}
	alleged, err := w.succeed(&s, a, cur, d, o)
	if err != nil {
		return signed{}, err
	}
	body, blob, err := record.NextDaemonBody(s)
	if err != nil {
		return signed{}, err
	}
	if blob != nil {
		k := record.Key{Kind: record.KindBlob, Name: record.BlobName(blob)}
		if _, err := w.put(via, record.Entry{}, k, blob, o.by, nil); err != nil {
			return signed{}, err
		}
	}
	raw, err := record.EncodeDaemon(body)
	if err != nil {
		return signed{}, err
	}
	return w.put(via, cur, key, raw, o.by, func(r record.Record) signed {
		for _, name := range alleged {
			w.by.allege(name)
		}
		return signed{
			version: r.Version(), parent: r.Parent, digest: d.Digest(), image: o.image, k: body.Rollout.K,
			first: body.Rollout.First, finished: s.Finished, fallback: body.Rollout.Fallback,
			rollback: d.Update.OnFailure == spec.OnFailureRollback, minReady: d.Update.MinReady.D(),
		}
	})
}

// succeed fills in what is known of the record that is replaced, and returns
// whom the new one calls down though they may be up.
func (w *world) succeed(s *record.Succession, a *Agent, cur record.Entry, d spec.Daemon, o order) (alleged []string, err error) {
	if cur.Empty() {
		return nil, nil
	}
	parent := cur.Winner()
	if s.Deleted = parent.Delete; s.Deleted {
		for _, r := range a.store.History(simDaemon) {
			if !r.Delete {
				parent = r
				break
			}
		}
		if parent.Delete {
			return nil, nil
		}
	}
	body, err := record.DecodeDaemon(parent.Body)
	if err != nil {
		return nil, err
	}
	if blob, ok := a.store.Get(record.Key{Kind: record.KindBlob, Name: body.Rollout.LanesBlob}); ok {
		if s.ParentLanes, err = record.LanesOf(body, blob.Winner().Body); err != nil {
			return nil, err
		}
	}
	s.Parent, s.ParentVersion = &body, parent.Version()
	if old, err := spec.Decode(body.Spec); err == nil {
		s.Changed = old.Digest() != d.Digest()
	}
	ro, err := a.Rollout(context.Background(), simDaemon)
	if err != nil {
		return nil, err
	}
	if ro.Record == parent.Digest.String() {
		s.Finished, s.Vetoed = ro.Finished, ro.RolledBack
	}
	lanes := s.ParentLanes
	if len(lanes) == 0 {
		lanes = body.Rollout.Lanes
	}
	said := map[record.NodeID]api.RolloutNode{}
	for _, n := range ro.Nodes {
		var id record.NodeID
		if err := id.UnmarshalText([]byte(n.ID)); err != nil {
			return nil, err
		}
		said[id] = n
	}
	for _, lane := range lanes {
		for _, id := range lane {
			here := slices.ContainsFunc(s.Roster, func(c record.Candidate) bool { return c.ID == id })
			switch {
			case said[id].Word == api.WordLeft:
				s.Gone = append(s.Gone, id)
			case o.drop && !here:
				s.Gone = append(s.Gone, id)
				if !s.Finished {
					alleged = append(alleged, id.String())
				}
			}
		}
	}
	return alleged, nil
}

// remove deletes the daemon.
func (w *world) remove(via *machine, by int) error {
	key := record.Key{Kind: record.KindDaemon, Name: simDaemon}
	cur, ok := via.agent.store.Get(key)
	if !ok || cur.Winner().Delete {
		return nil
	}
	_, err := w.put(via, cur, key, nil, by, func(r record.Record) signed {
		return signed{version: r.Version(), parent: r.Parent, del: true}
	})
	return err
}

// pause stops rollouts, or lets them go on and forgives what failed so far.
func (w *world) pause(via *machine, paused bool, by int) error {
	a := via.agent
	ro, err := a.Rollout(context.Background(), simDaemon)
	if err != nil {
		return err
	}
	p := record.Pause{Daemon: simDaemon, Paused: paused, Version: record.Version{Generation: ro.Generation}}
	if p.Version.Digest, err = record.ParseDigest(ro.Record); err != nil {
		return err
	}
	for _, n := range ro.Nodes {
		var id record.NodeID
		if n.Failed && !paused && id.UnmarshalText([]byte(n.ID)) == nil {
			p.Forgiven = append(p.Forgiven, id)
		}
	}
	body, err := record.EncodePause(p)
	if err != nil {
		return err
	}
	return w.control(via, record.PauseKey(simDaemon), body, by)
}

// skip says that a node is down, as far as the newest record goes.
func (w *world) skip(via *machine, node api.RolloutNode, ro api.Rollout, by int) error {
	s := record.Skip{Daemon: simDaemon, Node: node.Node, Version: record.Version{Generation: ro.Generation}}
	var err error
	if s.Version.Digest, err = record.ParseDigest(ro.Record); err != nil {
		return err
	}
	if err := s.ID.UnmarshalText([]byte(node.ID)); err != nil {
		return err
	}
	body, err := record.EncodeSkip(s)
	if err != nil {
		return err
	}
	w.by.allege(node.ID)
	return w.control(via, record.SkipKey(simDaemon, s.ID), body, by)
}

func (w *world) control(via *machine, key record.Key, body []byte, by int) error {
	cur, _ := via.agent.store.Get(key)
	_, err := w.put(via, cur, key, body, by, nil)
	return err
}

// put signs a record, tells the bystander, and hands it to an agent as the
// socket does. What the agent refuses nobody will ever see.
func (w *world) put(via *machine, cur record.Entry, key record.Key, body []byte, by int, note func(record.Record) signed) (signed, error) {
	a := via.agent
	h := record.Next(cur, w.ring, key, w.operators[by].Comment, time.Now())
	h.Delete = body == nil
	envelope, err := record.Sign(h, body, w.operators[by])
	if err != nil {
		return signed{}, err
	}
	r, err := record.Verify(envelope, w.ring, w.trust)
	if err != nil {
		return signed{}, err
	}
	var s signed
	if note != nil {
		if winner := cur.Winner(); r.Generation != winner.Generation+1 {
			return s, fmt.Errorf("generation %d does not follow %d", r.Generation, winner.Generation)
		}
		s = note(r)
		w.by.sign(s)
	}
	if _, _, err := a.take(context.Background(), key, envelope); err != nil {
		return s, err
	}
	w.say("%s: %s applied as generation %d (%s), k %d, finished %t", via.name, key, r.Generation, r.Digest.Short(), s.k, s.finished)
	poke(a.wake)
	w.spread(via, r)
	return s, nil
}

// spread brings a record to two more disks, and hints at it, as PutRecord does.
func (w *world) spread(via *machine, r record.Record) {
	a, seat := via.agent, via.seat
	w.dead.Go(func() {
		sent := 0
		for _, m := range a.ring.Members() {
			if m.Name == via.name || m.State != gossip.Alive || sent == wantOnDisk-1 {
				continue
			}
			sent++
			ctx, cancel := context.WithTimeout(context.Background(), pushTimeout)
			if err := seat.Push(ctx, m, r.Envelope); err != nil {
				w.say("%s: push to %s: %v", via.name, m.Name, err)
			}
			cancel()
		}
		a.ring.Hint(store.Item(r))
	})
}
