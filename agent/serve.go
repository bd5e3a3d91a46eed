package agent

import (
	"context"
	"fmt"
	"net/http"
	"os"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec/record"
)

// The methods of api.Backend that only read.

// Status answers from what this node knows, at once.
func (a *Agent) Status(_ context.Context, q api.StatusQuery) (api.Status, error) {
	return a.snapshot().status(q), nil
}

// Nodes lists the members.
func (a *Agent) Nodes(context.Context) (api.Nodes, error) { return a.snapshot().nodes(), nil }

// Why explains one daemon.
func (a *Agent) Why(_ context.Context, name, node string) (api.Why, error) {
	v := a.snapshot()
	w, ok := v.why(name, node)
	if ok {
		return w, nil
	}
	if !slices.ContainsFunc(v.daemons, func(d daemonView) bool { return d.name == name }) {
		return w, problem(http.StatusNotFound, fmt.Sprintf("there is no daemon %q in this ring", name), "agentctl status lists them")
	}
	return w, problem(http.StatusNotFound, fmt.Sprintf("there is no node %q in this ring", node), "agentctl nodes lists them")
}

// Records lists signed records.
func (a *Agent) Records(_ context.Context, kind string) (api.Records, error) {
	out := api.Records{Schema: api.Schema, Ring: a.ringKey.ID.String(), Records: []api.Record{}}
	for _, e := range a.store.List(record.Kind(kind)) {
		out.Records = append(out.Records, apiRecord(e))
	}
	return out, nil
}

// Record returns one signed record.
func (a *Agent) Record(_ context.Context, kind, name string) (api.Record, error) {
	e, ok := a.store.Get(record.Key{Kind: record.Kind(kind), Name: name})
	if !ok {
		return api.Record{}, problem(http.StatusNotFound, fmt.Sprintf("there is no record %s/%s in this ring", kind, name), "")
	}
	return apiRecord(e), nil
}

func apiRecord(e record.Entry) api.Record {
	r := e.Winner()
	out := api.Record{
		Schema: api.Schema, Kind: string(r.Key.Kind), Name: r.Key.Name, Generation: r.Generation,
		Digest: r.Digest.String(), Author: r.Author, Created: r.Created.UTC(), Delete: r.Delete,
		Signers: r.Signers, Envelope: r.Envelope,
	}
	if len(e.Records) > 1 {
		out.Fork, out.ForkAuthor = e.Records[1].Envelope, e.Records[1].Author
	}
	for _, p := range e.Past {
		out.Past = append(out.Past, p.Envelope)
	}
	return out
}

// Roster tells a signer about the ring.
func (a *Agent) Roster(context.Context) (api.Roster, error) {
	v := a.snapshot()
	out := api.Roster{
		Schema: api.Schema, Ring: a.ringKey.ID.String(), RingName: v.ring, Self: v.self,
		Nodes: []api.RosterNode{}, Floor: map[string]api.FloorVersion{},
	}
	for _, n := range v.nodes().Nodes {
		if n.State == string(gossip.Left) {
			continue
		}
		out.Nodes = append(out.Nodes, api.RosterNode{
			Name: n.Name, ID: n.ID, State: n.State, Address: n.Address, Labels: n.Labels,
			Taints: n.Taints, Cordoned: n.Cordoned, Draining: n.Draining,
			Healthy: n.State == string(gossip.Alive) && n.DaemonsReady == n.DaemonsPlaced,
		})
	}
	for _, e := range a.store.List("") {
		r := e.Winner()
		out.Floor[r.Key.String()] = api.FloorVersion{Generation: r.Generation, Digest: r.Digest.String()}
	}
	return out, nil
}

// Info tells who answers.
func (a *Agent) Info(context.Context) (api.Info, error) {
	return api.Info{
		Schema: api.Schema, Version: a.version, Commit: a.commit, Go: strings.TrimPrefix(goruntime.Version(), "go"),
		Node: a.cfg.Node.Name, NodeID: a.identity.ID.String(), RingName: a.cfg.Ring.Name, Ring: a.ringKey.ID.String(),
		Left: a.left.Load(), StartedAt: a.started.UTC(), PID: os.Getpid(),
	}, nil
}

// Health fails when the container runtime does not answer.
func (a *Agent) Health(context.Context) error {
	if trouble := a.super.Trouble(); trouble != "" {
		return problem(http.StatusServiceUnavailable, trouble, "see journalctl -u containerd; containers go on meanwhile")
	}
	return nil
}
