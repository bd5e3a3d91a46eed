// Package api is the contract of agentd's local socket: the types that travel
// over it, a client and a server frame. It is a leaf: it imports nothing of
// agentd, so that anything may import it.
//
// JSON only ever grows; times are RFC 3339 UTC; every document carries
// "schema": 1.
package api

import "time"

// Schema is the version of the JSON documents.
const Schema = 1

// Status is the answer to GET /v1/status.
type Status struct {
	Schema  int            `json:"schema"`
	Ring    RingStatus     `json:"ring"`
	Daemons []DaemonStatus `json:"daemons"`
}

// RingStatus tells of the ring as this node sees it.
type RingStatus struct {
	Name       string     `json:"name"`
	Self       string     `json:"self"`
	Nodes      NodeCounts `json:"nodes"`
	SpecDigest string     `json:"spec_digest"` // short hash over all records held here
	InSync     bool       `json:"in_sync"`     // every alive node holds the same records
	Holding    int        `json:"holding"`     // alive nodes that hold the same records as this one
	Left       bool       `json:"left"`        // this node left the ring
	Notes      []string   `json:"notes"`       // what an operator should know, in words
}

// NodeCounts counts members by state; suspect counts as alive.
type NodeCounts struct {
	Alive  int `json:"alive"`
	Failed int `json:"failed"`
	Left   int `json:"left"`
}

// Daemon states.
const (
	DaemonOK         = "ok"
	DaemonRolling    = "rolling"
	DaemonDegraded   = "degraded"
	DaemonPaused     = "paused"
	DaemonFailed     = "failed"
	DaemonRolledBack = "rolled-back"
	DaemonDeleting   = "deleting"
	DaemonDeleted    = "deleted" // only listed with all=1
)

// Node states of a daemon.
const (
	StateExcluded  = "excluded"
	StateWaiting   = "waiting"
	StatePulling   = "pulling"
	StateStarting  = "starting"
	StateRunning   = "running"
	StateUnhealthy = "unhealthy"
	StateBackoff   = "backoff"
	StateCompleted = "completed"
	StateStopping  = "stopping"
	StateStopped   = "stopped"
	StateBlocked   = "blocked"
	StateUnknown   = "unknown"
)

// DaemonStatus is one daemon across the ring.
type DaemonStatus struct {
	Name       string       `json:"name"`
	Revision   int          `json:"revision"`
	Generation uint64       `json:"generation"`
	Digest     string       `json:"digest"` // of the running part
	Image      string       `json:"image"`
	Desired    int          `json:"desired"`
	Current    int          `json:"current"`
	Ready      int          `json:"ready"`
	Updated    int          `json:"updated"`
	Available  int          `json:"available"`
	Misplaced  int          `json:"misplaced"`
	State      string       `json:"state"`
	Reason     string       `json:"reason"`
	Paused     bool         `json:"paused"`
	Conflict   string       `json:"conflict,omitempty"` // who wrote what, when two operators did at once
	AppliedAt  time.Time    `json:"applied_at"`
	AppliedBy  string       `json:"applied_by"`
	Nodes      []NodeDaemon `json:"nodes"` // sorted by node
}

// NodeDaemon is one daemon on one node.
type NodeDaemon struct {
	Node        string     `json:"node"`
	Placed      bool       `json:"placed"`
	State       string     `json:"state"`
	Reason      string     `json:"reason"`
	Ready       bool       `json:"ready"`
	Revision    int        `json:"revision"`
	Generation  uint64     `json:"generation"`
	Digest      string     `json:"digest"`
	ImageDigest string     `json:"image_digest"`
	Container   string     `json:"container"`
	PID         int        `json:"pid"`
	Restarts    int        `json:"restarts"`
	ExitCode    *int       `json:"exit_code"` // of the last exit; null before the first
	OOM         bool       `json:"oom"`
	StartedAt   *time.Time `json:"started_at"`
	Since       *time.Time `json:"since"` // of the state
	// ReportedAt is when the node said so, by its own clock.
	ReportedAt *time.Time `json:"reported_at"`
	// Rendered are the values that are this node's own, by an override or a
	// template, in the order of a daemon's file. They are told when one node was
	// asked for.
	Rendered []RenderedValue `json:"rendered,omitempty"`
}

// RenderedValue is one value of a daemon as one node has it.
type RenderedValue struct {
	Path  string `json:"path"`  // of the key: "env.LOG_LEVEL"
	Value string `json:"value"` // as the node uses it; long ones by length and hash
	From  string `json:"from"`  // "override 2", "template", or both
}

// Nodes is the answer to GET /v1/nodes.
type Nodes struct {
	Schema int    `json:"schema"`
	Nodes  []Node `json:"nodes"` // sorted by name
}

// Node is one member of the ring.
type Node struct {
	Name          string            `json:"name"`
	ID            string            `json:"id"`
	State         string            `json:"state"` // alive | suspect | failed | left
	Address       string            `json:"address"`
	Version       string            `json:"version"`
	Labels        map[string]string `json:"labels"`
	Taints        []string          `json:"taints"`
	Cordoned      bool              `json:"cordoned"`
	Draining      bool              `json:"draining"`
	SpecDigest    string            `json:"spec_digest"`
	DaemonsReady  int               `json:"daemons_ready"`
	DaemonsPlaced int               `json:"daemons_placed"`
	LastSeen      *time.Time        `json:"last_seen"`
}

// Why is the answer to GET /v1/why/{name}: every reason, per node.
type Why struct {
	Schema int       `json:"schema"`
	Daemon string    `json:"daemon"`
	State  string    `json:"state"`
	Reason string    `json:"reason"`
	Nodes  []WhyNode `json:"nodes"`
}

// WhyNode explains one node.
type WhyNode struct {
	Node    string   `json:"node"`
	Placed  bool     `json:"placed"`
	State   string   `json:"state"`
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"` // most decisive first
}

// Record is a signed record as GET and PUT /v1/records carry it.
type Record struct {
	Schema     int       `json:"schema"`
	Kind       string    `json:"kind"`
	Name       string    `json:"name"`
	Generation uint64    `json:"generation"`
	Digest     string    `json:"digest"`
	Author     string    `json:"author"`
	Created    time.Time `json:"created"`
	Delete     bool      `json:"delete"`
	Signers    []string  `json:"signers"`
	Envelope   []byte    `json:"envelope"`              // DSSE JSON
	Fork       []byte    `json:"fork,omitempty"`        // the other record of the same generation
	ForkAuthor string    `json:"fork_author,omitempty"` //
	// Past are the envelopes of earlier generations that are held, newest
	// first: whoever signs the next record names those that nobody had seen,
	// which settles the conflict. Only GET /v1/records/{kind}/{name} has them.
	Past [][]byte `json:"past,omitempty"`
}

// Records is the answer to GET /v1/records and GET /v1/records/{kind}.
type Records struct {
	Schema  int      `json:"schema"`
	Ring    string   `json:"ring"` // ring id, hex
	Records []Record `json:"records"`
}

// Accepted is the answer to PUT /v1/records/{kind}/{name}.
type Accepted struct {
	Schema     int      `json:"schema"`
	Changed    bool     `json:"changed"` // false: this very record was held already
	Generation uint64   `json:"generation"`
	Digest     string   `json:"digest"`
	OnDisk     int      `json:"on_disk"` // nodes that have it on disk
	Wanted     int      `json:"wanted"`  // min(3, alive)
	Warnings   []string `json:"warnings"`
}

// Problem is an RFC 9457 problem document with a hint.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// Error makes a Problem usable as an error.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}
