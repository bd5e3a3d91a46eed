package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/agent/probe"
	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/spec"
)

// Desired is what this node shall do about one daemon.
type Desired struct {
	Daemon     spec.Daemon // only the name when Delete is set
	Digest     string      // of the running part
	Source     string      // set here: Digest before the daemon was rendered for this node
	Generation uint64
	Revision   int
	Delete     bool
	// Hold says why nothing may be started or changed now (a conflict, the join
	// token's floor, the ring was left). What runs stays. "": nothing holds it.
	Hold string
	// Turn says why this node may not take a newer revision yet, which exists:
	// its turn has not come. This one stays wanted meanwhile. "": there is none.
	Turn string
	// Fresh: this one is taken without a turn, because nothing of the daemon ran
	// here. What was started before is not brought back while it is made ready:
	// nobody's turn would allow to take that down again.
	Fresh bool
	// ImageDigest is a hint: the manifest that the image's tag meant to whoever
	// accepted the record.
	ImageDigest string
	// Deleted is set here, of what was started last: a delete was wanted since,
	// so that it is not started again, whatever comes after the delete.
	Deleted bool

	order uint64 // set by Set: another one for each change of the digest
}

// Config is what a Supervisor is made of.
type Config struct {
	Node    spec.Node
	Runtime runtime.Runtime
	Policy  *policy.Policy // nil permits everything; see SetPolicy
	DataDir string
	LogPath func(daemon string) string
	// LogURI says where a container's output goes instead of LogPath:
	// "binary://…" or "file://…"; nil or "" means LogPath.
	LogURI func(daemon string) string
	// LastOutput returns the last lines that a daemon's container wrote, within
	// ctx. It is asked after a failure, to say why. nil: nothing is known.
	LastOutput func(ctx context.Context, daemon string) string
	Log        *slog.Logger
	// Changed is called after reports changed, from any goroutine. It must not
	// block. May be nil.
	Changed func()
	// Event is told what happened, from any goroutine. It must not block. May
	// be nil.
	Event func(Event)
	// Relist is the longest time between two looks at all containers; default
	// 7 s. Events of the runtime come sooner, but may be lost.
	Relist time.Duration
	// Left starts the supervisor as after StopAll.
	Left bool
	// ShutdownWait bounds how long the end of Run waits for a step under way;
	// default 10 s. The step itself is not cancelled by it.
	ShutdownWait time.Duration
	// Rotate bounds a container's log file; it is called every ten seconds with
	// LogMaxSize bytes and LogMaxFiles. nil: logs are not rotated here.
	Rotate      func(path string, maxSize int64, maxFiles int) error
	LogMaxSize  int64
	LogMaxFiles int
}

// Supervisor keeps daemons running. Use New, then Run once.
type Supervisor struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{} // capacity 1: daemons may have come or gone
	list chan struct{} // capacity 1: look at the containers again
	pull chan struct{} // slots of pulls, see acquire
	// starts are slots of starts.
	starts chan struct{}
	ask    *probe.Asker
	over   chan struct{} // closed when Run ends
	// clock orders looks at the runtime and changes to it: a look that began
	// before a change ended says nothing about its outcome.
	clock  atomic.Uint64
	policy atomic.Pointer[policy.Policy] // what this node permits
	turned atomic.Pointer[time.Time]     // when the loop last came round

	mu      sync.Mutex
	desired map[string]Desired  // guarded by mu: as the ring has it, not rendered
	orders  uint64              // guarded by mu: given out by Set
	site    Site                // guarded by mu
	deps    map[string][]string // guarded by mu: what depends on what; a deleted daemon's are kept
	circle  map[string][]string // guarded by mu: daemons that depend on themselves, with the way round
	asked   map[string]*request // guarded by mu: restarts that nobody began yet
	left    bool                // guarded by mu
	frozen  string              // guarded by mu: why no decision is made; "": they are
	view    view                // guarded by mu
	doubted bool                // guarded by mu: a call got no answer since the last look
	workers map[string]*worker  // guarded by mu
	reports map[string]Report   // guarded by mu
	busy    int                 // guarded by mu: steps under way
	settled uint64              // guarded by mu: clock when the last step ended
	moved   chan struct{}       // guarded by mu: closed and replaced when any of the above changed
}

// view is the last successful look at the runtime.
type view struct {
	taken  uint64 // clock when it began; 0: never looked
	byName map[string][]runtime.Instance
}

// New returns a supervisor that does nothing until Run.
func New(cfg Config) *Supervisor {
	if cfg.Relist <= 0 {
		cfg.Relist = 7 * time.Second
	}
	if cfg.ShutdownWait <= 0 {
		cfg.ShutdownWait = 10 * time.Second
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.LogPath == nil {
		cfg.LogPath = func(string) string { return "" }
	}
	if cfg.LogURI == nil {
		cfg.LogURI = func(string) string { return "" }
	}
	if cfg.Event == nil {
		cfg.Event = func(Event) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var ready func(context.Context) error
	if cfg.Runtime != nil {
		ready = cfg.Runtime.Ready
	}
	s := &Supervisor{
		cfg: cfg, log: cfg.Log, ask: probe.NewAsker(ready), site: Site{Node: cfg.Node}, over: make(chan struct{}),
		deps: map[string][]string{}, asked: map[string]*request{},
		wake: make(chan struct{}, 1), list: make(chan struct{}, 1), pull: make(chan struct{}, pullSlots), starts: make(chan struct{}, startSlots),
		desired: map[string]Desired{}, left: cfg.Left, workers: map[string]*worker{},
		reports: map[string]Report{}, moved: make(chan struct{}),
	}
	s.policy.Store(cfg.Policy)
	return s
}

// Set replaces what is wanted. A daemon that is no longer in it is left alone
// as it is: only a Desired with Delete, or one that is not meant for this node,
// stops anything.
func (s *Supervisor) Set(desired []Desired) {
	next := make(map[string]Desired, len(desired))
	for _, d := range desired {
		next[d.Daemon.Name] = d
	}
	s.mu.Lock()
	deps := make(map[string][]string, len(next))
	for name, d := range next {
		if was, ok := s.desired[name]; ok && was.Digest == d.Digest && was.Delete == d.Delete {
			d.order = was.order
		} else {
			s.orders++
			d.order = s.orders
		}
		next[name] = d
		if deps[name] = d.Daemon.DependsOn; d.Delete {
			deps[name] = s.deps[name] // it goes before what it needed
		}
	}
	s.desired, s.deps, s.circle = next, deps, circles(deps)
	s.wakeWorkersLocked()
	s.mu.Unlock()
	poke(s.wake)
}

// Reports tells where every daemon stands, sorted by name.
func (s *Supervisor) Reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Report, 0, len(s.reports))
	for _, name := range slices.Sorted(maps.Keys(s.reports)) {
		r := s.reports[name]
		r.Reasons = slices.Clone(r.Reasons)
		if w := s.workers[name]; w != nil {
			r.Totals = w.totals.read()
			if p := w.progress.Load(); p != nil {
				r.Pulled, r.PullTotal = p.done, p.total
				r.Reasons = append(r.Reasons, p.String())
			}
		}
		if s.frozen != "" {
			r.Reasons = append([]string{s.frozen}, r.Reasons...)
			r.Reason = s.frozen + "; last known: " + r.Reason
			r.ReadySince = time.Time{} // nobody can tell for how long
		}
		if d, ok := s.desired[name]; ok && d.order != r.order {
			r.ReadySince = time.Time{} // its worker may be about to replace it
		}
		out = append(out, r)
	}
	return out
}

// StopAll stops and removes all containers of ours, in parallel, and returns
// when the runtime says that none is left. Nothing is started again until
// Resume; whoever restarts the process passes Config.Left. When ctx ends first,
// the stopping goes on and the error names what is still there.
func (s *Supervisor) StopAll(ctx context.Context) error {
	s.mu.Lock()
	s.left = true
	s.wakeWorkersLocked()
	after := s.clock.Add(1)
	s.mu.Unlock()
	for {
		s.mu.Lock()
		moved, frozen, remaining := s.moved, s.frozen, s.remainingLocked()
		fresh := s.view.taken > max(after, s.settled)
		s.mu.Unlock()
		if fresh && frozen == "" && len(remaining) == 0 {
			return nil
		}
		if !fresh {
			poke(s.list) // a look from before a step's end says nothing about it
		}
		select {
		case <-moved:
		case <-ctx.Done():
			what := strings.Join(remaining, ", ")
			if frozen != "" {
				what = strings.TrimSpace(what + " (" + frozen + ")")
			}
			return fmt.Errorf("stop all daemons: not finished: %s: %w", what, ctx.Err())
		}
	}
}

// remainingLocked names what a leaving node still has; s.mu is held.
func (s *Supervisor) remainingLocked() []string {
	names := map[string]bool{}
	for name := range s.view.byName {
		names[name] = true
	}
	for name, r := range s.reports {
		if r.Container != "" {
			names[name] = true
		}
	}
	out := slices.Sorted(maps.Keys(names))
	if len(out) == 0 && s.busy > 0 {
		out = []string{"a step under way"}
	}
	return out
}

// Resume ends what StopAll began: daemons are started again.
func (s *Supervisor) Resume() {
	s.mu.Lock()
	s.left = false
	s.wakeWorkersLocked()
	s.mu.Unlock()
}

func (s *Supervisor) wakeWorkersLocked() {
	for _, w := range s.workers {
		poke(w.wake)
	}
}

// movedLocked tells StopAll to look again; s.mu is held.
func (s *Supervisor) movedLocked() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// publish makes a daemon's report visible.
func (s *Supervisor) publish(r Report) {
	s.mu.Lock()
	old, known := s.reports[r.Name]
	same := known && equal(old, r)
	if !same {
		s.reports[r.Name] = r
		s.wakeNeighboursLocked(r.Name)
		s.movedLocked()
	}
	s.mu.Unlock()
	if !same {
		s.cfg.Changed()
	}
}

// freeze stops all decisions until a look at the runtime succeeds.
func (s *Supervisor) freeze(err error) {
	s.mu.Lock()
	was := s.frozen
	if was == "" {
		s.frozen = fmt.Sprintf("the container runtime does not answer since %sZ: %s",
			time.Now().UTC().Format(time.TimeOnly), errorWords(err))
		s.movedLocked()
	}
	s.mu.Unlock()
	if was == "" {
		s.log.Warn("runtime unavailable, decisions are frozen", "err", err)
		s.cfg.Changed()
	}
}

// doubt makes the next look ask whether the whole runtime is up.
func (s *Supervisor) doubt() {
	s.mu.Lock()
	s.doubted = true
	s.mu.Unlock()
}

// poke puts a token into a channel of capacity 1.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
