package containerd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/runtimetest"
)

var (
	faultTime = flag.Duration("faults", 8*time.Second, "how long TestFaults injures containers")
	faultSeed = flag.Uint64("faults.seed", 0, "seed of TestFaults; 0: a new one")
)

// Whatever is killed or cut off at whatever moment, there is never a second
// copy, and as soon as it is quiet there is exactly one. What lives is read
// from /proc, by a mark in the environment.
func TestFaults(t *testing.T) {
	e := newEnv(t)
	seed := *faultSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	ctx, cancel := context.WithTimeout(t.Context(), *faultTime)
	defer cancel()

	ids := []string{"f1", "f2", "f3"}
	var wg sync.WaitGroup
	var ensured atomic.Int64
	for n, id := range ids {
		local := rand.New(rand.NewPCG(seed, uint64(n)))
		wg.Go(func() { supervise(ctx, t, e, id, local, &ensured) })
	}
	wg.Go(func() { watch(ctx, t, e, ids) })
	faults := map[string]int{}
	for ctx.Err() == nil {
		id := ids[rng.IntN(len(ids))]
		fault := injure(t, e, id, rng)
		faults[fault]++
		if pause(ctx, time.Duration(rng.IntN(150))*time.Millisecond) != nil {
			break
		}
	}
	wg.Wait()
	t.Logf("%d times ensured; faults: %v", ensured.Load(), faults)
	if ensured.Load() < int64(len(ids)) {
		t.Error("nothing was ever started: the test tested nothing")
	}
	e.await(t, "ready", func() bool { return e.r.Ready(t.Context()) == nil })
	for _, id := range ids {
		start := time.Now()
		if _, err := e.r.Ensure(t.Context(), e.faultSpec(id, "calm")); err != nil {
			t.Fatalf("%s does not converge: %v", id, err)
		}
		e.await(t, "one copy of "+id, func() bool { return len(e.pids(t, id)) == 1 })
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s took %v to converge", id, took)
		}
	}
}

func (e *env) faultSpec(id, digest string) runtime.Spec {
	s := e.Spec(id, runtimetest.Program{})
	s.Labels[runtime.LabelDigest] = digest
	return s
}

// supervise does to one id what an agent does, and is itself cut off at random.
func supervise(ctx context.Context, t *testing.T, e *env, id string, rng *rand.Rand, ensured *atomic.Int64) {
	for ctx.Err() == nil {
		cctx, cancel := ctx, context.CancelFunc(func() {})
		if rng.IntN(3) == 0 {
			cctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(120))*time.Millisecond)
		}
		var err error
		switch rng.IntN(10) {
		case 0:
			err = e.r.Remove(cctx, id)
		case 1:
			_, err = e.r.Stop(cctx, id, 50*time.Millisecond)
		default:
			_, err = e.r.Ensure(cctx, e.faultSpec(id, fmt.Sprint("digest-", rng.IntN(2))))
			if err == nil {
				ensured.Add(1)
				wctx, wcancel := context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Millisecond)
				_, err = e.r.Wait(wctx, id)
				wcancel()
			}
		}
		cancel()
		switch {
		case err == nil, errors.Is(err, runtime.ErrNotFound), errors.Is(err, runtime.ErrUnavailable),
			errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		default:
			// An injury in the middle of a call is an error of that call; that it
			// does not last is what the end of the test shows.
			t.Logf("%s: %v", id, err)
		}
	}
}

func watch(ctx context.Context, t *testing.T, e *env, ids []string) {
	for pause(ctx, 3*time.Millisecond) == nil {
		for _, id := range ids {
			if pids := e.pids(t, id); len(pids) > 1 {
				t.Errorf("%s lives %d times: %v", id, len(pids), pids)
				return
			}
		}
	}
}

func injure(t *testing.T, e *env, id string, rng *rand.Rand) string {
	switch n := rng.IntN(20); {
	case n < 8:
		for _, pid := range e.pids(t, id) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return "init killed"
	case n < 15:
		shims, err := e.r.shims(id)
		if err != nil {
			t.Error(err)
		}
		for _, pid := range shims {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return "shim killed"
	case n < 16:
		if err := e.server.Kill(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
		if err := e.server.Start(t.Context()); err != nil {
			t.Error(err)
		}
		return "containerd killed"
	default:
		// An agent that is killed in the middle of a call: its connection breaks.
		dying, err := New(e.cfg)
		if err != nil {
			t.Error(err)
			return "none"
		}
		go func() { _, _ = dying.Ensure(t.Context(), e.faultSpec(id, "dying")) }()
		time.Sleep(time.Duration(rng.IntN(80)) * time.Millisecond)
		_ = dying.client.Close()
		_ = dying.Close()
		return "agent killed"
	}
}
