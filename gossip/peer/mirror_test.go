package peer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/agentd/agentd/gossip"
)

func TestMirror(t *testing.T) {
	var asked Peer
	a := start(t, "a")
	b := startNode(t, nodeConfig{name: "b", tune: func(s *Server) {
		s.cfg.Mirror = func(ctx context.Context, p Peer) Mirror {
			asked = p
			if left, ok := ctx.Deadline(); !ok || time.Until(left) > mirrorTimeout {
				t.Error("reaching back has no deadline of its own")
			}
			return Mirror{Sees: gossip.Suspect, Back: "no\x1b[2J way", Version: "a lie"}
		}
	}})
	got, err := a.client.Mirror(testContext(t), b.member())
	if err != nil {
		t.Fatal(err)
	}
	// Who asks, the handshake tells.
	if asked.Name != "a" || asked.ID != a.id.ID {
		t.Errorf("asked by %+v", asked)
	}
	if got.Sees != gossip.Suspect || got.Back != "no?[2J way" || got.Version != "1.2.3" || time.Since(got.At).Abs() > time.Minute {
		t.Errorf("%+v", got)
	}
	// An agentd that does not know the question.
	if _, err := b.client.Mirror(testContext(t), a.member()); !errors.Is(err, ErrNotFound) {
		t.Errorf("an older one: %v", err)
	}
	b.stop()
	if _, err := a.client.Mirror(testContext(t), b.member()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("one that is away: %v", err)
	}
}
