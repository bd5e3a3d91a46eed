package rollout

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Identity is who a node is in lanes and evidence: its id in the ring, and the
// salt that it drew when it lost its state or joined again; see MakeID.
type Identity struct {
	Node NodeID
	Salt string
	// Past are the salts under which it was here before it left, the last one
	// first. Nobody has to wait for those ids.
	Past []string
}

// maxPast is how many ids that left are remembered.
const maxPast = 4

// ID is the node's id in lanes and evidence.
func (i Identity) ID() NodeID { return MakeID(i.Node, i.Salt) }

// Saver writes all states of a node down, and returns after they are on the
// disk. It gets every state each time and must not keep the map.
type Saver interface {
	Save(who Identity, states map[string]State) error
}

// Keeper holds a node's states of all daemons. What it returns, as a decision
// or as a word for others, was written down before. It is safe for concurrent
// use.
type Keeper struct {
	saver Saver

	mu     sync.Mutex
	who    Identity         // guarded by mu
	states map[string]State // guarded by mu: as on the disk
	err    error            // guarded by mu: why the last change was not written down
}

// NewKeeper returns a keeper that goes on from the given states, which must be
// those on the disk.
func NewKeeper(who Identity, states map[string]State, saver Saver) *Keeper {
	k := &Keeper{who: who, saver: saver, states: map[string]State{}}
	for name, s := range states {
		k.states[name] = s.clone()
	}
	return k
}

// ID is the node's id in lanes and evidence.
func (k *Keeper) ID() NodeID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.who.ID()
}

// Past are the ids that this node had before it left. It does not wait for
// them either.
func (k *Keeper) Past() []NodeID {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []NodeID
	for _, salt := range k.who.Past {
		out = append(out, MakeID(k.who.Node, salt))
	}
	return out
}

// Advance takes a step in each daemon of inputs, whose Self and State it fills
// in, and returns the decisions by daemon. Changed states are written down
// first; if that fails, nothing has changed: what runs is what is wanted, and
// the reason says so.
func (k *Keeper) Advance(inputs map[string]Input) map[string]Decision {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make(map[string]Decision, len(inputs))
	next := maps.Clone(k.states)
	changed, self := false, k.who.ID()
	for name, in := range inputs {
		in.Daemon, in.Self, in.State = name, self, k.states[name]
		d := Step(in)
		out[name] = d
		if !d.State.Equal(in.State) {
			next[name], changed = d.State, true
		}
	}
	if !changed {
		return out
	}
	if k.err = k.saver.Save(k.who, next); k.err != nil { // persist before acting
		return k.refuse(out)
	}
	k.states = next
	return out
}

// refuse turns decisions into those of a node that changes nothing; k.mu is
// held.
func (k *Keeper) refuse(out map[string]Decision) map[string]Decision {
	for name, d := range out {
		was := k.states[name]
		if d.State.Equal(was) {
			continue
		}
		out[name] = Decision{State: was, Run: was.Current, Wait: Wait{
			Code: WaitDisk, Reason: fmt.Sprintf("its part in the rollout can't be written down: %v", k.err)}}
	}
	return out
}

// Words returns what others may be told: by daemon, and who says it.
func (k *Keeper) Words() (Identity, map[string]State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make(map[string]State, len(k.states))
	for name, s := range k.states {
		out[name] = s.Word()
	}
	return k.who, out
}

// State returns a daemon's state as it is on the disk.
func (k *Keeper) State(daemon string) State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.states[daemon].clone()
}

// Left clears what a node that stopped all of its daemons had: it holds no
// turn and runs nothing. What it observed stays.
func (k *Keeper) Left() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := map[string]State{}
	for name, s := range k.states {
		next[name] = State{Observed: s.Observed, Done: s.Done, Lent: s.Lent, Failed: s.Failed}
	}
	if err := k.saver.Save(k.who, next); err != nil {
		return fmt.Errorf("clear the turns of a node that left: %w", err)
	}
	k.states = next
	return nil
}

// Rejoined makes a node that left another one: who has not heard yet that it is
// back takes the old id for stopped, and would not wait for it.
func (k *Keeper) Rejoined() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	who := Identity{Node: k.who.Node, Salt: newSalt(), Past: append([]string{k.who.Salt}, k.who.Past...)}
	who.Past = who.Past[:min(len(who.Past), maxPast)]
	if err := k.saver.Save(who, map[string]State{}); err != nil {
		return fmt.Errorf("take part in rollouts again: %w", err)
	}
	k.who, k.states = who, map[string]State{}
	return nil
}

// Names returns the daemons that there is a state of, sorted.
func (k *Keeper) Names() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.states))
}
