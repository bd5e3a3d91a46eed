package api

import "time"

// States of a node in a rollout.
const (
	TurnDone     = "done"     // runs the newest, or has no need to
	TurnUpdating = "updating" // holds a turn
	TurnFailed   = "failed"   // held a turn and missed its deadline, or rebooted
	TurnWaiting  = "waiting"  // its turn has not come
	TurnLate     = "late"     // not in the roster; waits for a lent turn
	TurnSkipped  = "skipped"  // an operator said that it is down
	TurnUnknown  = "unknown"  // nothing is known of it here
)

// Rollout is where the ring stands on its way to a daemon's newest record: the
// answer to GET /v1/rollouts/{name}.
type Rollout struct {
	Schema     int    `json:"schema"`
	Daemon     string `json:"daemon"`
	Generation uint64 `json:"generation"`
	Record     string `json:"record"` // the record's digest, hex
	Revision   int    `json:"revision"`
	State      string `json:"state"` // as in the daemon's status
	Reason     string `json:"reason"`
	Strategy   string `json:"strategy"`
	First      bool   `json:"first"` // nothing ran before: no turns
	// MaxUnavailable is the number of nodes that may be down for it at once.
	MaxUnavailable int    `json:"max_unavailable"`
	Paused         bool   `json:"paused"`
	PausedReason   string `json:"paused_reason"` // by whom, or by which failures
	// RolledBack: the record was vetoed by failures; nodes return to Fallback.
	RolledBack bool `json:"rolled_back"`
	// Finished: every node of the lanes is itself done with it. The next record
	// may deal lanes anew.
	Finished           bool          `json:"finished"`
	FallbackGeneration uint64        `json:"fallback_generation"`
	FallbackRevision   int           `json:"fallback_revision"`
	Total              int           `json:"total"`    // nodes of the lanes and late ones
	Done               int           `json:"done"`     // of them
	Updating           int           `json:"updating"` // hold a turn, failed ones included
	Failures           []string      `json:"failures"` // names of nodes that failed it
	Threshold          int           `json:"threshold"`
	Lanes              int           `json:"lanes"`
	Nodes              []RolloutNode `json:"nodes"` // in the order of turns, late ones last
}

// RolloutNode is one node's part.
type RolloutNode struct {
	Node   string `json:"node"` // its name; the id's first digits when nobody knows it
	ID     string `json:"id"`
	Lane   int    `json:"lane"` // from 1; 0: in none, it was not there at the apply
	Place  int    `json:"place"`
	Canary bool   `json:"canary"`
	State  string `json:"state"`
	Member string `json:"member"` // alive, suspect, failed, left; "" unknown
	Reason string `json:"reason"`
	// WaitsFor are the nodes that it waits for, by name.
	WaitsFor  []string   `json:"waits_for"`
	LentTo    string     `json:"lent_to"`
	Failed    bool       `json:"failed"`
	Ready     bool       `json:"ready"`
	Revision  int        `json:"revision"` // that runs there
	Since     *time.Time `json:"since"`
	Pulled    int64      `json:"pulled"` // bytes of the image that it pulls now
	PullTotal int64      `json:"pull_total"`
}
