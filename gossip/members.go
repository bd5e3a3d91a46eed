package gossip

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// memberLife is how long a member that failed or left is remembered (docs/adr/0003).
const memberLife = 24 * time.Hour

// view is this node's picture of the others. memberlist reports joins and deaths
// while holding its own lock, so the view's is a leaf: nothing is called under it.
type view struct {
	mu sync.Mutex
	m  map[string]*entry // by name, without this node; guarded by mu

	// present counts those that memberlist holds for alive or suspect, this node
	// included: what its queue asks for under its own lock, where memberlist's
	// NumMembers would deadlock.
	present atomic.Int32
	changed chan struct{} // capacity 1
}

// entry is a member; doubt is set while it is gone and not yet known to have
// failed or left, in which case it counts as suspect.
type entry struct {
	Member
	doubt time.Time
}

func newView() *view {
	v := &view{m: make(map[string]*entry), changed: make(chan struct{}, 1)}
	v.present.Store(1)
	return v
}

// set brings m in as alive and reports what it was before ("" for unknown).
func (v *view) set(m Member) (was MemberState) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	m.State, m.Since, m.LastSeen = Alive, now, now
	if old, ok := v.m[m.Name]; ok {
		was = old.State
		if was == Alive && old.ID == m.ID {
			m.Since = old.Since
		}
	}
	v.m[m.Name] = &entry{Member: m}
	v.count()
	return was
}

// gone turns a member to failed or left and returns it.
func (v *view) gone(name string, to MemberState) (m Member, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.m[name]
	if !ok {
		return Member{}, false
	}
	e.doubt = time.Time{}
	if e.State != to {
		e.State, e.Since = to, time.Now()
	}
	v.count()
	return e.Member, true
}

// doubted marks a member as gone for a reason that is yet to be learned.
func (v *view) doubted(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e, ok := v.m[name]; ok && e.State != Failed && e.State != Left {
		e.doubt = time.Now()
		if e.State != Suspect {
			e.State, e.Since = Suspect, e.doubt
		}
		v.count()
	}
}

func (v *view) isDoubted(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.m[name]
	return ok && !e.doubt.IsZero()
}

// decide returns the members that have been doubted for d, as failed.
func (v *view) decide(d time.Duration) []Member {
	v.mu.Lock()
	defer v.mu.Unlock()
	var ms []Member
	for _, e := range v.m {
		if !e.doubt.IsZero() && time.Since(e.doubt) >= d {
			e.doubt = time.Time{}
			e.State, e.Since = Failed, time.Now()
			ms = append(ms, e.Member)
		}
	}
	if len(ms) > 0 {
		v.count()
	}
	return ms
}

// suspect marks an alive member as one that did not answer.
func (v *view) suspect(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e, ok := v.m[name]; ok && e.State == Alive {
		e.State, e.Since = Suspect, time.Now()
		wake(v.changed)
	}
}

// refute takes a suspicion back; seen says that the member itself was heard.
func (v *view) refute(name string, id NodeID, seen bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.m[name]
	if !ok || e.ID != id {
		return
	}
	if seen {
		e.LastSeen = time.Now()
	}
	if e.State == Suspect && e.doubt.IsZero() {
		e.State, e.Since = Alive, time.Now()
		wake(v.changed)
	}
}

// displaced marks a member as failed whose very address a node with another key
// now answers at under the same name: memberlist, which probes by name, takes the
// one for the other. It reports whether that is news.
func (v *view) displaced(by Member) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.m[by.Name]
	if !ok || e.Addr != by.Addr || e.ID == by.ID || (e.State != Alive && e.State != Suspect) {
		return false
	}
	e.State, e.Since = Failed, time.Now()
	v.count()
	return true
}

// count renews present and wakes who watches. Called with mu held.
func (v *view) count() {
	n := int32(1)
	for _, e := range v.m {
		if e.State == Alive || e.State == Suspect {
			n++
		}
	}
	v.present.Store(n)
	wake(v.changed)
}

func (v *view) get(name string) (Member, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e, ok := v.m[name]; ok {
		return e.Member, true
	}
	return Member{}, false
}

// list returns the others whose state is one of states, or all, sorted by name.
func (v *view) list(states ...MemberState) []Member {
	v.mu.Lock()
	ms := make([]Member, 0, len(v.m))
	for _, e := range v.m {
		if len(states) == 0 {
			ms = append(ms, e.Member)
		}
		for _, s := range states {
			if e.State == s {
				ms = append(ms, e.Member)
			}
		}
	}
	v.mu.Unlock()
	sort.Slice(ms, func(i, j int) bool { return ms[i].Name < ms[j].Name })
	return ms
}

// forget drops a member that is not there; one that is comes back by itself.
func (v *view) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e, ok := v.m[name]; ok && (e.State == Failed || e.State == Left) {
		delete(v.m, name)
		wake(v.changed)
	}
}

// expire drops who has been gone for a day.
func (v *view) expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := time.Now().Add(-memberLife)
	for name, e := range v.m {
		if (e.State == Failed || e.State == Left) && e.Since.Before(old) {
			delete(v.m, name)
			wake(v.changed)
		}
	}
}

// lost marks everybody as failed: membership starts anew.
func (v *view) lost() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range v.m {
		if e.State == Alive || e.State == Suspect {
			e.State, e.Since, e.doubt = Failed, time.Now(), time.Time{}
		}
	}
	v.count()
}
