package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/agentd/agentd/gossip"
)

// Mirror is how one node looks from another.
type Mirror struct {
	// At is the other node's clock when it answered.
	At time.Time `json:"at"`
	// Sees is the state that the asking node has there; "" when it is not known.
	Sees gossip.MemberState `json:"sees,omitempty"`
	// Back says why the asking node could not be reached from there, at the
	// addresses that the ring knows of it; "": it could.
	Back    string `json:"back,omitempty"`
	Version string `json:"version"`
}

// mirrorTimeout bounds reaching back, in the node that was asked.
const mirrorTimeout = 5 * time.Second

// mirror tells the caller how it looks from here. Where it is called back is for
// ServerConfig.Mirror to know, and not for the caller to say.
func (s *Server) mirror(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Mirror == nil {
		refuse(w, problem{Code: codeNotFound})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), mirrorTimeout)
	defer cancel()
	m := s.cfg.Mirror(ctx, connOf(r.Context()).peer)
	m.At, m.Version = time.Now().UTC(), clean(s.cfg.Version, maxVersion)
	m.Back = clean(m.Back, 512)
	b, err := json.Marshal(m)
	if err != nil {
		refuse(w, problem{Code: codeMalformed})
		return
	}
	answer(w, typeJSON, b)
}

// Mirror asks a node how this one looks from there; ErrNotFound when its agentd
// is too old to tell.
func (c *Client) Mirror(ctx context.Context, m gossip.Member) (Mirror, error) {
	b, err := c.call(ctx, m, request{method: http.MethodGet, path: pathMirror, limit: 4 << 10})
	if err != nil {
		return Mirror{}, err
	}
	var out Mirror
	if err := json.Unmarshal(b, &out); err != nil {
		return Mirror{}, c.named(m, fmt.Errorf("%w: mirror: %w", ErrProtocol, err))
	}
	out.Back, out.Version = clean(out.Back, 512), clean(out.Version, maxVersion)
	out.Sees = gossip.MemberState(clean(string(out.Sees), 16))
	return out, nil
}
