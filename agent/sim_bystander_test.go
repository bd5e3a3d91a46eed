package agent

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/agentd/agentd/runtime"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec/record"
)

// bystander stands beside the machines and sees every start and every end of a
// container. It knows what operators signed, and what each image does, and
// believes no agent. At every instant it holds the ring to this:
//
//   - the nodes taken down by rollouts, updating or failed, are at most as many
//     as budget says;
//   - at most one container of a daemon runs on a node, two with surge;
//   - nothing is started that no operator signed, and nothing older than what
//     the node started before, but for what ran there last (a restart in place)
//     and what a record names as the one to go back to;
//   - nothing is stopped in order to start the same again, when there is nothing
//     else that it could have been stopped for.
type bystander struct {
	w  *world
	mu sync.Mutex

	signed  []signed           // guarded by mu: in the order of signing
	spots   map[*machine]*spot // guarded by mu
	alleged map[string]bool    // guarded by mu: ids of nodes that somebody called down
	most    int                // guarded by mu: the most nodes that were down at once
	starts  int                // guarded by mu
	updates int                // guarded by mu: containers stopped for others
	pulling map[string]int     // guarded by mu: by image
	pulled  map[string]int     // guarded by mu: the most nodes that pulled an image at once
	gap     time.Duration      // guarded by mu: the longest from the end of one container to the start of the next
}

// signed is a record of the daemon, as it was signed.
type signed struct {
	version  record.Version
	parent   record.Digest
	digest   string // of the running part
	image    string
	k        int
	del      bool
	first    bool
	finished bool // the signer took the parent for finished
	rollback bool
	fallback record.Version
	minReady time.Duration
}

// spot is what the bystander knows of one machine.
type spot struct {
	runs map[string]*seen  // by container id
	last map[string]string // the digest that was started last, by container id
	top  record.Version    // the greatest version that was started
	down bool              // taken down by a rollout
	was  record.Version    // what ran when it was
	gone signed            // what was stopped, while nothing else was started since
	at   time.Time         // when it was
}

// seen is a running container.
type seen struct {
	of    signed
	since time.Time
	ready time.Duration // after since; negative: never
}

func newBystander(w *world) *bystander {
	return &bystander{w: w, spots: map[*machine]*spot{}, alleged: map[string]bool{}, pulling: map[string]int{}, pulled: map[string]int{}}
}

func (b *bystander) spot(m *machine) *spot {
	s := b.spots[m]
	if s == nil {
		s = &spot{runs: map[string]*seen{}, last: map[string]string{}}
		b.spots[m] = s
	}
	return s
}

// saw takes note of a transition. It is called with the runtime's lock held.
func (b *bystander) saw(m *machine, c fake.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, s := c.Instance, b.spot(m)
	switch c.What {
	case fake.Started:
		b.w.say("%s: container %s starts: generation %s", m.name, i.ID, i.Labels[runtime.LabelGeneration])
		b.started(m, s, i)
	case fake.Ended:
		b.w.say("%s: container %s ends, asked %t: generation %s", m.name, i.ID, c.Asked, i.Labels[runtime.LabelGeneration])
		b.ended(m, s, i, c.Asked)
	case fake.Removed:
		delete(s.runs, i.ID)
	}
}

func (b *bystander) started(m *machine, s *spot, i runtime.Instance) {
	b.starts++
	of, ok := b.find(i)
	if !ok {
		b.w.failf("%s starts what nobody signed: generation %s, digest %.12s",
			m.name, i.Labels[runtime.LabelGeneration], i.Labels[runtime.LabelDigest])
		return
	}
	older := of.version.Compare(s.top) < 0 && of.digest != s.last[i.ID]
	if older && !b.isFallback(of.version) {
		b.w.failf("%s starts generation %d after generation %d", m.name, of.version.Generation, s.top.Generation)
	}
	if s.gone.digest == of.digest && s.gone.digest != "" && !b.rival(of) {
		b.w.failf("%s stopped generation %d only to start the same again", m.name, of.version.Generation)
	}
	if of.version.Compare(s.top) > 0 {
		s.top = of.version
	}
	if s.gone.digest != "" {
		b.gap = max(b.gap, time.Since(s.at))
	}
	s.last[i.ID], s.gone = of.digest, signed{}
	x := &seen{of: of, since: time.Now(), ready: b.w.readyAfter(of.image, m.name)}
	s.runs[i.ID] = x
	most := 1
	if b.w.overlap {
		most = 2
	}
	if len(s.runs) > most {
		b.w.failf("%s runs %d containers of the daemon", m.name, len(s.runs))
	}
	if x.ready < 0 {
		return
	}
	time.AfterFunc(x.ready+of.minReady, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if s.runs[i.ID] == x && s.down {
			b.w.say("%s: is back with generation %d", m.name, of.version.Generation)
			s.down = false
		}
	})
}

func (b *bystander) ended(m *machine, s *spot, i runtime.Instance, asked bool) {
	x := s.runs[i.ID]
	delete(s.runs, i.ID)
	if x == nil || !asked || m.left || b.deleted(x.of.version) {
		return
	}
	for _, other := range s.runs {
		if other.ready >= 0 && time.Since(other.since) >= other.ready {
			return // surge: another one has taken its place
		}
	}
	s.gone, s.at = x.of, time.Now()
	b.updates++
	if s.down {
		return
	}
	s.down, s.was = true, x.of.version
	down := b.downLocked()
	b.most = max(b.most, len(down))
	if limit, why := b.budget(); len(down) > limit {
		b.w.failf("%d nodes are down for updates, allowed are %d (%s): %v", len(down), limit, why, down)
	}
}

// find returns what a container was made of.
func (b *bystander) find(i runtime.Instance) (signed, bool) {
	gen, err := strconv.ParseUint(i.Labels[runtime.LabelGeneration], 10, 64)
	for _, r := range b.signed {
		if err == nil && r.version.Generation == gen && r.digest == i.Labels[runtime.LabelDigest] && !r.del {
			return r, true
		}
	}
	return signed{}, false
}

func (b *bystander) isFallback(v record.Version) bool {
	for _, r := range b.signed {
		if r.fallback == v && r.rollback {
			return true
		}
	}
	return false
}

// rival reports whether there is a newer record of something else, for which a
// container may have been stopped; a veto or a yet newer record may bring it back.
func (b *bystander) rival(of signed) bool {
	for _, r := range b.signed {
		if !r.del && r.digest != of.digest && r.version.Compare(of.version) > 0 {
			return true
		}
	}
	return false
}

// deleted reports whether a delete of that version, or of a later one, was
// signed: then nodes stop it, or go on to the one after the delete, without turns.
func (b *bystander) deleted(v record.Version) bool {
	for _, r := range b.signed {
		if r.del && r.version.Generation > v.Generation {
			return true
		}
	}
	return false
}

func (b *bystander) downLocked() []string {
	var out []string
	for _, m := range b.w.nodes {
		// A delete ends all rollouts before it, and what follows has no turns.
		if s := b.spots[m]; s != nil && s.down && !b.deleted(s.was) {
			out = append(out, m.name)
		}
	}
	return out
}

// down lists the nodes that are down for updates.
func (b *bystander) down() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.downLocked()
}

// budget is how many nodes may be down by the protocol's bound: the largest k
// since the last finished rollout, plus the nodes that were called down.
// Operators who dealt lanes anew at the same time add up.
func (b *bystander) budget() (int, string) {
	type root struct {
		of   signed
		most int
	}
	var roots []*root
	under := map[record.Digest]*root{}
	for _, r := range b.signed {
		if r.del {
			continue
		}
		at := under[r.parent]
		if at == nil || r.finished || r.first {
			if r.finished {
				// Everybody in the parent's lanes is done with the parent: what
				// came before it and what it won against is over.
				roots = drop(roots, func(o *root) bool {
					return under[r.parent] == o || o.of.version.Compare(b.versionOf(r.parent)) < 0
				})
			}
			if r.first {
				roots = nil
			}
			at = &root{of: r}
			roots = append(roots, at)
		}
		under[r.version.Digest] = at
		at.most = max(at.most, r.k)
	}
	sum := len(b.alleged)
	text := fmt.Sprintf("%d called down", len(b.alleged))
	for _, o := range roots {
		sum += o.most
		text += fmt.Sprintf(", %d since generation %d", o.most, o.of.version.Generation)
	}
	return sum, text
}

func drop[T any](list []T, match func(T) bool) []T {
	var out []T
	for _, x := range list {
		if !match(x) {
			out = append(out, x)
		}
	}
	return out
}

func (b *bystander) versionOf(d record.Digest) record.Version {
	for _, r := range b.signed {
		if r.version.Digest == d {
			return r.version
		}
	}
	return record.Version{}
}

// version is the record of that version.
func (b *bystander) version(v record.Version) signed {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.signed {
		if r.version == v {
			return r
		}
	}
	return signed{}
}

// pulls counts who pulls an image at once.
func (b *bystander) pulls(ref string) (done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pulling[ref]++
	b.pulled[ref] = max(b.pulled[ref], b.pulling[ref])
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.pulling[ref]--
	}
}

// sign takes note of a record before anybody can see it.
func (b *bystander) sign(r signed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.finished {
		clear(b.alleged) // all of them are done, and none is called down
	}
	b.signed = append(b.signed, r)
}

// allege takes note that somebody signed that a node is down.
func (b *bystander) allege(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alleged[node] = true
}

// powerCut forgets what ran; it was not the agents who stopped it. What was down
// for an update stays down.
func (b *bystander) powerCut(m *machine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.spot(m).runs)
}

// left takes note that a machine stops everything, by its operator's word.
func (b *bystander) left(m *machine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spot(m).down = false
}

// fresh forgets what a machine started before its disk was lost: it can't know
// better than its peers.
func (b *bystander) fresh(m *machine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spot(m).top = record.Version{}
}

// runs tells what runs on a machine, and whether it is ready.
func (b *bystander) runs(m *machine) (of signed, ready, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.spot(m).runs {
		return x.of, x.ready >= 0 && time.Since(x.since) >= x.ready, true
	}
	return signed{}, false, false
}

// newest is the greatest record that was signed.
func (b *bystander) newest() signed {
	b.mu.Lock()
	defer b.mu.Unlock()
	var top signed
	for _, r := range b.signed {
		if r.version.Compare(top.version) > 0 {
			top = r
		}
	}
	return top
}
