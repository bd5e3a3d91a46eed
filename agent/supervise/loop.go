package supervise

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/agentd/agentd/runtime"
)

const (
	// listTimeout bounds a look at the runtime: a hung containerd blocks a
	// client for ever. 20 daemons take 12 to 20 ms.
	listTimeout = 10 * time.Second
	// eventSpacing keeps bursts of events from becoming bursts of looks. What
	// needs an answer at once, an exit, comes by Wait.
	eventSpacing = 250 * time.Millisecond
	// retryFrozen is how often a runtime that does not answer is asked. That
	// costs a connect to a socket; a second of it was a third of what the time
	// to converge after containerd's restart may be.
	retryFrozen = 250 * time.Millisecond
	// rotateEvery is how often log files are measured, which costs a stat each:
	// a container that writes 100 MB/s makes 1 GB in between.
	rotateEvery = 10 * time.Second
	// pulseEvery is how often the loop turns when nothing happens, so that
	// Turned tells a loop that waits for something from one that hangs.
	pulseEvery = 5 * time.Second
)

// Run supervises until ctx ends, and then leaves all containers as they are. A
// step under way is waited for, at most ShutdownWait. Run returns after all of
// its goroutines have ended.
func (s *Supervisor) Run(ctx context.Context) error {
	defer close(s.over)
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.cfg.Rotate != nil {
		wg.Go(func() { s.rotate(ctx) })
	}
	events := s.cfg.Runtime.Events(ctx)
	var last time.Time // look
	due := time.Now()  // of the next one
	next := time.NewTimer(0)
	defer next.Stop()
	pulse := time.NewTicker(pulseEvery)
	defer pulse.Stop()
	// A look takes as long as the runtime does, and the loop turns on meanwhile.
	// What asks for another look waits until this one is over.
	looking, looked := false, make(chan struct{}, 1)
	for {
		timer, list, news := next.C, s.list, events
		if looking {
			timer, list, news = nil, nil, nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer:
			looking = true
			wg.Go(func() {
				s.look(ctx)
				looked <- struct{}{}
			})
		case <-looked:
			looking, last = false, time.Now()
			due = last.Add(s.cfg.Relist)
			if s.isFrozen() {
				due = last.Add(retryFrozen)
			}
		case <-list:
			due = time.Now()
		case _, open := <-news:
			if !open {
				events = nil
			}
			if soon := last.Add(eventSpacing); soon.Before(due) {
				due = soon
			}
		case <-s.wake:
		case <-pulse.C:
		}
		if !looking {
			next.Reset(time.Until(due))
		}
		s.spawn(ctx, &wg)
		s.turn()
	}
}

func (s *Supervisor) isFrozen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen != ""
}

// look lists the containers and wakes the daemons' goroutines. Anything but a
// list is no news about containers: it freezes decisions.
func (s *Supervisor) look(ctx context.Context) {
	taken := s.clock.Add(1)
	instances, err := s.instances(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.freeze(err)
		return
	}
	byName := map[string][]runtime.Instance{}
	for _, i := range instances {
		name := i.Labels[runtime.LabelDaemon]
		if name == "" {
			name = i.ID
		}
		byName[name] = append(byName[name], i)
	}
	s.mu.Lock()
	thawed := s.frozen != ""
	s.frozen = ""
	s.view = view{taken: taken, byName: byName}
	s.wakeWorkersLocked()
	s.movedLocked()
	s.mu.Unlock()
	if thawed {
		s.log.Info("runtime answers again, decisions go on")
		s.cfg.Changed()
	}
}

func (s *Supervisor) instances(ctx context.Context) (list []runtime.Instance, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("recovered from a panic", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("list containers: agentd itself failed: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	s.mu.Lock()
	sure := s.frozen == "" && s.view.taken > 0 && !s.doubted
	s.doubted = false
	s.mu.Unlock()
	if !sure {
		// After an outage and at the start the whole runtime must be up: one
		// that is still booting may not know all of its containers.
		if err := s.cfg.Runtime.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return s.cfg.Runtime.List(ctx)
}

// spawn starts a goroutine for each daemon that is wanted or present.
func (s *Supervisor) spawn(ctx context.Context, wg *sync.WaitGroup) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	start := func(name string) {
		if s.workers[name] != nil {
			return
		}
		w := newWorker(s, name)
		s.workers[name] = w
		wg.Go(func() { w.run(ctx) })
	}
	for name := range s.desired {
		start(name)
	}
	for name := range s.view.byName {
		start(name)
	}
}

// rotate bounds the log files of all daemons that have one.
func (s *Supervisor) rotate(ctx context.Context) {
	tick := time.NewTicker(rotateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range s.Reports() {
			if r.Container == "" {
				continue
			}
			path := s.cfg.LogPath(r.Name)
			if err := s.cfg.Rotate(path, s.cfg.LogMaxSize, s.cfg.LogMaxFiles); err != nil {
				s.log.Warn("cannot rotate a log file", "daemon", r.Name, "path", path, "err", err)
			}
		}
	}
}
