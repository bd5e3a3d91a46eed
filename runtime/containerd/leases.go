package containerd

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
)

const (
	// leaseLabel marks leases of ours, with the node that took them.
	leaseLabel = "agentd.io/lease"
	// leaseExpiry bounds what a lease of an agent that died may pin; the
	// client's own default is 24 h (containerd#6294). It is also the longest
	// that a pull may take.
	leaseExpiry = 2 * time.Hour
)

// withLease protects what is fetched or made until done is called.
func (r *Runtime) withLease(ctx context.Context) (context.Context, func(), error) {
	id := "agentd-" + rand.Text()
	r.mu.Lock()
	r.leases[id] = struct{}{}
	r.mu.Unlock()
	drop := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.leases, id)
	}
	cctx, cancel := brief(ctx)
	defer cancel()
	l, err := r.client.LeasesService().Create(cctx, leases.WithID(id), leases.WithExpiration(leaseExpiry),
		leases.WithLabels(map[string]string{leaseLabel: r.cfg.Node}))
	if err != nil {
		drop()
		return nil, nil, fmt.Errorf("take a lease: %w", translate(err))
	}
	return leases.WithLease(ctx, l.ID), func() {
		defer drop()
		dctx, cancel := steady(ctx)
		defer cancel()
		if err := r.client.LeasesService().Delete(dctx, l); err != nil && !errdefs.IsNotFound(err) {
			r.log.Warn("a lease could not be deleted; it expires by itself", "lease", l.ID, "err", err)
		}
	}, nil
}

// sweep removes, once after a start, what an agent that was killed left. That it
// fails does no harm.
func (r *Runtime) sweep(ctx context.Context) {
	r.mu.Lock()
	swept := r.swept
	r.swept = true
	r.mu.Unlock()
	if swept {
		return
	}
	r.sweepLeases(ctx)
	// Apart, because each running container is asked.
	r.spawn(func() { r.sweepExecs(r.base) })
}

// sweepLeases deletes left-over leases, which would expire by themselves later.
func (r *Runtime) sweepLeases(ctx context.Context) {
	all, err := r.client.LeasesService().List(ctx, fmt.Sprintf("labels.%q==%q", leaseLabel, r.cfg.Node))
	if err != nil {
		r.log.Debug("left-over leases could not be listed", "err", err)
		return
	}
	for _, l := range all {
		r.mu.Lock()
		_, inUse := r.leases[l.ID]
		r.mu.Unlock()
		if inUse {
			continue
		}
		if err := r.client.LeasesService().Delete(ctx, l); err != nil && !errdefs.IsNotFound(err) {
			r.log.Debug("a left-over lease could not be deleted", "lease", l.ID, "err", err)
		}
	}
}
