package supervise

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/agentd/agentd/runtime"
)

// rewatch is the pause before an instance is waited for again after a wait
// that brought nothing, so that a runtime that contradicts itself is not asked
// in a circle.
const rewatch = time.Second

// watch waits for one instance to end.
type watch struct {
	id     string
	pid    int
	cancel context.CancelFunc
	done   chan watched // capacity 1
}

type watched struct {
	id   string
	exit runtime.Exit
	err  error
}

// fired is the channel of the end; without a watch it never fires.
func (t *watch) fired() <-chan watched {
	if t == nil {
		return nil
	}
	return t.done
}

// stop ends the watch and joins its goroutine.
func (t *watch) stop() {
	if t == nil {
		return
	}
	t.cancel()
	<-t.done
}

// follow watches a container's instance that runs, and only that one.
func (w *worker) follow(ctx context.Context, of *tenant, inst *runtime.Instance) {
	if !runs(inst) {
		of.watch.stop()
		of.watch = nil
		return
	}
	if of.watch != nil && of.watch.id == inst.ID && of.watch.pid == inst.PID {
		return
	}
	of.watch.stop()
	wctx, cancel := context.WithCancel(ctx)
	t := &watch{id: inst.ID, pid: inst.PID, cancel: cancel, done: make(chan watched, 1)}
	of.watch = t
	go func() { // joined by watch.stop or by taking the outcome
		exit, err := w.wait(wctx, t.id)
		if err != nil {
			select { // a look comes first; see rewatch
			case <-wctx.Done():
			case <-time.After(rewatch):
			}
		}
		t.done <- watched{t.id, exit, err}
	}()
}

func (w *worker) wait(ctx context.Context, id string) (exit runtime.Exit, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("recovered from a panic", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("wait for %q: agentd itself failed: %v", id, p)
		}
	}()
	return w.s.cfg.Runtime.Wait(ctx, id)
}

// ended takes over what a watch saw.
func (w *worker) ended(t *tenant, e watched) {
	t.watch.cancel()
	t.watch = nil
	if e.err != nil {
		poke(w.s.list)
		return
	}
	for i := range w.actual {
		if w.actual[i].ID == e.id {
			w.mark = w.s.clock.Add(1)
			w.gone(i, e.exit)
		}
	}
}
