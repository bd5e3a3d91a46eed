package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/agentd/agentd/agent/store"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec/record"
)

const (
	// wantOnDisk is on how many nodes a record is before apply returns, as far
	// as there are as many: the loss of any two loses nothing acknowledged.
	wantOnDisk = 3
	// durableWithin is how long apply waits for them.
	durableWithin = 5 * time.Second
	// pushTimeout bounds one peer's answer.
	pushTimeout = 2 * time.Second
)

// PutRecord takes a signed record from an operator: verify, admit, fsync here,
// announce, and wait until enough other nodes have it on disk too.
func (a *Agent) PutRecord(ctx context.Context, kind, name string, envelope []byte) (api.Accepted, error) {
	if a.left.Load() {
		return api.Accepted{}, problem(http.StatusConflict, "this node left the ring", "apply from a member of the ring, or run agentctl join here first")
	}
	r, changed, err := a.take(ctx, record.Key{Kind: record.Kind(kind), Name: name}, envelope)
	if err != nil {
		a.log.Warn("record refused", "kind", kind, "name", name, "reason", err)
		return api.Accepted{}, refusal(err)
	}
	if changed {
		a.log.Info("record accepted", "kind", kind, "name", name, "generation", r.Generation, "digest", r.Digest.Short(), "author", r.Author)
		poke(a.wake)
	}
	out := api.Accepted{Schema: api.Schema, Changed: changed, Generation: r.Generation, Digest: r.Digest.String(), Warnings: []string{}}
	out.OnDisk, out.Wanted = a.spread(ctx, r)
	if out.OnDisk < out.Wanted {
		out.Warnings = append(out.Warnings, fmt.Sprintf("only %d of %d nodes had it on disk within %s; the ring goes on spreading it", out.OnDisk, out.Wanted, durableWithin))
	}
	// The broadcast goes last: those that were asked directly have it already.
	a.ring.Hint(store.Item(r))
	return out, nil
}

// take stores an envelope that is what its address says it is.
func (a *Agent) take(ctx context.Context, key record.Key, envelope []byte) (record.Record, bool, error) {
	r, err := record.Verify(envelope, a.ringKey.ID, a.store.Trust())
	if err != nil {
		return record.Record{}, false, err
	}
	if r.Key != key {
		return record.Record{}, false, fmt.Errorf("%w: it is the record of %s, sent to %s", record.ErrMalformed, r.Key, key)
	}
	return a.store.Put(ctx, envelope)
}

// spread asks other alive nodes to store r until enough have done so.
func (a *Agent) spread(ctx context.Context, r record.Record) (onDisk, wanted int) {
	var peers []gossip.Member
	for _, m := range a.ring.Members() {
		if m.Name != a.cfg.Node.Name && m.State == gossip.Alive {
			peers = append(peers, m)
		}
	}
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	onDisk, wanted = 1, min(wantOnDisk, len(peers)+1)
	ctx, cancel := context.WithTimeout(ctx, durableWithin)
	defer cancel()
	done := make(chan error, len(peers))
	ask := func() {
		m := peers[0]
		peers = peers[1:]
		go func() {
			ctx, cancel := context.WithTimeout(ctx, pushTimeout)
			defer cancel()
			done <- a.client.Push(ctx, m, r.Envelope)
		}()
	}
	asked := 0
	for ; asked < wanted-1; asked++ {
		ask()
	}
	for onDisk < wanted && asked > 0 {
		select {
		case err := <-done:
			asked--
			if err == nil {
				onDisk++
				continue
			}
			a.log.Info("peer did not store the record", "name", r.Key.Name, "err", err)
			if len(peers) > 0 {
				ask()
				asked++
			}
		case <-ctx.Done():
			return onDisk, wanted
		}
	}
	return onDisk, wanted
}

// refusal turns the store's error into what the operator reads.
func refusal(err error) error {
	var conflict *record.ConflictError
	var behind *store.BehindError
	switch {
	case errors.As(err, &behind):
		return problem(http.StatusConflict, err.Error(), "this node lost its newest record and waits for the ring to bring it back; apply again in a minute, or on another node")
	case errors.As(err, &conflict):
		return problem(http.StatusConflict, err.Error(), "somebody else changed it since you looked; see agentctl diff, and apply again")
	case errors.Is(err, record.ErrUnsigned):
		return problem(http.StatusForbidden, err.Error(), "sign with a key whose public half is in trust.d on every node; see agentctl key list")
	case errors.Is(err, record.ErrRing):
		return problem(http.StatusForbidden, err.Error(), "the record was signed for another ring; apply the file again here")
	case errors.Is(err, record.ErrTooLarge):
		return problem(http.StatusRequestEntityTooLarge, err.Error(), "make the [[files]] smaller or put them into the image")
	case errors.Is(err, record.ErrMalformed):
		return problem(http.StatusBadRequest, err.Error(), "")
	case errors.Is(err, syscall.ENOSPC):
		return problem(http.StatusInsufficientStorage, err.Error(), "the disk of data_dir is full; nothing was changed: free some space and apply again")
	}
	return problem(http.StatusInternalServerError, err.Error(), "")
}

func problem(status int, detail, hint string) *api.Problem {
	return &api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Hint: hint}
}
