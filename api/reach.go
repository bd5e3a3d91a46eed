package api

import "context"

// Reacher is the part of a Backend that tries the ways between nodes.
type Reacher interface {
	Reach(ctx context.Context) (Reach, error)
}

// Reach is the answer to GET /v1/reach: the ways between this node and others,
// tried just now, in both directions.
type Reach struct {
	Schema int         `json:"schema"`
	Node   string      `json:"node"`
	Peers  []ReachPeer `json:"peers"` // sorted by name; those that left are not in it
	// Untried counts peers beyond what is tried at once.
	Untried int `json:"untried"`
}

// ReachPeer is one other node.
type ReachPeer struct {
	Node    string `json:"node"`
	State   string `json:"state"` // as this node sees it
	Address string `json:"address"`
	// Out says why this node cannot reach the peer; "": it can.
	Out string `json:"out"`
	// Known: the peer told how this node looks from there. Sees is the state that
	// it has there, In why it cannot be reached from there, Skew by how many
	// seconds the peer's clock is ahead.
	Known bool    `json:"known"`
	Sees  string  `json:"sees"`
	In    string  `json:"in"`
	Skew  float64 `json:"skew"`
}

// Reach tries the ways between this node and others.
func (c *Client) Reach(ctx context.Context) (Reach, error) {
	return get[Reach](ctx, c, "/v1/reach", nil)
}
