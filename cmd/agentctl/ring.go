package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// current is what the ring has under a daemon's name.
type current struct {
	entry record.Entry
	// spec and body are those of the newest record that is not a delete; nil
	// when there is none. deleted says that a delete came after it.
	spec    *spec.Daemon
	body    *record.DaemonBody
	version record.Version
	lanes   [][]record.NodeID // when they are in a blob
	deleted bool
}

// live reports whether the ring runs the daemon.
func (c current) live() bool { return c.spec != nil && !c.deleted }

// ringView is what a signer has to know.
type ringView struct {
	id     record.RingID
	name   string
	roster []api.RosterNode
	gone   []record.NodeID // nodes that left
}

// readRing asks for the ring's id and members.
func readRing(ctx context.Context, c *api.Client) (ringView, error) {
	roster, err := c.Roster(ctx)
	if err != nil {
		return ringView{}, err
	}
	v := ringView{name: roster.RingName, roster: roster.Nodes}
	if v.id, err = record.ParseRingID(roster.Ring); err != nil {
		return v, fmt.Errorf("read the roster: %w", err)
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return v, err
	}
	for _, n := range nodes.Nodes {
		var id record.NodeID
		if n.State == "left" && id.UnmarshalText([]byte(n.ID)) == nil {
			v.gone = append(v.gone, id)
		}
	}
	return v, nil
}

// readEntry returns what the ring holds under a key; an empty entry when it
// holds nothing. agentd has verified the signatures; that the records are of
// this ring and key is checked again.
func readEntry(ctx context.Context, c *api.Client, ring record.RingID, key record.Key) (record.Entry, error) {
	rec, err := c.Record(ctx, string(key.Kind), key.Name)
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
		return record.Entry{}, nil
	}
	if err != nil {
		return record.Entry{}, err
	}
	return entryOf(rec, ring, key)
}

func entryOf(rec api.Record, ring record.RingID, key record.Key) (record.Entry, error) {
	envelopes := [][]byte{rec.Envelope}
	if len(rec.Fork) > 0 {
		envelopes = append(envelopes, rec.Fork)
	}
	var all []record.Record
	for _, env := range append(envelopes, rec.Past...) {
		r, err := record.Inspect(env)
		if err != nil {
			return record.Entry{}, fmt.Errorf("read %s: %w", key, err)
		}
		if r.Key != key || r.Ring != ring {
			return record.Entry{}, fmt.Errorf("read %s: agentd answered with %s of ring %s", key, r.Key, r.Ring)
		}
		all = append(all, r)
	}
	return record.EntryOf(all...), nil
}

// readDaemon returns what the ring has of a daemon.
func readDaemon(ctx context.Context, c *api.Client, ring record.RingID, name string) (current, error) {
	entry, err := readEntry(ctx, c, ring, record.Key{Kind: record.KindDaemon, Name: name})
	if err != nil {
		return current{}, err
	}
	cur, err := currentOf(entry)
	if err != nil || cur.body == nil || cur.body.Rollout.LanesBlob == "" {
		return cur, err
	}
	blob, err := readEntry(ctx, c, ring, record.Key{Kind: record.KindBlob, Name: cur.body.Rollout.LanesBlob})
	if err != nil {
		return cur, err
	}
	if blob.Empty() {
		return cur, withHint(fmt.Errorf("the lanes of daemon %s (blob %s) are not here yet", name, cur.body.Rollout.LanesBlob), "try again in a moment")
	}
	cur.lanes, err = record.DecodeLanes(blob.Winner().Body)
	return cur, err
}

// currentOf understands an entry. A record that a newer agentctl wrote is an
// error: writing over what can't be read would lose it.
func currentOf(entry record.Entry) (current, error) {
	cur := current{entry: entry}
	if entry.Empty() {
		return cur, nil
	}
	winner := entry.Winner()
	cur.deleted = winner.Delete
	for _, r := range entry.All() {
		if r.Delete {
			continue
		}
		if r.Schema > record.Schema {
			return cur, newer(r.Key, record.ErrNewer)
		}
		body, err := record.DecodeDaemon(r.Body)
		if err != nil {
			return cur, newer(r.Key, err)
		}
		d, err := spec.Decode(body.Spec)
		if err != nil {
			return cur, newer(r.Key, err)
		}
		cur.body, cur.spec, cur.version = &body, &d, r.Version()
		break
	}
	return cur, nil
}

func newer(key record.Key, err error) error {
	err = fmt.Errorf("read %s: %w", key, err)
	if errors.Is(err, record.ErrNewer) || errors.Is(err, spec.ErrNewer) {
		return withHint(err, "upgrade agentctl on this machine")
	}
	return err
}

// placed reports whether a daemon is meant for a node.
func placed(d spec.Daemon, n api.RosterNode) bool {
	ok, _ := d.Selects(specNode(n))
	return ok
}

// specNode is a node as selectors see it.
func specNode(n api.RosterNode) spec.Node {
	host, _, err := net.SplitHostPort(n.Address)
	if err != nil {
		host = n.Address
	}
	return spec.Node{Name: n.Name, Address: host, Labels: n.Labels}
}

// welcome reports whether a node's taints, cordon and drain let a daemon start
// there, and let one stay that runs.
func welcome(d spec.Daemon, n api.RosterNode) (starts, stays bool) {
	starts, stays = !n.Cordoned && !n.Draining, !n.Draining
	for _, t := range d.Untolerated(config.NodeTaints(n.Taints)) {
		starts = false
		stays = stays && t.Effect != spec.NoExecute
	}
	return starts, stays
}
