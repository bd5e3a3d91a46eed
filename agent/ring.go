package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/gossip/peer"
	"github.com/agentd/agentd/spec/record"
)

// greetTimeout is how long a start waits for its seeds to answer.
const greetTimeout = 2 * time.Second

// openRing makes this node's identity and everything that speaks to others.
func (a *Agent) openRing() (err error) {
	path := filepath.Join(a.cfg.Node.DataDir, "node.key")
	_, err = os.Stat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	if a.identity, err = peer.LoadOrCreateIdentity(path, a.cfg.Node.Name); err != nil {
		return err
	}
	if err := a.openSelf(isNew, bootID()); err != nil {
		return err
	}
	if a.authority, err = a.openAuthority(); err != nil {
		return err
	}
	a.server, err = peer.NewServer(peer.ServerConfig{
		Bind: a.cfg.Peer.Bind, Identity: a.identity, Authority: a.authority, Bindings: a.bindings,
		Source: a.store, Book: a.book, Version: a.version, Log: a.log, Mirror: a.mirror,
	})
	if err != nil {
		return err
	}
	a.client, err = peer.NewClient(peer.ClientConfig{Identity: a.identity, Authority: a.authority, Bindings: a.bindings})
	if err != nil {
		return err
	}
	c := a.ringConfig()
	c.Exchanger = a.client
	a.ring, err = gossip.New(c)
	return err
}

// openSelf reads what this node remembers of itself and of others. isNew says
// that its key was made just now: a node that was here before and has lost what
// it knew of its turns must not be mistaken for one that never had any.
func (a *Agent) openSelf(isNew bool, machine string) (err error) {
	dir := a.cfg.Node.DataDir
	count, rebooted, old, err := nextBoot(dir, machine)
	if err != nil {
		a.note("this start could not be written down: %v", err)
	}
	// Only a machine that was off can have missed what its ring decided while
	// nothing ran here.
	a.fed.Store(!rebooted)
	a.openTurns(isNew || count.Count > 1 && !old, rebooted)
	a.bindings, err = peer.OpenBindings(peer.BindingsConfig{
		Path: filepath.Join(dir, "bindings"), Self: a.identity, Log: a.log,
	})
	if err != nil {
		return err
	}
	if a.forgotten, err = readForgotten(dir); err != nil {
		return err
	}
	a.book = gossip.NewBook(gossip.BookConfig{
		Name: a.cfg.Node.Name, Key: a.identity.Key, Boot: count.Count, Log: a.log,
		Allow: func(node string, key ed25519.PublicKey) bool {
			return a.bindings.Check(node, gossip.MakeNodeID(node, key)) == nil
		},
	})
	return nil
}

// ringConfig is what the ring is made of, but for whom it asks.
func (a *Agent) ringConfig() gossip.Config {
	dir := a.cfg.Node.DataDir
	peers := readPeers(dir)
	a.hadPeers = len(peers) > 0
	return gossip.Config{
		Name: a.cfg.Node.Name, ID: a.identity.ID, Label: a.ringKey.ID.String(), Keys: a.ringKey.Keys,
		Bind: a.cfg.Ring.Bind, Advertise: a.cfg.Ring.Advertise,
		// Without an address of its own it is the gossip address with this port.
		PeerAddr: cmp.Or(a.cfg.Peer.Advertise, a.cfg.Peer.Bind),
		Version:  a.version, Seeds: a.cfg.Ring.Join, Peers: peers, Left: a.left.Load(),
		SavePeers: func(p []string) {
			if err := writePeers(dir, p); err != nil {
				a.log.Warn("known peers not saved", "err", err)
			}
		},
		Source: a.store, Book: a.book, Log: a.log,
		Admit: func(m gossip.Member) error { return a.bindings.CheckAt(m.Name, m.ID, m.PeerAddr) },
	}
}

func (a *Agent) openAuthority() (*peer.Authority, error) {
	r := a.cfg.Ring
	if r.CertFile != "" {
		return peer.LoadAuthority(r.CertFile, r.PeerKeyFile, r.CAFile)
	}
	return peer.DeriveAuthority(a.ringKey.Keys, a.ringKey.ID.String())
}

// greet asks the seeds who they are before anything starts. A new node under a
// name that is taken, or with another ring's key, stops here and says so. A node
// that was in its ring before goes on whatever the seeds say, since its daemons
// must run and one lying member must not keep a machine from booting them.
func (a *Agent) greet(ctx context.Context) error {
	if a.left.Load() || len(a.cfg.Ring.Join) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	var (
		mu      sync.Mutex
		wg      sync.WaitGroup
		known   int // seeds that know our ring key
		foreign []error
		taken   error
	)
	for _, seed := range a.cfg.Ring.Join {
		wg.Go(func() {
			_, err := a.client.Hello(ctx, nextPort(seed))
			mu.Lock()
			defer mu.Unlock()
			var conflict *peer.NameConflict
			switch {
			case err == nil:
				known++
			case errors.As(err, &conflict) && conflict.By != "": // they refuse us
				taken = err
			case errors.Is(err, peer.ErrRingKey):
				foreign = append(foreign, err)
			}
		})
	}
	wg.Wait()
	if taken != nil && !a.hadPeers {
		return taken
	}
	err := errors.Join(append(foreign, taken)...)
	if err == nil {
		return nil
	}
	if len(foreign) > 0 && known == 0 && !a.hadPeers {
		return &hintError{
			fmt.Errorf("no seed accepts this node's ring key: %w", err),
			"copy the ring with `agentctl token` on a node of it and `agentctl join TOKEN` here, or mend [ring] join",
		}
	}
	a.note("%v", err)
	return nil
}

// nextPort turns a seed's HOST:PORT of gossip into the address that its
// node-to-node requests are served at by default: the next port.
func nextPort(seed string) string {
	host, port, err := net.SplitHostPort(seed)
	n, errPort := strconv.Atoi(port)
	if err != nil || errPort != nil {
		return seed
	}
	return net.JoinHostPort(host, strconv.Itoa(n+1))
}

// tell says in a signed statement what this node holds and runs.
func (a *Agent) tell() {
	a.telling.Lock()
	defer a.telling.Unlock()
	rows := a.super.Reports()
	a.mu.Lock()
	me := a.self
	a.mu.Unlock()
	s := statement{
		Schema: 1, At: time.Now().UTC(), Version: a.version, Address: a.ring.Self().Addr,
		Labels: me.node.Labels, Taints: me.taints, Cordoned: me.cordoned, Draining: me.draining, Root: a.store.Root().String(), Left: a.left.Load() && !holds(rows), Trouble: clip(a.super.Trouble(), maxReason), StartedAt: a.started.UTC(),
	}
	observed := map[string]uint64{}
	a.mu.Lock()
	for _, v := range a.view {
		observed[v.name] = v.generation
	}
	a.mu.Unlock()
	who, turns := a.turns.words()
	s.Turns, s.Salt, s.Past = turns, who.Salt, who.Past
	for _, r := range rows {
		row := statementRow(r, observed[r.Name])
		row.Short, row.Waits, row.WaitsFor = a.turns.say(r)
		s.Daemons = append(s.Daemons, row)
	}
	at := s.At
	s.At = time.Time{} // the time alone is no news
	plain, err := s.encode()
	if err == nil && bytes.Equal(plain, a.told) {
		return
	}
	s.At = at
	b, err := s.encode()
	if err != nil {
		a.log.Error("statement not made", "err", err)
		return
	}
	if err := a.book.Set(b); err != nil {
		a.log.Error("statement not made", "err", err)
		return
	}
	a.told = plain
}

// holds reports whether any container is there. A node has left when all are
// gone: others count it as done with everything from then on.
func holds(rows []supervise.Report) bool {
	return slices.ContainsFunc(rows, func(r supervise.Report) bool { return r.Container != "" || r.Alive })
}

// applyForgets follows what operators said about departed nodes: a forgotten
// name is free for another key, and its member leaves the lists. Each word is
// followed once, also over restarts, so that it does not hit the machine that
// comes after.
func (a *Agent) applyForgets() {
	for _, e := range a.store.List(record.KindControl) {
		r := e.Winner()
		if r.Delete {
			continue
		}
		f, err := record.DecodeForget(r.Body)
		if err != nil || record.ForgetKey(f.Node) != r.Key || f.Node == a.cfg.Node.Name || a.forgotten[f.Node] == r.Digest.String() {
			continue
		}
		a.forgotten[f.Node] = r.Digest.String()
		if err := writeForgotten(a.cfg.Node.DataDir, a.forgotten); err != nil {
			a.log.Warn("node not forgotten", "node", f.Node, "err", err)
			delete(a.forgotten, f.Node)
			continue
		}
		a.forget(f)
		a.log.Info("node forgotten", "node", f.Node, "author", r.Author)
	}
}

// forget drops what is known of a node, unless another machine has the name now.
func (a *Agent) forget(f record.Forget) {
	id, bound := a.bindings.Lookup(f.Node)
	if f.ID != "" && bound && id.String() != f.ID && a.turns.idOf(f.Node).String() != f.ID {
		return
	}
	if bound {
		a.bindings.Forget(f.Node, id)
	}
	a.ring.Forget(f.Node)
	a.book.Forget(f.Node)
}

// snapshot gathers what a status is made of.
func (a *Agent) snapshot() view {
	v := view{
		ring: a.cfg.Ring.Name, self: a.cfg.Node.Name, left: a.left.Load(), root: a.store.Root().String(),
		now: time.Now(), members: a.ring.Members(), said: map[string]statement{},
		ids: map[string]rollout.NodeID{}, revisions: map[revisionKey]int{},
	}
	for _, s := range a.book.All() {
		said, err := decodeStatement(s.Body)
		if err != nil {
			continue // a node that talks nonsense is shown as one that said nothing
		}
		v.said[s.Node] = said
		v.ids[s.Node] = record.NodeID(gossip.MakeNodeID(s.Node, s.Key))
	}
	v.plans, v.steer = a.turns.known(), a.steering()
	v.gather()
	a.mu.Lock()
	v.daemons = slices.Clone(a.view)
	notes := slices.Clone(a.notes)
	a.mu.Unlock()
	for _, d := range v.daemons {
		if fb, ok := fallbackOf(d, a.store); ok {
			v.revisions[revisionKey{d.name, fb.version.Digest}] = fb.revision
		}
	}
	slices.SortFunc(v.daemons, func(x, y daemonView) int { return strings.Compare(x.name, y.name) })
	v.notes = slices.Concat(notes, a.reloadNotes(), a.store.Problems(), a.ring.Notes())
	if a.store.Trust().Empty() {
		v.notes = append(v.notes, fmt.Sprintf("no operator is trusted: put a public key into %s and reload agentd; until then every new record is refused", a.cfg.Trust.Dir))
	}
	if trouble := a.super.Trouble(); trouble != "" {
		v.notes = append(v.notes, trouble)
	}
	for _, m := range v.members {
		if said := v.said[m.Name]; m.Name != v.self && m.State == gossip.Alive && said.Trouble != "" {
			v.notes = append(v.notes, m.Name+": "+said.Trouble)
		}
	}
	for _, err := range []error{a.bindings.Problem(), a.authority.Problem()} {
		if err != nil {
			v.notes = append(v.notes, err.Error())
		}
	}
	for _, c := range a.bindings.Conflicts() {
		v.notes = append(v.notes, c.Error())
	}
	for _, r := range a.store.Refused() {
		v.notes = append(v.notes, fmt.Sprintf("a peer holds a record (%s) that is refused here: %s", r.Digest.Short(), r.Reason))
	}
	return v
}

// isolatedSince says since when this node reaches no other one, though there
// are others; zero when it does, or never had any. After a boot without a ring
// only the addresses of earlier runs tell that there are others. Pure.
func isolatedSince(was, now time.Time, self string, members []gossip.Member, others bool) time.Time {
	for _, m := range members {
		switch {
		case m.Name == self || m.State == gossip.Left:
		case m.State == gossip.Failed:
			others = true
		default:
			return time.Time{}
		}
	}
	switch {
	case !others:
		return time.Time{}
	case was.IsZero():
		return now
	}
	return was
}
