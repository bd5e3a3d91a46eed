package gossip

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// hooks is what one memberlist instance calls. It calls under its own locks and
// from several goroutines, out of order: every method copies, notes and returns.
// An instance that was shut down may still call for a while (its suspicion
// timers live on); closed makes that harmless.
type hooks struct {
	r      *Ring
	meta   []byte
	closed atomic.Bool
}

var (
	_ memberlist.Delegate         = (*hooks)(nil)
	_ memberlist.EventDelegate    = (*hooks)(nil)
	_ memberlist.PingDelegate     = (*hooks)(nil)
	_ memberlist.AliveDelegate    = (*hooks)(nil)
	_ memberlist.ConflictDelegate = (*hooks)(nil)
)

var errClosed = errors.New("membership was shut down")

// NodeMeta is static: changing it would cost a broadcast to the whole ring.
func (h *hooks) NodeMeta(int) []byte { return h.meta }

// NotifyMsg takes a hint or a root that somebody sent.
func (h *hooks) NotifyMsg(b []byte) {
	if h.closed.Load() || len(b) == 0 {
		return
	}
	switch b[0] {
	case msgHint:
		if m, err := decodeHint(b); err == nil {
			h.r.fetch.add(m)
		}
	case msgRoot:
		if s, err := decodeSummary(b[1:]); err == nil {
			h.r.compare(s.Name, s.Root)
		}
	}
}

// GetBroadcasts hands out hints.
func (h *hooks) GetBroadcasts(overhead, limit int) [][]byte {
	return h.r.hints.GetBroadcasts(overhead, limit)
}

// LocalState carries the summary only, never the set: pushing whole states is
// what broke Docker's NetworkDB at 20 MB (moby#52661).
func (h *hooks) LocalState(bool) []byte {
	return encodeSummary(summary{Root: *h.r.root.Load(), Name: h.r.cfg.Name})
}

func (h *hooks) MergeRemoteState(b []byte, _ bool) {
	if s, err := decodeSummary(b); err == nil && !h.closed.Load() {
		h.r.compare(s.Name, s.Root)
	}
}

// AckPayload puts the root into every answer to a probe: the comparison that
// repairs whatever hints missed.
func (h *hooks) AckPayload() []byte {
	return encodeSummary(summary{Root: *h.r.root.Load()})
}

func (h *hooks) NotifyPingComplete(n *memberlist.Node, _ time.Duration, payload []byte) {
	if h.closed.Load() {
		return
	}
	if m, err := memberOf(n); err == nil {
		h.r.view.refute(m.Name, m.ID, true)
	}
	if s, err := decodeSummary(payload); err == nil {
		h.r.compare(n.Name, s.Root)
	}
}

func (h *hooks) NotifyJoin(n *memberlist.Node) {
	m, err := memberOf(n)
	if err != nil || m.Name == h.r.cfg.Name || h.closed.Load() {
		return
	}
	was := h.r.view.set(m)
	if was != Alive && was != Suspect {
		h.r.say(func() { h.r.log.Info("member joined", "node", m.Name, "addr", m.Addr, "id", m.ID) })
	}
	wake(h.r.joined)
	wake(h.r.talk.met)
}

func (h *hooks) NotifyUpdate(n *memberlist.Node) {
	if m, err := memberOf(n); err == nil && m.Name != h.r.cfg.Name && !h.closed.Load() {
		h.r.view.set(m)
	}
}

// NotifyLeave hears of deaths and of leaves, which memberlist does not tell
// apart here (it keeps the state in a field that it does not hand out). A node
// that leaves says so in its own signed statement first: to all of a small ring in
// person; in a large one the word may still be on its way, so ask for it.
func (h *hooks) NotifyLeave(n *memberlist.Node) {
	r := h.r
	if h.closed.Load() || n.Name == r.cfg.Name {
		return
	}
	m, ok := r.view.get(n.Name)
	if !ok {
		return
	}
	if int(r.view.present.Load()) > farewells+1 && !r.cfg.Book.left(m.ID) {
		r.view.doubted(m.Name)
		wake(r.talk.ask)
		return
	}
	if m, ok = r.view.gone(n.Name, Failed); ok {
		r.departed(m)
	}
}

// departed logs that a member failed, or left.
func (r *Ring) departed(m Member) {
	r.say(func() {
		if r.settle(m).State == Left {
			r.log.Info("member left", "node", m.Name, "addr", m.Addr)
			return
		}
		r.log.Warn("member failed", "node", m.Name, "addr", m.Addr, "last_seen", m.LastSeen)
	})
}

// NotifyAlive may refuse a node before memberlist takes it for a member.
func (h *hooks) NotifyAlive(n *memberlist.Node) error {
	if h.closed.Load() {
		return errClosed
	}
	m, err := memberOf(n)
	if err != nil {
		return err
	}
	if err := h.r.admit(m); err != nil {
		return err
	}
	if m.Name != h.r.cfg.Name {
		h.r.view.refute(m.Name, m.ID, false)
	}
	return nil
}

// NotifyConflict hears of one name at two addresses.
func (h *hooks) NotifyConflict(existing, other *memberlist.Node) {
	a, errA := memberOf(existing)
	b, errB := memberOf(other)
	if errA != nil || errB != nil || h.closed.Load() {
		return
	}
	if a.ID == b.ID {
		h.r.note("moved", b.Name+b.Addr, fmt.Sprintf("node %s is alive at %s and announced at %s, too: the same key runs twice, or the machine changed its address less than 30 s ago", b.Name, a.Addr, b.Addr))
		return
	}
	h.r.note("conflict", b.Name+b.ID.String(), fmt.Sprintf("two nodes use the name %s: %s at %s (kept) and %s at %s (refused); rename one, or `agentctl forget %s` if the machine was set up anew", b.Name, a.ID, a.Addr, b.ID, b.Addr, b.Name))
}

// admit asks whether a node may be a member.
func (r *Ring) admit(m Member) error {
	if m.Name == r.cfg.Name {
		// At our own address it is what this place was before it got a new key:
		// memberlist must hear it, to outbid it.
		if m.ID == r.cfg.ID || m.Addr == r.Self().Addr {
			return nil
		}
		r.note("conflict", m.Name+m.ID.String(), fmt.Sprintf("another node uses this node's name %s: %s at %s; rename one of them, or `agentctl forget %s` if this machine was set up anew", m.Name, m.ID, m.Addr, m.Name))
		return fmt.Errorf("node id %s is not ours (%s)", m.ID, r.cfg.ID)
	}
	if r.cfg.Admit == nil {
		return nil
	}
	key := m.Name + "/" + m.ID.String()
	r.mu.Lock()
	known := r.admitted[key]
	r.mu.Unlock()
	if known {
		return nil
	}
	if err := r.cfg.Admit(m); err != nil {
		if r.view.displaced(m) {
			r.say(func() { r.log.Warn("member failed: another node took its place", "node", m.Name, "addr", m.Addr) })
		}
		r.note("refused", key, fmt.Sprintf("node %s at %s is refused: %v", m.Name, m.Addr, err))
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.admitted) >= maxStatements {
		clear(r.admitted)
	}
	r.admitted[key] = true
	return nil
}
