package supervise

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/agentd/agentd/runtime"
)

// errEnded answers whoever waits when the supervisor ends.
var errEnded = errors.New("agentd is ending")

// request is a restart that somebody waits for.
type request struct{ done chan error } // capacity 1

// Restart ends a daemon's instance on this node, if one runs, and starts it
// again in place, at once, whatever its back-off. It returns when the new one
// was started; nothing is stopped that could not be started again. When ctx
// ends first, what was begun goes on.
func (s *Supervisor) Restart(ctx context.Context, name string) error {
	req := &request{done: make(chan error, 1)}
	if err := s.request(name, req); err != nil {
		return fmt.Errorf("restart daemon %q: %w", name, err)
	}
	select {
	case err := <-req.done:
		if err != nil {
			return fmt.Errorf("restart daemon %q: %w", name, err)
		}
		return nil
	case <-s.over:
		return fmt.Errorf("restart daemon %q: %w", name, errEnded)
	case <-ctx.Done():
	}
	s.mu.Lock()
	if s.asked[name] == req {
		delete(s.asked, name)
	}
	s.mu.Unlock()
	return fmt.Errorf("restart daemon %q: %w", name, ctx.Err())
}

func (s *Supervisor) request(name string, req *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.frozen != "":
		return errors.New(s.frozen)
	case s.workers[name] == nil:
		return errors.New("no such daemon here")
	case s.asked[name] != nil:
		return errors.New("a restart was asked for already")
	}
	s.asked[name] = req
	s.wakeLocked(name)
	return nil
}

// answer tells whoever waits for a restart how it ended.
func (w *worker) answer(err error) {
	if w.request != nil {
		w.request.done <- err
	}
	w.request = nil
}

// heed takes a request for a restart into the history, or refuses it.
func (w *worker) heed(in Input) Input {
	if w.request == nil {
		return in
	}
	inst, _ := w.pair(in.Desired)
	pid := 0
	if inst != nil {
		pid = inst.PID
	}
	switch asked := w.hist.Asked; {
	case RefuseRestart(in) != "":
		w.hist.Asked = nil
		w.answer(errors.New(RefuseRestart(in)))
	case asked == nil:
		w.hist.Asked = &Asked{PID: pid}
	case pid != 0 && pid != asked.PID:
		w.hist.Asked = nil // it was started again meanwhile
		w.answer(nil)
	}
	in.History = w.hist
	return in
}

// RefuseRestart says why a daemon is not restarted now although an operator
// asks for it: because it could not be started again. It is pure.
func RefuseRestart(in Input) string {
	d := in.Desired
	if d == nil && !in.Left {
		return "no record of it here"
	}
	if dep, goes := departs(d, in.Site, in.Left, in.Now); goes {
		return dep.why
	}
	p := newPlan(in)
	closed := in.Site.closed(d.Daemon)
	switch {
	case d.Hold != "":
		return "held: " + d.Hold
	case in.History.Panics >= quarantineAfter:
		return quarantineWords(in.History, d)
	case in.Broken != "":
		return "cannot be rendered for this node: " + in.Broken
	case p.finished():
		return p.Finished.Why + "; agentctl rollout restart runs it again"
	case len(in.Denials) > 0:
		return "it could not be started again: " + in.Denials[0].String()
	case p.inst != nil && !p.current():
		return fmt.Sprintf("revision %d is about to replace revision %s", d.Revision, orUnknown(p.inst.Labels[runtime.LabelRevision]))
	case p.inst == nil && closed != "":
		return closed
	case len(in.Circle) > 0:
		return "depends_on goes in a circle: " + strings.Join(in.Circle, " needs ")
	}
	for _, n := range in.Needs {
		if !n.Ready {
			return fmt.Sprintf("it could not be started again: %s, which it depends on, is not ready here: %s", n.Name, n.Why)
		}
	}
	return ""
}
