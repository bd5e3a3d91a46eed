package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

func (f *fakeRing) Status(_ context.Context, q api.StatusQuery) (api.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := api.Status{Schema: api.Schema, Daemons: []api.DaemonStatus{}, Ring: api.RingStatus{
		Name: f.cfg.Ring.Name, Self: f.cfg.Node.Name, SpecDigest: f.root(), InSync: !f.s.Unread, Left: f.left, Notes: orEmpty(f.s.Notes)}}
	for _, n := range f.s.Nodes {
		switch n.State {
		case "failed":
			st.Ring.Nodes.Failed++
		case "left":
			st.Ring.Nodes.Left++
		default:
			st.Ring.Nodes.Alive++
			st.Ring.Holding++
		}
	}
	if f.s.Unread {
		st.Ring.Holding--
	}
	for _, key := range f.set.Keys(record.KindDaemon) {
		d, ok := f.daemon(key.Name)
		if !ok || len(q.Names) > 0 && !slices.Contains(q.Names, key.Name) || d.deleted && !q.All {
			continue
		}
		st.Daemons = append(st.Daemons, f.daemonStatus(d, q.Node))
	}
	return st, nil
}

func (f *fakeRing) Nodes(context.Context) (api.Nodes, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.Nodes{Schema: api.Schema, Nodes: f.members()}, nil
}

func (f *fakeRing) Why(_ context.Context, name, node string) (api.Why, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.daemon(name)
	if !ok {
		return api.Why{}, &api.Problem{Status: 404, Detail: fmt.Sprintf("there is no daemon %q in this ring", name)}
	}
	s := f.daemonStatus(d, node)
	w := api.Why{Schema: api.Schema, Daemon: name, State: s.State, Reason: s.Reason, Nodes: []api.WhyNode{}}
	for _, n := range s.Nodes {
		reasons := f.s.States[name+"/"+n.Node].Reasons
		if reasons == nil && n.Reason != "" {
			reasons = []string{n.Reason}
		}
		w.Nodes = append(w.Nodes, api.WhyNode{Node: n.Node, Placed: n.Placed, State: n.State, Ready: n.Ready, Reasons: reasons})
	}
	if node != "" && len(w.Nodes) == 0 {
		return w, &api.Problem{Status: 404, Detail: fmt.Sprintf("there is no node %q in this ring", node), Hint: "agentctl nodes lists them"}
	}
	return w, nil
}

func (f *fakeRing) Records(_ context.Context, kind string) (api.Records, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := api.Records{Schema: api.Schema, Ring: f.ring.ID.String(), Records: []api.Record{}}
	for _, key := range f.set.Keys(record.Kind(kind)) {
		out.Records = append(out.Records, apiRecord(f.set.Entry(key), false))
	}
	return out, nil
}

func (f *fakeRing) Record(_ context.Context, kind, name string) (api.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	entry := f.set.Entry(record.Key{Kind: record.Kind(kind), Name: name})
	if entry.Empty() {
		return api.Record{}, &api.Problem{Status: 404, Detail: "there is no such record"}
	}
	return apiRecord(entry, true), nil
}

func apiRecord(e record.Entry, past bool) api.Record {
	w := e.Winner()
	r := api.Record{Schema: api.Schema, Kind: string(w.Key.Kind), Name: w.Key.Name, Generation: w.Generation, Digest: w.Digest.String(),
		Author: w.Author, Created: w.Created, Delete: w.Delete, Signers: w.Signers, Envelope: w.Envelope}
	if e.Forked() {
		r.Fork, r.ForkAuthor = e.Records[1].Envelope, e.Records[1].Author
	}
	for _, p := range e.Past {
		if past {
			r.Past = append(r.Past, p.Envelope)
		}
	}
	return r
}

func (f *fakeRing) PutRecord(_ context.Context, kind, name string, envelope []byte) (api.Accepted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.s.Refuse == name {
		return api.Accepted{}, &api.Problem{Status: http.StatusInsufficientStorage, Detail: "no space left on device", Hint: "free some space"}
	}
	if f.s.Meddle == name {
		f.meddle(name)
	}
	if f.s.Local.Meddle == name {
		f.meddleNode(name)
	}
	r, err := record.Verify(envelope, f.ring.ID, f.trust)
	var conflict *record.ConflictError
	switch {
	case errors.Is(err, record.ErrUnsigned):
		return api.Accepted{}, &api.Problem{Status: 403, Detail: err.Error(), Hint: "see: agentctl key list"}
	case err != nil:
		return api.Accepted{}, &api.Problem{Status: 400, Detail: err.Error()}
	case r.Key != record.Key{Kind: record.Kind(kind), Name: name}:
		return api.Accepted{}, &api.Problem{Status: 400, Detail: "the record is " + r.Key.String()}
	}
	if err := f.set.Admit(r); errors.As(err, &conflict) {
		return api.Accepted{}, &api.Problem{Status: 409, Detail: err.Error()}
	} else if err != nil {
		return api.Accepted{}, &api.Problem{Status: 400, Detail: err.Error()}
	}
	changed := f.set.Offer(r)
	acc := api.Accepted{Schema: api.Schema, Changed: changed, Generation: r.Generation, Digest: r.Digest.String()}
	for _, n := range f.s.Nodes {
		if n.State == "alive" && acc.Wanted < 3 {
			acc.Wanted++
		}
	}
	acc.OnDisk = acc.Wanted
	if f.s.OnDisk != nil {
		acc.OnDisk = *f.s.OnDisk
	}
	return acc, nil
}

// meddle is another operator, who applies between a read and a write.
func (f *fakeRing) meddle(name string) {
	d := spec.Defaults()
	d.Name, d.Image = name, "docker.io/library/bobs:1"
	body, err := record.EncodeDaemon(record.DaemonBody{Spec: spec.Encode(d), Revision: 1, Rollout: record.Rollout{K: 1}})
	if err != nil {
		panic(err)
	}
	f.writeAsBob(record.Key{Kind: record.KindDaemon, Name: name}, body)
}

func (f *fakeRing) writeAsBob(key record.Key, body []byte) {
	if f.meddler == nil {
		bob, err := record.GenerateKey("bob@elsewhere")
		if err != nil {
			panic(err)
		}
		f.meddler = &bob
		f.trust = record.NewTrust(append(f.trust.Keys(), bob.Public())...)
	}
	env, err := record.Sign(record.Next(f.set.Entry(key), f.ring.ID, key, "bob@elsewhere", f.now()), body, *f.meddler)
	if err != nil {
		panic(err)
	}
	r, err := record.Verify(env, f.ring.ID, f.trust)
	if err != nil {
		panic(err)
	}
	f.set.Offer(r)
}

func (f *fakeRing) Roster(context.Context) (api.Roster, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := api.Roster{Schema: api.Schema, Ring: f.ring.ID.String(), RingName: f.cfg.Ring.Name, Self: f.cfg.Node.Name, Floor: map[string]api.FloorVersion{}}
	for _, n := range f.members() {
		if n.State != "left" {
			out.Nodes = append(out.Nodes, api.RosterNode{Name: n.Name, ID: n.ID, State: n.State, Address: n.Address, Labels: n.Labels,
				Taints: n.Taints, Cordoned: n.Cordoned, Draining: n.Draining, Healthy: n.State == "alive" && n.DaemonsReady == n.DaemonsPlaced})
		}
	}
	for _, key := range f.set.Keys("") {
		w := f.set.Entry(key).Winner()
		out.Floor[key.String()] = api.FloorVersion{Generation: w.Generation, Digest: w.Digest.String()}
	}
	return out, nil
}

func (f *fakeRing) Leave(context.Context) (api.LeaveReport, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = true
	r := api.LeaveReport{Schema: api.Schema, Node: f.cfg.Node.Name, Announced: !f.s.Alone, Failed: f.s.Failed}
	for _, key := range f.set.Keys(record.KindDaemon) {
		if !slices.Contains(r.Failed, key.Name) {
			r.Stopped = append(r.Stopped, key.Name)
		}
	}
	return r, nil
}

func (f *fakeRing) Rejoin(_ context.Context, addrs []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.joined = false, addrs
	return nil
}

func (f *fakeRing) Info(context.Context) (api.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.Info{Schema: api.Schema, Version: "0.1.0", Commit: "0123456789ab", Go: "1.26", Node: f.cfg.Node.Name,
		NodeID: fakeID(f.cfg.Node.Name).String(), RingName: f.cfg.Ring.Name, Ring: f.ring.ID.String(), Left: f.left, PID: 1}, nil
}

func (f *fakeRing) Health(context.Context) error { return nil }
func (f *fakeRing) Metrics(io.Writer)            {}
