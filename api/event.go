package api

import "time"

// Types of events.
const (
	EventState   = "state"   // a daemon's state here changed: From, To
	EventExit    = "exit"    // a container ended: ExitCode, OOM
	EventPull    = "pull"    // an image was pulled, or could not be
	EventProbe   = "probe"   // a probe began to fail, or to succeed
	EventHook    = "hook"    // a hook failed
	EventApply   = "apply"   // the ring has a new generation of the daemon
	EventNode    = "node"    // this node: labels, taints, cordon, drain, leave
	EventMember  = "member"  // another node of the ring: From, To
	EventAgent   = "agent"   // agentd started or stops
	EventRollout = "rollout" // this node's part in a rollout: its turn came, it is done, it failed
	EventLost    = "lost"    // events that could not be kept
)

// Event is something that happened on this node, one document of the answer to
// GET /v1/events.
type Event struct {
	// Seq grows by one with each event of this node, over restarts too.
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	Node   string    `json:"node"`             // where it happened, or that it is about
	Daemon string    `json:"daemon,omitempty"` // "" when it is about no daemon
	Type   string    `json:"type"`
	Reason string    `json:"reason"` // in words
	From   string    `json:"from,omitempty"`
	To     string    `json:"to,omitempty"`

	Revision int  `json:"revision,omitempty"`
	ExitCode *int `json:"exit_code,omitempty"`
	OOM      bool `json:"oom,omitempty"`
}
