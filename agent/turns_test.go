package agent

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// version is the record of that generation.
func version(gen uint64) record.Version {
	return record.Version{Generation: gen, Digest: record.Digest{byte(gen)}}
}

func at(gen uint64) rollout.State {
	v := rollout.Of(version(gen))
	return rollout.State{Observed: v, Done: v}
}

// speaker makes statements of one node.
type speaker struct {
	t   *testing.T
	key ed25519.PrivateKey
	st  gossip.Statement
}

func newSpeaker(t *testing.T, name string) *speaker {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	key := ed25519.NewKeyFromSeed(seed)
	return &speaker{t, key, gossip.Statement{Node: name, Key: key.Public().(ed25519.PublicKey)}}
}

func (s *speaker) say(st statement) gossip.Statement {
	s.t.Helper()
	b, err := json.Marshal(st)
	if err != nil {
		s.t.Fatal(err)
	}
	s.st.Seq++
	s.st.Body = b
	return s.st
}

func (s *speaker) id() rollout.NodeID { return record.NodeID(s.st.ID()) }

// Nobody can speak under another node's id in lanes: the id follows from the
// key that signed, and a salt only ever makes another one.
func TestHeardTiesIDsToKeys(t *testing.T) {
	web, rogue := newSpeaker(t, "web"), newSpeaker(t, "rogue")
	h := newHeard()
	turns := map[string]rollout.State{"x": at(3)}
	h.listen([]gossip.Statement{web.say(statement{Turns: turns}), rogue.say(statement{Turns: turns, Salt: "0011"})}, rollout.NodeID{}, "self")
	p := h.peers([]gossip.Member{{Name: "web", State: gossip.Alive}})
	if !p.states["x"][web.id()].Equal(at(3)) || p.names[web.id()] != "web" {
		t.Errorf("web's word is not known under its id: %+v", p)
	}
	if _, ok := p.states["x"][rogue.id()]; ok || len(p.states["x"]) != 2 {
		t.Errorf("with a salt it is another node: %+v", p.states)
	}
	if p.down[web.id()] || !p.down[rollout.MakeID(rogue.id(), "0011")] {
		t.Errorf("who is no alive member is out of reach: %+v", p.down)
	}
}

// What others say wakes the loop when it can change a decision here, and not
// whenever somebody says something.
func TestHeardTellsWhatMatters(t *testing.T) {
	self := rollout.NodeID{7}
	web := newSpeaker(t, "web")
	failed, asks := at(3), at(3)
	failed.Failed, asks.Asks = version(3), self
	say := func(s rollout.State) statement { return statement{Turns: map[string]rollout.State{"x": s}} }
	for _, c := range []struct {
		name string
		busy bool
		say  statement
		want bool
	}{
		{name: "nothing is under way here", say: say(at(4))},
		{name: "a rollout is under way here", busy: true, say: say(at(4)), want: true},
		{name: "the same again", busy: true, say: say(at(3))},
		{name: "somebody failed", say: say(failed), want: true},
		{name: "somebody asks for this node's turn", say: say(asks), want: true},
		{name: "it left", say: statement{Left: true, Turns: map[string]rollout.State{"x": at(3)}}, want: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHeard()
			h.listen([]gossip.Statement{web.say(say(at(3)))}, self, "self")
			h.busy["x"] = c.busy
			if got := h.listen([]gossip.Statement{web.say(c.say)}, self, "self"); got != c.want {
				t.Errorf("matters: %t, want %t", got, c.want)
			}
		})
	}
	// Nonsense leaves what was said before; a node that is dropped is gone.
	h := newHeard()
	h.listen([]gossip.Statement{web.say(say(at(3)))}, self, "self")
	bad := web.say(statement{})
	bad.Body = []byte("{")
	h.listen([]gossip.Statement{bad}, self, "self")
	if p := h.peers(nil); !p.states["x"][web.id()].Equal(at(3)) {
		t.Errorf("nonsense erased what was known: %+v", p)
	}
	if !h.listen(nil, self, "self") || len(h.peers(nil).states) != 0 {
		t.Error("a node that was dropped is still listened to")
	}
}

func control(t *testing.T, key record.Key, body []byte, err error) record.Record {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return record.Record{Header: record.Header{Schema: record.Schema, Key: key, Generation: 4, Author: "alice"}, Body: body}
}

func TestSteer(t *testing.T) {
	a, b := rollout.NodeID{1}, rollout.NodeID{2}
	pause, err := record.EncodePause(record.Pause{Daemon: "x", Paused: true, Version: version(3)})
	on := control(t, record.PauseKey("x"), pause, err)
	resume, err := record.EncodePause(record.Pause{Daemon: "x", Version: version(3), Forgiven: []record.NodeID{a}})
	off := control(t, record.PauseKey("x"), resume, err)
	skip, err := record.EncodeSkip(record.Skip{Daemon: "x", Node: "web", ID: b, Version: version(3)})
	skipped := control(t, record.SkipKey("x", b), skip, err)
	forgotten := control(t, record.ForgetKey("old"), record.EncodeForget(record.Forget{Node: "old", ID: a.String()}), nil)
	of := func(rs ...record.Record) record.Entry { return record.Entry{Records: rs} }

	s := steer([]record.Entry{of(on)})
	if why := s.paused("x"); !strings.Contains(why, "alice") || !strings.Contains(why, "rollout resume x") || s.paused("y") != "" {
		t.Errorf("paused: %q", why)
	}
	// Of two words at the same moment, the one that lets nobody go counts.
	if why := steer([]record.Entry{of(off, on)}).paused("x"); !strings.Contains(why, "resumed") {
		t.Errorf("a fork of pause and resume: %q", why)
	}
	s = steer([]record.Entry{of(off), of(skipped), of(forgotten)})
	if s.paused("x") != "" || !s.forgiven("x", version(3))[a] || s.forgiven("x", version(4)) != nil {
		t.Errorf("resume forgives the failures of its version, and no others: %+v", s)
	}
	words := s.words("x", version(3), peers{})
	if words[b] == 0 || words[a] == 0 {
		t.Errorf("skip and forget are words: %v", words)
	}
	if w := s.words("x", version(4), peers{}); w[b] != 0 {
		t.Errorf("a skip is about the record that the operator saw and those before: %v", w)
	}
	if w := s.words("y", version(3), peers{}); w[b] != 0 || w[a] == 0 {
		t.Errorf("a skip is about one daemon, a forget about all: %v", w)
	}
	// A node that was forgotten and is here again under the same id counts.
	if w := s.words("x", version(3), peers{alive: map[rollout.NodeID]bool{a: true}}); w[a] != 0 {
		t.Errorf("a living node is forgotten: %v", w)
	}
}

// ringWith is a ring of nodes with a rollout of revision 2 in one lane.
func ringWith(t *testing.T, rows map[string]statementDaemon, turns map[string]rollout.State, names ...string) view {
	t.Helper()
	d := exporter()
	d.version, d.generation = version(5), 5
	d.spec.Update = spec.Update{Strategy: spec.StrategyRolling, OnFailure: spec.OnFailurePause, MaxFailures: 1}
	v := ringOf(d, rows)
	v.ids = map[string]rollout.NodeID{}
	var lane []rollout.NodeID
	for i, name := range names {
		v.ids[name] = rollout.NodeID{byte(i + 1)}
		lane = append(lane, v.ids[name])
		s := v.said[name]
		s.Turns = map[string]rollout.State{"exporter": turns[name]}
		v.said[name] = s
	}
	v.plans = map[string]rollout.Plan{"exporter": {Version: version(5), Digest: "new", Lanes: [][]rollout.NodeID{lane}, MaxFailures: 1, Fallback: version(3)}}
	return v
}

// What a rollout waits for decides the daemon's state: what comes by itself is
// rolling, what does not is degraded or paused.
func TestRolloutStates(t *testing.T) {
	g := rollout.Of(version(5))
	seen := rollout.State{Observed: g, Done: rollout.Of(version(3))}
	slot := seen
	slot.Slot = &rollout.Slot{Since: g, Target: g}
	broke := slot
	broke.Failed = version(5)
	vetoed := rollout.Version{Version: version(5), Vetoed: true}
	back := rollout.State{Observed: vetoed, Done: vetoed, Failed: version(5)}
	waits := func(code rollout.Code, on ...string) statementDaemon {
		return with(running("old"), func(d *statementDaemon) {
			d.State, d.Reason, d.Waits, d.WaitsFor = api.StateWaiting, "its turn comes after web-1", string(code), on
		})
	}
	starting := with(running("new"), func(d *statementDaemon) { d.State, d.Ready = api.StateStarting, false })
	for _, c := range []struct {
		name   string
		one    statementDaemon // web-1's row
		two    statementDaemon
		turns  map[string]rollout.State
		change func(*view)
		state  string
		says   string
	}{
		{name: "one changes, the other waits for it", one: starting, two: waits(rollout.WaitTurn, "web-1"),
			turns: map[string]rollout.State{"web-1": slot, "web-2": seen}, state: api.DaemonRolling, says: "web-1 starting"},
		{name: "the turn is on its way", one: running("new"), two: waits(rollout.WaitTurn, "web-1"),
			turns: map[string]rollout.State{"web-1": at(5), "web-2": seen}, state: api.DaemonRolling, says: "after web-1"},
		{name: "whom it waits for is dead", one: running("old"), two: waits(rollout.WaitTurn, "web-1"),
			turns:  map[string]rollout.State{"web-1": seen, "web-2": seen},
			change: func(v *view) { v.members[0].State = gossip.Failed }, state: api.DaemonDegraded, says: "after web-1"},
		{name: "it failed, and nobody follows", one: starting, two: waits(rollout.WaitFailures, "web-1"),
			turns: map[string]rollout.State{"web-1": broke, "web-2": seen}, state: api.DaemonPaused, says: "web-1 failed with revision 2; agentctl rollout resume exporter"},
		{name: "an operator paused it", one: running("new"), two: waits(rollout.WaitPaused),
			turns: map[string]rollout.State{"web-1": at(5), "web-2": seen},
			change: func(v *view) {
				v.steer.pauses = map[string]pauseWord{"exporter": {Pause: record.Pause{Daemon: "exporter", Paused: true}, by: "bob"}}
			}, state: api.DaemonPaused, says: "bob"},
		{name: "rolled back", one: running("old"), two: running("old"),
			turns: map[string]rollout.State{"web-1": back, "web-2": {Observed: vetoed, Done: vetoed}}, state: api.DaemonRolledBack, says: "web-1 failed with revision 2"},
		{name: "on its way back", one: starting, two: running("old"),
			turns: map[string]rollout.State{"web-1": {Observed: vetoed, Slot: slot.Slot, Failed: version(5)}, "web-2": {Observed: vetoed, Done: vetoed}},
			state: api.DaemonRolling, says: "going back"},
		{name: "on-delete", one: running("new"), two: waits(rollout.WaitTold),
			turns: map[string]rollout.State{"web-1": at(5), "web-2": seen}, state: api.DaemonOK, says: "1 of 2 wait for agentctl restart"},
		{name: "ready, and not for min_ready yet", one: running("new"), two: with(running("new"), func(d *statementDaemon) { d.Short = true }),
			turns: map[string]rollout.State{"web-1": at(5), "web-2": slot}, state: api.DaemonRolling, says: "web-2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := ringWith(t, map[string]statementDaemon{"web-1": c.one, "web-2": c.two}, c.turns, "web-1", "web-2")
			if c.change != nil {
				c.change(&v)
			}
			v.gather()
			got := v.daemon(v.daemons[0])
			if got.State != c.state || !strings.Contains(got.Reason, c.says) {
				t.Errorf("%s: %q, want %s with %q", got.State, got.Reason, c.state, c.says)
			}
		})
	}
}

// why follows whom a node waits for to the root.
//
// conformance: U2
func TestWhyFollowsTheChain(t *testing.T) {
	wait := func(on string) statementDaemon {
		return with(running("old"), func(d *statementDaemon) {
			d.State, d.Reason, d.Waits, d.WaitsFor = api.StateWaiting, "its turn comes after "+on, "turn", []string{on}
		})
	}
	pull := with(running("old"), func(d *statementDaemon) { d.State, d.Reason = api.StatePulling, "pull: no such image" })
	seen := rollout.State{Observed: rollout.Of(version(5))}
	v := ringWith(t, map[string]statementDaemon{"web-1": pull, "web-2": wait("web-1"), "web-3": wait("web-2")},
		map[string]rollout.State{"web-1": seen, "web-2": seen, "web-3": seen}, "web-1", "web-2", "web-3")
	v.gather()
	w, ok := v.why("exporter", "web-3")
	if !ok || len(w.Nodes) != 1 {
		t.Fatalf("%+v", w)
	}
	text := strings.Join(w.Nodes[0].Reasons, "\n")
	if !strings.Contains(text, "after web-2") || !strings.Contains(text, "web-1: pulling, pull: no such image") {
		t.Errorf("the chain does not end at its root:\n%s", text)
	}
}

func TestDueIsWhatTimeAloneChanges(t *testing.T) {
	g := rollout.Of(version(2))
	hold := rollout.State{Observed: g, Slot: &rollout.Slot{Since: g, Target: g}}
	p := rollout.Plan{Version: version(2), MinReady: 10 * time.Second, Deadline: time.Minute}
	for _, c := range []struct {
		name  string
		here  rollout.Here
		state rollout.State
		want  time.Duration
	}{
		{name: "ready, and not for long enough", here: rollout.Here{Ready: true, ReadyFor: 4 * time.Second, Tried: 5 * time.Second}, state: hold, want: 6 * time.Second},
		{name: "not ready: the deadline", here: rollout.Here{Tried: 50 * time.Second}, state: hold, want: 10 * time.Second},
		{name: "done", here: rollout.Here{Ready: true, ReadyFor: time.Hour}, state: at(2)},
		{name: "done, and back from a crash: available again", here: rollout.Here{Ready: true, ReadyFor: time.Second}, state: at(2), want: 9 * time.Second},
	} {
		if got := due(rollout.Input{Newest: p, Here: c.here}, rollout.Decision{State: c.state}); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A ring of thousands is listened to in milliseconds.
func BenchmarkHear(b *testing.B) {
	const nodes, daemons = 1000, 20
	turns := map[string]rollout.State{}
	for i := range daemons {
		turns["daemon-"+string(rune('a'+i))] = at(uint64(i + 1))
	}
	body, err := json.Marshal(statement{Turns: turns})
	if err != nil {
		b.Fatal(err)
	}
	all := make([]gossip.Statement, nodes)
	members := make([]gossip.Member, nodes)
	for i := range all {
		key := make([]byte, ed25519.PublicKeySize)
		key[0], key[1] = byte(i), byte(i>>8)
		all[i] = gossip.Statement{Node: "node-" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Key: key, Body: body, Seq: 1}
		members[i] = gossip.Member{Name: all[i].Node, State: gossip.Alive}
	}
	h := newHeard()
	h.listen(all, rollout.NodeID{}, "self")
	for b.Loop() {
		all[7].Seq++
		h.listen(all, rollout.NodeID{}, "self")
		h.peers(members)
	}
}
