package agent

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// turnsFile holds this node's part in rollouts, in data_dir.
const turnsFile = "rollout.state"

// handOver is how long a container without a startup or readiness probe has to
// run before its node's turn goes on, whatever min_ready says: it is ready as
// soon as it runs, and one that can't read its configuration runs for a moment.
const handOver = time.Second

// turns is this node's part in rollouts: its own states, and what others signed
// about theirs. The loop alone advances it; anybody may read.
type turns struct {
	keeper *rollout.Keeper
	heard  heard

	mu    sync.Mutex
	plans map[string]rollout.Plan      // guarded by mu: by daemon, as followed last
	waits map[string]rollout.Wait      // guarded by mu: by daemon, as decided last
	told  map[string]record.Version    // guarded by mu: on-delete daemons that an operator restarted, for which record
	boot  map[string]rollout.Slot      // guarded by mu: slots that were held when the machine went down
	lanes map[string][][]record.NodeID // guarded by mu: by blob, those in use
	// Control records as read at that root; guarded by mu.
	steer     steering
	steerRoot gossip.Hash
	steered   bool
	avail     map[string]time.Duration  // guarded by mu: min_ready, by daemon
	names     map[rollout.NodeID]string // guarded by mu: never changed, only replaced
}

// openTurns reads this node's states. A state that can't be written holds
// updates back and nothing else.
func (a *Agent) openTurns(isNew, rebooted bool) {
	f := rollout.File{Path: filepath.Join(a.cfg.Node.DataDir, turnsFile)}
	k, lost, err := f.Open(record.NodeID(a.identity.ID), isNew)
	if lost != "" {
		a.note("this node takes part in rollouts under a new id, since its state was lost (%s); "+
			"where the old one is waited for, use agentctl rollout skip", lost)
	}
	if err != nil {
		a.note("rollout state: %v", err)
	}
	a.turns.open(k)
	a.outcomes.open(a.cfg.Node.DataDir)
	if rebooted {
		for _, name := range k.Names() {
			if s := k.State(name); s.Slot != nil {
				a.turns.boot[name] = *s.Slot
			}
		}
	}
}

func (t *turns) open(k *rollout.Keeper) {
	t.keeper = k
	t.heard = newHeard()
	t.plans, t.waits = map[string]rollout.Plan{}, map[string]rollout.Wait{}
	t.told, t.boot = map[string]record.Version{}, map[string]rollout.Slot{}
	t.lanes = map[string][][]record.NodeID{}
}

// plan resolves what a record says of its rollout.
func (t *turns) plan(v daemonView, held string, l blobs) rollout.Plan {
	u := v.spec.Update
	p := rollout.Plan{
		Version: v.version, Delete: v.deleted, First: v.rollout.First, Digest: v.digest, Canaries: v.rollout.Canaries,
		Fallback: v.rollout.Fallback, Held: held, Rollback: u.OnFailure == spec.OnFailureRollback, MaxFailures: u.MaxFailures,
		MinReady: u.MinReady.D(), Bake: u.Bake.D(), Deadline: u.Deadline.D(),
	}
	if h := v.spec.Health; h.Startup == nil && h.Readiness == nil && !v.spec.Job() {
		p.HandOver = handOver
	}
	switch u.Strategy {
	case spec.StrategyAllAtOnce:
		p.Strategy = rollout.AllAtOnce
	case spec.StrategyOnDelete:
		p.Strategy = rollout.OnDelete
	}
	if v.deleted {
		return p
	}
	lanes, err := t.lanesOf(v.rollout, l)
	if err != nil && p.Held == "" {
		p.Held = "who goes when is not known here yet: " + err.Error()
	}
	p.Lanes = lanes
	if fb, ok := fallbackOf(v, l); ok {
		p.FallbackDigest = fb.digest
	}
	return p
}

// blobs is what a plan needs of the store.
type blobs interface {
	Get(record.Key) (record.Entry, bool)
	Find(record.Key, record.Digest) (record.Record, bool)
}

// lanesOf returns the lanes of a rollout, out of their blob if they are in one.
func (t *turns) lanesOf(r record.Rollout, l blobs) ([][]record.NodeID, error) {
	if r.LanesBlob == "" {
		return r.Lanes, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if lanes, ok := t.lanes[r.LanesBlob]; ok {
		return lanes, nil
	}
	e, ok := l.Get(record.Key{Kind: record.KindBlob, Name: r.LanesBlob})
	if !ok {
		return nil, fmt.Errorf("the blob %s with its lanes has not arrived", r.LanesBlob[:12])
	}
	lanes, err := record.LanesOf(record.DaemonBody{Rollout: r}, e.Winner().Body)
	if err == nil {
		t.lanes[r.LanesBlob] = lanes // at most as many as there are daemons, see turn
	}
	return lanes, err
}

// fallbackOf reads the record that v's rollback goes to.
func fallbackOf(v daemonView, l blobs) (daemonView, bool) {
	if v.rollout.Fallback.IsZero() {
		return daemonView{}, false
	}
	return viewOf(record.Key{Kind: record.KindDaemon, Name: v.name}, v.rollout.Fallback, l)
}

func viewOf(key record.Key, version record.Version, l blobs) (daemonView, bool) {
	r, ok := l.Find(key, version.Digest)
	if !ok || r.Version() != version || r.Delete {
		return daemonView{}, false
	}
	v, err := understand(r)
	return v, err == nil
}

// takeTurns advances this node's rollouts and returns what is wanted here, and
// when to look again though nothing happens.
func (a *Agent) takeTurns(all []decided) (wants []supervise.Desired, again time.Duration) {
	now := time.Now()
	inputs := map[string]rollout.Input{}
	scene := a.scene()
	for _, d := range all {
		if d.taken == nil {
			continue
		}
		in := scene.input(*d.taken)
		in.Newest = d.plan
		in.Here = a.here(*d.taken, scene, now)
		inputs[d.taken.name] = in
	}
	before := map[string]rollout.State{}
	for name := range inputs {
		before[name] = a.turns.keeper.State(name)
	}
	a.noteEnds(inputs, before)
	decisions := a.turns.keeper.Advance(inputs)
	for _, d := range all {
		if d.taken == nil {
			wants = append(wants, d.want)
			continue
		}
		name := d.taken.name
		dec := decisions[name]
		wants = append(wants, a.want(d, dec))
		for _, e := range turned(name, before[name], dec, d.taken.revision, scene.peers.names) {
			a.emit(e)
		}
		a.waiting = append(a.waiting, waiters(a.turns.keeper.ID(), inputs[name], before[name], dec.State)...)
		if due := due(inputs[name], dec); due > 0 && (again == 0 || due < again) {
			again = due
		}
	}
	avail := map[string]time.Duration{}
	for _, d := range all {
		if d.taken != nil {
			avail[d.taken.name] = d.taken.spec.Update.MinReady.D()
		}
	}
	a.turns.remember(inputs, decisions, scene.peers.names, avail)
	return wants, again
}

// noteEnds keeps how rollouts ended for which a newer record came.
func (a *Agent) noteEnds(inputs map[string]rollout.Input, before map[string]rollout.State) {
	plans := a.turns.known()
	for name, in := range inputs {
		was, ok := plans[name]
		if !ok || was.Version == in.Newest.Version {
			continue
		}
		if e, ok := endOf(was, in, before[name]); ok {
			if err := a.outcomes.note(name, e); err != nil {
				a.log.Warn("outcome of a rollout not kept", "daemon", name, "err", err)
			}
		}
	}
}

// remember keeps what was decided, for whoever asks.
func (t *turns) remember(inputs map[string]rollout.Input, decisions map[string]rollout.Decision, names map[rollout.NodeID]string, avail map[string]time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names, t.avail = names, avail
	clear(t.plans)
	clear(t.waits)
	clear(t.boot) // was looked at
	t.heard.busy = map[string]bool{}
	for name, in := range inputs {
		d := decisions[name]
		t.plans[name], t.waits[name] = in.Newest, d.Wait
		s := d.State
		t.heard.busy[name] = d.Wait.Code != "" || s.Slot != nil || s.Lent != nil || !s.IsDone(s.Observed)
		if v, ok := t.told[name]; ok && (v != in.Newest.Version || s.Current.Version.Version == v) {
			delete(t.told, name)
		}
	}
	if len(t.lanes) > 2*len(t.plans)+8 {
		clear(t.lanes) // those in use are read again
	}
}

// want turns a decision into what the supervisor is told.
func (a *Agent) want(d decided, dec rollout.Decision) supervise.Desired {
	v := *d.taken
	key := record.Key{Kind: record.KindDaemon, Name: v.name}
	run := dec.Run.Version
	switch {
	case dec.Delete:
		return d.want
	case run == rollout.Of(v.version):
		w := d.want
		w.Fresh = dec.State.Slot == nil
		return w
	case run.IsZero():
	case run.Vetoed && run.Version == v.version:
		if fb, ok := fallbackOf(v, a.store); ok {
			w := waiting(desire(fb), dec.Wait)
			w.Fresh = dec.State.Slot == nil
			return w
		}
	case run.Vetoed:
		if r, ok := viewOf(key, run.Version, a.store); ok {
			if fb, ok := fallbackOf(r, a.store); ok {
				return waiting(desire(fb), dec.Wait)
			}
		}
	default:
		if r, ok := viewOf(key, run.Version, a.store); ok {
			return waiting(desire(r), dec.Wait)
		}
	}
	// Its body fell out of the history, or this node does not know what it
	// runs: what was started here last goes on.
	if last, ok := supervise.Started(a.cfg.Node.DataDir, v.name); ok {
		return waiting(last, dec.Wait)
	}
	w := d.want
	w.Hold = dec.Wait.Reason
	return w
}

func waiting(w supervise.Desired, why rollout.Wait) supervise.Desired {
	w.Turn = why.Reason
	return w
}

// due is how long until time alone changes the decision; zero for never.
func due(in rollout.Input, d rollout.Decision) time.Duration {
	p, h, s := in.Newest, in.Here, d.State
	var next time.Duration
	sooner := func(t time.Duration) {
		if t > 0 && (next == 0 || t < next) {
			next = t
		}
	}
	if h.Ready {
		sooner(p.MinReady - h.ReadyFor) // until it counts as available
	}
	if s.IsDone(s.Observed) && s.Slot == nil {
		return next
	}
	if h.Ready {
		sooner(p.HandOver - h.ReadyFor)
		sooner(p.MinReady + p.Bake - h.ReadyFor)
	}
	if h.Tried > 0 && s.Failed != p.Version {
		sooner(p.Deadline - h.Tried)
	}
	return next
}
