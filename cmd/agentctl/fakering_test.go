package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// fakeRing is an agentd without a ring and without containers: it verifies,
// admits and merges records as a real one does, and tells of nodes what the
// scenario says.
type fakeRing struct {
	mu      sync.Mutex
	cfg     *config.Loaded
	ring    config.RingKey
	trust   *record.Trust
	set     *record.Set
	now     func() time.Time
	left    bool
	joined  []string           // addresses of the last rejoin
	meddler *record.PrivateKey // another operator, for meddle
	looks   int                // calls of Top
	s       fakeScenario
}

// fakeScenario is what a test script says of the ring, as JSON.
type fakeScenario struct {
	Nodes   []fakeNode           `json:"nodes"`
	States  map[string]fakeState `json:"states"`  // "daemon/node"; others run and are ready
	Daemons map[string]fakeWhole `json:"daemons"` // what the whole daemon is said to be
	Notes   []string             `json:"notes"`
	OnDisk  *int                 `json:"on_disk"` // nodes that have a record on disk
	Refuse  string               `json:"refuse"`  // a name whose PUT fails with a full disk
	Meddle  string               `json:"meddle"`  // a name that somebody else changes before each PUT
	Unread  bool                 `json:"unread"`  // this node is behind: nodes hold other records
	Failed  []string             `json:"failed"`  // of the leave report
	Alone   bool                 `json:"alone"`   // nobody could be told of the leave
	Local   fakeLocal            `json:"local"`
	// Rollouts by daemon; Mute: agentd is too old to tell of them.
	Rollouts map[string]fakeRoll `json:"rollouts"`
	Mute     bool                `json:"mute"`
}

type fakeNode struct {
	Name   string            `json:"name"`
	State  string            `json:"state"`
	Labels map[string]string `json:"labels"`
	Taints []string          `json:"taints"`
	Seen   string            `json:"seen"` // how long ago
	Runs   string            `json:"runs"` // its version; 0.1.0 unless it says so
}

type fakeState struct {
	State    string   `json:"state"`
	Reason   string   `json:"reason"`
	Reasons  []string `json:"reasons"`
	Ready    bool     `json:"ready"`
	Revision int      `json:"revision"`
	Restarts int      `json:"restarts"`
	Since    string   `json:"since"`
	Exit     *int     `json:"exit"`
	OOM      bool     `json:"oom"`

	Rendered []api.RenderedValue `json:"rendered"`
}

type fakeWhole struct {
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Conflict string `json:"conflict"`
	Applied  string `json:"applied"` // how long ago
}

func newFakeRing(cfg *config.Loaded) (*fakeRing, error) {
	key, err := config.ReadRingKey(cfg.Ring.KeyFile)
	if err != nil {
		return nil, err
	}
	keys, err := config.ReadTrustDir(cfg.Trust.Dir)
	if err != nil {
		return nil, err
	}
	f := &fakeRing{cfg: cfg, ring: key, trust: record.NewTrust(keys...), set: record.NewSet(), now: time.Now}
	f.s.Nodes = []fakeNode{{Name: cfg.Node.Name, State: "alive"}}
	return f, nil
}

// play changes the scenario.
func (f *fakeRing) play(s fakeScenario) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(s.Nodes) == 0 {
		s.Nodes = f.s.Nodes
	}
	f.s = s
}

func (f *fakeRing) ago(text string) *time.Time {
	d, err := time.ParseDuration(text)
	if err != nil {
		return nil
	}
	t := f.now().Add(-d).UTC()
	return &t
}

func fakeID(name string) record.NodeID {
	sum := sha256.Sum256([]byte(name))
	return record.NodeID(sum[:16])
}

// daemon is one daemon of the set.
type fakeDaemon struct {
	rec     record.Record // the winner
	entry   record.Entry
	body    record.DaemonBody
	spec    spec.Daemon
	deleted bool
}

func (f *fakeRing) daemon(name string) (fakeDaemon, bool) {
	entry := f.set.Entry(record.Key{Kind: record.KindDaemon, Name: name})
	cur, err := currentOf(entry)
	if err != nil || cur.spec == nil {
		return fakeDaemon{}, false
	}
	return fakeDaemon{entry.Winner(), entry, *cur.body, *cur.spec, cur.deleted}, true
}

func (f *fakeRing) root() string {
	root := f.set.Root()
	return hex.EncodeToString(root[:])[:7]
}

func (f *fakeRing) daemonStatus(d fakeDaemon, node string) api.DaemonStatus {
	s := api.DaemonStatus{Name: d.rec.Key.Name, Revision: d.body.Revision, Generation: d.rec.Generation, Digest: d.spec.Digest(),
		Image: d.spec.Image, State: api.DaemonOK, AppliedAt: d.rec.Created, AppliedBy: d.rec.Author, Nodes: []api.NodeDaemon{}}
	if d.deleted {
		s.State = api.DaemonDeleted
	}
	for _, n := range f.s.Nodes {
		row, listed := f.nodeDaemon(d, n)
		if !listed {
			continue
		}
		if node != "" {
			row.Rendered = f.s.States[s.Name+"/"+n.Name].Rendered
		}
		if row.Placed {
			s.Desired++
			if row.Container != "" {
				s.Current++
			}
			if row.Container != "" && row.Digest == s.Digest {
				s.Updated++
			}
			if row.Ready {
				s.Ready++
				s.Available++
			}
		}
		if node == "" || node == n.Name {
			s.Nodes = append(s.Nodes, row)
		}
	}
	if !d.deleted && s.Ready < s.Desired {
		s.State = api.DaemonDegraded
	}
	if w, ok := f.s.Daemons[s.Name]; ok {
		s.Conflict, s.Reason = w.Conflict, w.Reason
		if w.State != "" {
			s.State = w.State
		}
		if t := f.ago(w.Applied); t != nil {
			s.AppliedAt = *t
		}
	}
	return s
}

func (f *fakeRing) nodeDaemon(d fakeDaemon, n fakeNode) (api.NodeDaemon, bool) {
	if n.State == "left" || d.deleted {
		return api.NodeDaemon{}, false
	}
	row := api.NodeDaemon{Node: n.Name, State: api.StateRunning, Ready: true, Revision: d.body.Revision, Generation: d.rec.Generation,
		Digest: d.spec.Digest(), Container: d.rec.Key.Name, PID: 4242, Since: f.ago("2m30s"), StartedAt: f.ago("2m30s")}
	said, labels, _ := f.said(n)
	var why string
	row.Placed, why = d.spec.Selects(spec.Node{Name: n.Name, Labels: labels})
	if said.Draining && n.State != "failed" {
		row.Placed, why = false, "the node is drained"
	}
	if !row.Placed {
		return api.NodeDaemon{Node: n.Name, State: api.StateExcluded, Reason: why}, true
	}
	if n.State == "failed" {
		row.State, row.Ready, row.Reason = api.StateUnknown, false, "not reachable for 2m"
	}
	s, ok := f.s.States[d.rec.Key.Name+"/"+n.Name]
	if !ok {
		return row, true
	}
	row.State, row.Reason, row.Ready, row.Restarts, row.ExitCode, row.OOM = s.State, s.Reason, s.Ready, s.Restarts, s.Exit, s.OOM
	if s.Revision != 0 && s.Revision != row.Revision {
		row.Revision, row.Digest = s.Revision, f.digestOf(d.rec.Key.Name, s.Revision)
	}
	if s.Since != "" {
		row.Since = f.ago(s.Since)
	}
	if slices.Contains([]string{api.StateWaiting, api.StatePulling, api.StateBlocked}, s.State) && s.Revision == 0 {
		row.Container, row.PID, row.Digest, row.Revision = "", 0, "", 0
	}
	return row, true
}

// digestOf is that of an older revision.
func (f *fakeRing) digestOf(name string, revision int) string {
	for _, r := range f.set.History(name) {
		if cur, err := currentOf(record.EntryOf(r)); err == nil && cur.body != nil && cur.body.Revision == revision {
			return cur.spec.Digest()
		}
	}
	return "an older one"
}

func (f *fakeRing) members() []api.Node {
	var list []api.Node
	for i, n := range f.s.Nodes {
		said, labels, taints := f.said(n)
		an := api.Node{Name: n.Name, ID: fakeID(n.Name).String(), State: n.State, Address: fmt.Sprintf("10.0.0.%d:7946", i+1),
			Version: cmp.Or(n.Runs, "0.1.0"), Labels: labels, Taints: orEmpty(taints), Cordoned: said.Cordoned, Draining: said.Draining,
			SpecDigest: f.root(), LastSeen: f.ago(n.Seen)}
		for _, key := range f.set.Keys(record.KindDaemon) {
			if d, ok := f.daemon(key.Name); ok {
				if row, listed := f.nodeDaemon(d, n); listed && row.Placed {
					an.DaemonsPlaced++
					if row.Ready {
						an.DaemonsReady++
					}
				}
			}
		}
		list = append(list, an)
	}
	return list
}
