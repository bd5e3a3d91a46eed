package api

import (
	"context"
	"time"
)

// Rollouts is the part of a Backend that tells of rollouts. A daemon that the
// ring never had is a *Problem with status 404.
type Rollouts interface {
	// Rollout tells where the ring stands on its way to a daemon's newest record
	// that is not a delete.
	Rollout(ctx context.Context, name string) (Rollout, error)
	// History lists what the ring ran of a daemon, newest first, as far as this
	// node holds it.
	History(ctx context.Context, name string) (History, error)
}

// Kinds of waits that callers tell apart; see RolloutNode.Waits.
const (
	WaitsLate   = "late"   // for a lent turn; nobody can lend it one when WaitsFor is empty
	WaitsTold   = "told"   // for an operator's restart, as the strategy is on-delete
	WaitsClosed = "closed" // for the node to be opened: cordoned, tainted
)

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

// Signed words that a node is down; see RolloutNode.Word.
const (
	WordSkipped   = "skipped"   // by an operator, for this daemon
	WordForgotten = "forgotten" // by an operator, for good
	WordLeft      = "left"      // by the node itself
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
	// AppliedAt and AppliedBy are of the record.
	AppliedAt time.Time `json:"applied_at"`
	AppliedBy string    `json:"applied_by"`
	// Deleted: a delete came after the record; there is nothing to wait for.
	Deleted bool `json:"deleted"`
	First   bool `json:"first"` // nothing ran before: no turns
	// MaxUnavailable is the number of nodes that may be down for it at once.
	MaxUnavailable int    `json:"max_unavailable"`
	Paused         bool   `json:"paused"`
	PausedReason   string `json:"paused_reason"` // by whom, or by which failures
	// PausedBy is the operator who paused it; "" when failures did, or nobody.
	PausedBy string `json:"paused_by"`
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
	Forgiven           []string      `json:"forgiven"` // those of them that an operator forgave
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
	// Word is whose signed word says that it is down, so that the others go on
	// without it: WordSkipped, WordForgotten or WordLeft; "" nobody's.
	Word   string `json:"word"`
	Reason string `json:"reason"`
	// Waits is the kind of its wait: turn, past, canary, paused, failures, held,
	// death, closed (cordoned or tainted), lent, late, told (on-delete), …; ""
	// when it waits for nothing.
	Waits string `json:"waits"`
	// WaitsFor are the nodes that it waits for, by name.
	WaitsFor  []string   `json:"waits_for"`
	LentTo    string     `json:"lent_to"`
	Failed    bool       `json:"failed"`
	Ready     bool       `json:"ready"`
	Phase     string     `json:"phase"`    // the daemon's state on the node, as in the status
	Revision  int        `json:"revision"` // that runs there
	Since     *time.Time `json:"since"`
	Pulled    int64      `json:"pulled"` // bytes of the image that it pulls now
	PullTotal int64      `json:"pull_total"`
}

// Outcomes of a revision.
const (
	OutcomeUnderWay   = "under-way"   // nodes are going on to it
	OutcomePaused     = "paused"      // by an operator
	OutcomeFailed     = "failed"      // too many nodes failed, and it stopped
	OutcomeFinished   = "finished"    // every node went on to it
	OutcomeRolledBack = "rolled-back" // failures took it back
	OutcomeSuperseded = "superseded"  // a newer one came before it was finished
	OutcomeDeleted    = "deleted"     // the record is a delete
)

// History is the answer to GET /v1/history/{name}.
type History struct {
	Schema    int        `json:"schema"`
	Daemon    string     `json:"daemon"`
	Revisions []Revision `json:"revisions"` // newest first; at most one record of each, and deletes
}

// Revision is one record of a daemon's history.
type Revision struct {
	Revision   int       `json:"revision"` // of a delete: of what it deleted
	Generation uint64    `json:"generation"`
	Record     string    `json:"record"` // the record's digest, hex
	Author     string    `json:"author"`
	Signers    []Signer  `json:"signers"`
	Created    time.Time `json:"created"`
	Delete     bool      `json:"delete"`
	Current    bool      `json:"current"` // what the ring is to run now
	Digest     string    `json:"digest"`  // of the running part; "" for a delete
	Image      string    `json:"image"`
	// Outcome is what became of it; "" when that is not known here any more.
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"` // more words on it: which nodes failed
	// Spec is the daemon as spec.Encode wrote it, so that it can be signed
	// anew; null for a delete.
	Spec []byte `json:"spec"`
}

// Signer is an operator key that signed a record.
type Signer struct {
	ID   string `json:"id"`
	Name string `json:"name"` // the key's comment; "" when this node does not trust it
}
