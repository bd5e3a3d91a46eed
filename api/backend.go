package api

import (
	"context"
	"io"
	"time"
)

// Backend is what agentd answers the socket with. The Server has checked the
// caller's rights, the method, the limits and the syntax of kind and name
// before it calls; each ctx carries a deadline, but for streams. A *Problem is sent as it is,
// any other error as status 500 with its text. Methods are called
// concurrently.
type Backend interface {
	Reloader
	Reacher
	Rollouts
	Status(ctx context.Context, q StatusQuery) (Status, error)
	Nodes(ctx context.Context) (Nodes, error)
	// Why explains one daemon, on one node when node is not "".
	Why(ctx context.Context, name, node string) (Why, error)
	// Records lists the records of one kind, or of all kinds when kind is "".
	Records(ctx context.Context, kind string) (Records, error)
	// Record returns one record: a *Problem with status 404 when there is none.
	Record(ctx context.Context, kind, name string) (Record, error)
	// PutRecord verifies, admits, stores and announces a signed envelope, and
	// waits for the nodes that have it on disk. The Backend checks that the
	// record is of this kind and name.
	PutRecord(ctx context.Context, kind, name string, envelope []byte) (Accepted, error)
	Roster(ctx context.Context) (Roster, error)
	// Leave stops this node's daemons, tells the ring and returns when both are
	// done. What could not be done is in the report, not in the error.
	Leave(ctx context.Context) (LeaveReport, error)
	// Rejoin takes a node that left back into its ring; addrs are tried
	// besides the addresses that it knows.
	Rejoin(ctx context.Context, addrs []string) error
	Info(ctx context.Context) (Info, error)
	// Health returns nil when the agent does its work.
	Health(ctx context.Context) error
	// Metrics writes the metrics in the Prometheus text format, version 0.0.4.
	Metrics(w io.Writer)

	// What concerns the containers of this node. A daemon that has none here is
	// a *Problem with status 404, one that can't be used now with status 409.
	// Logs, Exec and Events have no deadline: ctx ends when the caller goes or
	// agentd stops. An error of emit is returned as it is.

	// Logs emits the lines of a daemon's containers, oldest first.
	Logs(ctx context.Context, q LogQuery, emit func(LogLine) error) error
	// Exec runs a command in a daemon's container and returns its exit code
	// after all of its output was written. It kills the command when ctx ends.
	Exec(ctx context.Context, name string, req ExecRequest, streams ExecStreams) (code int, err error)
	// Restart stops the daemon's container and has it started again.
	Restart(ctx context.Context, name string) error
	// Events emits what happened here since then, oldest first, and with follow
	// what happens.
	Events(ctx context.Context, since time.Time, follow bool, emit func(Event) error) error
	Top(ctx context.Context) (Top, error)
	Volumes(ctx context.Context) (Volumes, error)
	// PruneVolumes removes the named volumes that no daemon uses, or all such
	// when names is empty.
	PruneVolumes(ctx context.Context, names []string) (Pruned, error)
}

// StatusQuery selects what GET /v1/status answers.
type StatusQuery struct {
	Names []string // only these daemons; empty: all
	Node  string   // only this node's part; "": all nodes
	All   bool     // excluded nodes and deleted daemons too
}

// Roster is the answer to GET /v1/roster: what a signer of a record needs to
// know about the ring.
type Roster struct {
	Schema   int          `json:"schema"`
	Ring     string       `json:"ring"` // ring id, hex
	RingName string       `json:"ring_name"`
	Self     string       `json:"self"`
	Nodes    []RosterNode `json:"nodes"` // sorted by name; left ones are not in it
	// Floor is the version of every record held here, by "kind/name"; a join
	// token carries it.
	Floor map[string]FloorVersion `json:"floor"`
}

// RosterNode is one node of a Roster.
type RosterNode struct {
	Name    string            `json:"name"`
	ID      string            `json:"id"`      // 32 hex digits; "" while it is not known
	State   string            `json:"state"`   // alive | suspect | failed
	Healthy bool              `json:"healthy"` // alive, and all of its daemons are ready
	Address string            `json:"address"` // HOST:PORT of gossip
	Labels  map[string]string `json:"labels"`  // those that it has by itself too
	Taints  []string          `json:"taints"`
	// Cordoned and Draining: nothing new is started there, or all is stopped.
	Cordoned bool `json:"cordoned"`
	Draining bool `json:"draining"`
}

// FloorVersion is a record's place in the order of its key.
type FloorVersion struct {
	Generation uint64 `json:"generation"`
	Digest     string `json:"digest"` // 64 hex digits
}

// Info is the answer to GET /v1/info: who answers.
type Info struct {
	Schema    int       `json:"schema"`
	Version   string    `json:"version"`
	Commit    string    `json:"commit"`
	Go        string    `json:"go"`
	Node      string    `json:"node"`
	NodeID    string    `json:"node_id"`
	RingName  string    `json:"ring_name"`
	Ring      string    `json:"ring"` // ring id, hex
	Left      bool      `json:"left"` // this node left the ring
	StartedAt time.Time `json:"started_at"`
	PID       int       `json:"pid"`
}

// LeaveReport is the answer to POST /v1/leave.
type LeaveReport struct {
	Schema    int      `json:"schema"`
	Node      string   `json:"node"`
	Stopped   []string `json:"stopped"`   // daemons that ran here and do no more
	Failed    []string `json:"failed"`    // daemons that could not be stopped, with the reason
	Announced bool     `json:"announced"` // the ring was told; false when nobody could be reached
	Warnings  []string `json:"warnings"`
}

// RejoinRequest is the body of POST /v1/rejoin.
type RejoinRequest struct {
	Addresses []string `json:"addresses"`
}
