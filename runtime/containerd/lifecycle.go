package containerd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentd/agentd/runtime"
)

// lifecycleLimit bounds the calls that create, start, kill and delete.
//
// They are never cancelled otherwise: a task.Delete with a short context wedges
// the id within 2 to 15 cycles, on old and new servers (containerd#11392): Get
// then says NotFound while Create says AlreadyExists, for ever.
const lifecycleLimit = 2 * time.Minute

// steady is a context for one such call.
func steady(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), lifecycleLimit)
}

// brief is a context for a call that only reads.
func brief(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callLimit)
}

// idLock serialises the lifecycle calls for one id.
type idLock struct {
	held  chan struct{} // capacity 1
	users int           // guarded by Runtime.mu
}

func (r *Runtime) lock(ctx context.Context, id string) (unlock func(), err error) {
	r.mu.Lock()
	l, ok := r.locks[id]
	if !ok {
		l = &idLock{held: make(chan struct{}, 1)}
		r.locks[id] = l
	}
	l.users++
	r.mu.Unlock()
	leave := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(r.locks, id)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// alone runs f with id's lock held. When ctx ends the caller gets its error at
// once; f goes on, in the background and with the lock, to the end of the call
// that it is in, sees that ctx ended and returns.
func alone[T any](ctx context.Context, r *Runtime, id string, f func(ctx context.Context) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	unlock, err := r.lock(ctx, id)
	if err != nil {
		return zero, err
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	if !r.spawn(func() {
		defer unlock()
		v, err := f(ctx)
		done <- result{v, err}
	}) {
		unlock()
		return zero, errClosed
	}
	select {
	case res := <-done:
		if res.err != nil && ctx.Err() != nil {
			return zero, ctx.Err()
		}
		return res.value, res.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// translate makes errors of containerd's client comparable: "it does not
// answer" is runtime.ErrUnavailable, the rest become errdefs' own. A call that
// ran into our limit did not get an answer either.
func translate(err error) error {
	if err == nil || errors.Is(err, runtime.ErrUnavailable) {
		return err
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return fmt.Errorf("%w: %s", runtime.ErrUnavailable, message(err))
	}
	// ToNative is not idempotent: a native error, which the container, image,
	// lease and snapshot stores return, loses its class by it.
	if _, isGRPC := status.FromError(err); isGRPC {
		err = errgrpc.ToNative(err)
	}
	// The server sees our deadline too, and may answer "context deadline
	// exceeded: unknown" just before it passes here; so may a shim that hangs.
	if errors.Is(err, context.Canceled) && strings.Contains(err.Error(), "connection is closing") {
		return errClosed
	}
	if errdefs.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		return fmt.Errorf("%w: %s", runtime.ErrUnavailable, message(err))
	}
	return err
}

// message is err without "rpc error: code = …".
func message(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// lostShim reports that containerd answered, but its shim did not: it was
// killed, or is going away.
func lostShim(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "ttrpc: closed") ||
		strings.Contains(err.Error(), "shim disconnected"))
}

// pause waits d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
