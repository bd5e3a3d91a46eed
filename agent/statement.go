package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/gossip"
)

// Limits on what is believed of another node's statement, so that a rogue
// member can waste neither memory nor an operator's screen.
const (
	maxStatement     = gossip.MaxStatementBody // bytes
	maxStatementRows = 1024                    // daemons
	maxReason        = 1024                    // bytes of one reason
	maxReasons       = 16
	maxSalt          = 8 // bytes of a rollout id's salt
	maxPast          = 8 // salts of ids that left
)

// statement is what a node tells the ring about itself: the body of a signed
// gossip.Statement. Its JSON only ever grows; unknown fields are ignored, so
// that a newer node's word is understood by an older one.
type statement struct {
	Schema    int               `json:"schema"`
	At        time.Time         `json:"at"` // by the node's own clock
	Version   string            `json:"version"`
	Address   string            `json:"address"`
	Labels    map[string]string `json:"labels,omitempty"`
	Taints    []string          `json:"taints,omitempty"`
	Cordoned  bool              `json:"cordoned,omitempty"`
	Draining  bool              `json:"draining,omitempty"`
	Root      string            `json:"root"` // hash over all records held, hex
	Left      bool              `json:"left,omitempty"`
	Trouble   string            `json:"trouble,omitempty"` // why nothing is decided there now
	StartedAt time.Time         `json:"started_at"`
	Daemons   []statementDaemon `json:"daemons,omitempty"`
	// Turns is this node's part in rollouts, by daemon, under the id that it has
	// in lanes with that salt. It is never shortened.
	Turns map[string]rollout.State `json:"turns,omitempty"`
	Salt  string                   `json:"salt,omitempty"`
	// Past are the salts of ids under which it was here before it left.
	Past []string `json:"past,omitempty"`
}

// statementDaemon is one row of a statement.
type statementDaemon struct {
	Name        string     `json:"name"`
	Placed      bool       `json:"placed,omitempty"`
	State       string     `json:"state"`
	Reason      string     `json:"reason,omitempty"`
	Reasons     []string   `json:"reasons,omitempty"`
	Ready       bool       `json:"ready,omitempty"`
	Short       bool       `json:"short,omitempty"` // ready, and not for min_ready yet
	Waits       string     `json:"waits,omitempty"` // code of what the newest revision waits for here
	WaitsFor    []string   `json:"waits_for,omitempty"`
	Pulled      int64      `json:"pulled,omitempty"`
	PullTotal   int64      `json:"pull_total,omitempty"`
	Revision    int        `json:"revision,omitempty"`
	Generation  uint64     `json:"generation,omitempty"`
	Observed    uint64     `json:"observed,omitempty"` // newest generation held here, acted upon or not
	Digest      string     `json:"digest,omitempty"`
	ImageDigest string     `json:"image_digest,omitempty"`
	Container   string     `json:"container,omitempty"`
	PID         int        `json:"pid,omitempty"`
	Restarts    int        `json:"restarts,omitempty"`
	ExitCode    *int       `json:"exit_code,omitempty"`
	OOM         bool       `json:"oom,omitempty"`
	StartedAt   *time.Time `json:"started_at,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
	Next        *time.Time `json:"next,omitempty"` // when a back-off ends
}

// decodeStatement parses another node's word. It believes nothing that is
// beyond the limits.
func decodeStatement(b []byte) (statement, error) {
	if len(b) > maxStatement {
		return statement{}, fmt.Errorf("statement of %d bytes: limit is %d", len(b), maxStatement)
	}
	var s statement
	if err := json.Unmarshal(b, &s); err != nil {
		return statement{}, fmt.Errorf("decode statement: %w", err)
	}
	if len(s.Daemons) > maxStatementRows {
		return statement{}, fmt.Errorf("statement names %d daemons: limit is %d", len(s.Daemons), maxStatementRows)
	}
	if len(s.Turns) > maxStatementRows || len(s.Salt) > 2*maxSalt || len(s.Past) > maxPast {
		return statement{}, fmt.Errorf("statement tells of %d rollouts: limit is %d", len(s.Turns), maxStatementRows)
	}
	for i := range s.Daemons {
		d := &s.Daemons[i]
		d.WaitsFor = d.WaitsFor[:min(len(d.WaitsFor), maxReasons)]
		d.Reason = clip(d.Reason, maxReason)
		if len(d.Reasons) > maxReasons {
			d.Reasons = d.Reasons[:maxReasons]
		}
		for j := range d.Reasons {
			d.Reasons[j] = clip(d.Reasons[j], maxReason)
		}
	}
	return s, nil
}

// encode returns the statement's bytes. One that names more than fits gives up
// words before it gives up facts: the lesser reasons, then all of them.
func (s statement) encode() ([]byte, error) {
	b, err := json.Marshal(s)
	for _, shorten := range []func(*statementDaemon){
		func(d *statementDaemon) { d.Reasons = nil },
		func(d *statementDaemon) { d.Reason = clip(d.Reason, 40) },
		func(d *statementDaemon) { d.Reason, d.ImageDigest = "", "" },
	} {
		if err != nil || len(b) <= maxStatement {
			break
		}
		rows := slices.Clone(s.Daemons)
		for i := range rows {
			shorten(&rows[i])
		}
		s.Daemons = rows
		b, err = json.Marshal(s)
	}
	return b, err
}

// row returns what the statement says of a daemon.
func (s statement) row(name string) (statementDaemon, bool) {
	for _, d := range s.Daemons {
		if d.Name == name {
			return d, true
		}
	}
	return statementDaemon{}, false
}

// statementRow turns the supervisor's report into a row. The extra reason is
// the supervisor's own reason repeated only where it adds something. A report
// from before the supervisor was told what is wanted, as early after a boot, says
// nothing of the generation that is held.
func statementRow(r supervise.Report, observed uint64) statementDaemon {
	if !r.Told {
		observed = 0
	}
	return statementDaemon{
		Name: r.Name, Placed: r.Placed, State: r.State, Reason: clip(r.Reason, maxReason), Reasons: r.Reasons,
		Ready: r.Ready, Revision: r.Revision, Generation: r.Generation, Observed: observed,
		Digest: r.Digest, ImageDigest: r.ImageDigest, Container: r.Container, PID: r.PID,
		Restarts: r.Restarts, ExitCode: r.ExitCode, OOM: r.OOM, Pulled: rough(r.Pulled, r.PullTotal), PullTotal: r.PullTotal,
		StartedAt: timePtr(r.StartedAt), Since: timePtr(r.Since), Next: timePtr(r.Next),
	}
}

// rough rounds the bytes of a pull, since each change of a row is told to the
// whole ring.
func rough(n, total int64) int64 {
	step := max(1<<20, total/20)
	if n >= total {
		return n
	}
	return n / step * step
}

// node turns a row into what the socket's clients read.
func (d statementDaemon) node(name string, at time.Time) api.NodeDaemon {
	return api.NodeDaemon{
		Node: name, Placed: d.Placed, State: d.State, Reason: d.Reason, Ready: d.Ready,
		Revision: d.Revision, Generation: d.Generation, Digest: d.Digest, ImageDigest: d.ImageDigest,
		Container: d.Container, PID: d.PID, Restarts: d.Restarts, ExitCode: d.ExitCode, OOM: d.OOM,
		StartedAt: d.StartedAt, Since: d.Since, ReportedAt: timePtr(at),
	}
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
