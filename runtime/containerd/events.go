package containerd

import (
	"context"
	"fmt"
	"strconv"

	"github.com/containerd/cgroups/v3/cgroup1/stats"
	stats2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	apievents "github.com/containerd/containerd/api/events"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"
)

// Events implements runtime.Runtime. containerd loses events (up to 20 of 103
// exits on 2.4.2): they only say "look again", and a relist has to follow in
// any case. Its goroutine ends with ctx, or with Close.
func (r *Runtime) Events(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.base, cancel)
	if !r.spawn(func() {
		defer stop()
		defer cancel()
		for ctx.Err() == nil {
			err := r.follow(ctx, ch)
			wake(ch) // much may have happened unseen
			if ctx.Err() == nil {
				r.log.Debug("events of containerd were interrupted", "err", err)
			}
			if pause(ctx, retryMost) != nil {
				return
			}
		}
	}) {
		stop()
		cancel()
	}
	return ch
}

func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (r *Runtime) follow(ctx context.Context, ch chan<- struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ns := strconv.Quote(r.cfg.Namespace)
	var filters []string
	for _, topic := range []string{"/tasks/exit", "/tasks/oom", "/tasks/start", "/tasks/delete", "/tasks/paused", "/tasks/resumed", "/containers/delete"} {
		filters = append(filters, fmt.Sprintf("topic==%q,namespace==%s", topic, ns))
	}
	envelopes, errs := r.client.EventService().Subscribe(ctx, filters...)
	for {
		select {
		case e := <-envelopes:
			if r.matters(e) {
				wake(ch)
			}
		case err := <-errs:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// matters is false for the end of an exec, of which probes make many.
func (r *Runtime) matters(e *events.Envelope) bool {
	if e == nil || e.Event == nil {
		return true
	}
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		return true
	}
	switch v := v.(type) {
	case *apievents.TaskExit:
		return v.ID == v.ContainerID
	case *apievents.TaskOOM:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ooms[v.ContainerID] = struct{}{}
	}
	return true
}

// sawOOM reports whether the OOM killer was at work in the present instance of
// id. The event may be lost (containerd#8893), so the kernel's own count comes
// first; with the systemd driver the cgroup goes away with its last process,
// and only the event is left.
func (r *Runtime) sawOOM(id string) bool {
	if n, ok := r.oomKills(id); ok {
		return n > 0
	}
	r.mu.Lock()
	_, seen := r.ooms[id]
	r.mu.Unlock()
	if seen {
		return true
	}
	ctx, cancel := context.WithTimeout(r.base, callLimit)
	defer cancel()
	resp, err := r.tasks().Metrics(ctx, &tasks.MetricsRequest{Filters: []string{"id==" + id}})
	if err != nil {
		return false
	}
	for _, m := range resp.Metrics {
		if m.ID != id || m.Data == nil {
			continue
		}
		switch v, err := typeurl.UnmarshalAny(m.Data); v := v.(type) {
		case *stats.Metrics:
			return err == nil && v.GetMemoryOomControl().GetOomKill() > 0
		case *stats2.Metrics:
			return err == nil && v.GetMemoryEvents().GetOomKill() > 0
		}
	}
	return false
}
