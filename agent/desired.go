package agent

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/agent/supervise"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// ledger is what the decision needs of the store.
type ledger interface {
	// Allowed says whether the record may be acted upon: not below the join
	// token's floor, not older than what was accepted before.
	Allowed(record.Record) (bool, string)
	// Accepted is the newest version that was acted upon.
	Accepted(record.Key) record.Version
	// Ratchet persists a version as accepted, before it is acted upon.
	Ratchet(record.Key, record.Version) error
	// Find returns a record held here, current or superseded.
	Find(record.Key, record.Digest) (record.Record, bool)
}

// decided is one entry of the record set with what follows from it here.
type decided struct {
	view daemonView // of the greatest record
	// taken is the newest record that this node may act upon, nil when there is
	// none, and held says why it is not the greatest.
	taken *daemonView
	held  string
	plan  rollout.Plan      // taken's
	want  supervise.Desired // taken's, before anybody's turn is asked for
}

// decide says what this node shall do about one entry. Nothing is acted upon
// that was not persisted as accepted first; whatever can't be taken (a
// conflict, a newer schema, an older version, a full disk) leaves the last
// accepted revision as the wanted one, so that a crash or a reboot in the
// middle of trouble still brings the daemon back.
func decide(e record.Entry, l ledger) decided {
	r := e.Winner()
	v, err := understand(r)
	v.conflict = conflictOf(e)
	if err != nil {
		v.problem = err.Error()
	}
	refuse := v.conflict
	if refuse == "" {
		refuse = v.problem
	}
	if refuse == "" {
		if ok, reason := l.Allowed(r); !ok {
			v.problem, refuse = reason, reason
		}
	}
	if refuse == "" {
		if err := l.Ratchet(r.Key, r.Version()); err != nil {
			v.problem = fmt.Sprintf("generation %d is not acted upon: %v", r.Generation, err)
			refuse = v.problem
		}
	}
	if refuse == "" {
		return decided{view: v, taken: &v, want: desire(v)}
	}
	// The last accepted one stays wanted.
	if prev, ok := accepted(e, l); ok {
		return decided{view: v, taken: &prev, held: refuse, want: desire(prev)}
	}
	w := supervise.Desired{Daemon: spec.Daemon{Name: r.Key.Name}, Generation: r.Generation, Hold: refuse}
	if err == nil && !v.deleted {
		w = desire(v)
		w.Hold = refuse
	}
	return decided{view: v, held: refuse, want: w}
}

// accepted finds the body of the version that this node acted upon last.
func accepted(e record.Entry, l ledger) (daemonView, bool) {
	was := l.Accepted(e.Winner().Key)
	if was == (record.Version{}) {
		return daemonView{}, false
	}
	r, ok := l.Find(e.Winner().Key, was.Digest)
	if !ok {
		return daemonView{}, false
	}
	v, err := understand(r)
	return v, err == nil
}

func desire(v daemonView) supervise.Desired {
	if v.deleted {
		return supervise.Desired{Daemon: spec.Daemon{Name: v.name}, Generation: v.generation, Delete: true}
	}
	return supervise.Desired{Daemon: v.spec, Digest: v.digest, Generation: v.generation, Revision: v.revision}
}

// understand reads a verified record's body.
func understand(r record.Record) (daemonView, error) {
	v := daemonView{
		name: r.Key.Name, generation: r.Generation, author: r.Author, created: r.Created, deleted: r.Delete,
		version: r.Version(),
	}
	if r.Schema > record.Schema {
		return v, fmt.Errorf("generation %d was written by a newer agentctl (schema %d); upgrade agentd on this node", r.Generation, r.Schema)
	}
	if r.Delete {
		return v, nil
	}
	body, err := record.DecodeDaemon(r.Body)
	if err != nil {
		return v, fmt.Errorf("generation %d can't be read here: %w", r.Generation, err)
	}
	d, err := spec.Decode(body.Spec)
	if errors.Is(err, spec.ErrNewer) {
		return v, fmt.Errorf("generation %d uses keys that this agentd does not know; upgrade agentd on this node: %w", r.Generation, err)
	}
	if err != nil {
		return v, fmt.Errorf("generation %d can't be read here: %w", r.Generation, err)
	}
	if d.Name != r.Key.Name {
		return v, fmt.Errorf("generation %d names itself %q in its body", r.Generation, d.Name)
	}
	v.spec, v.digest, v.revision, v.rollout = d, d.Digest(), body.Revision, body.Rollout
	v.varies = len(d.Overrides) > 0 || bytes.Contains(body.Spec, []byte("{{"))
	return v, nil
}

// conflictOf says who wrote what, and what ends it.
func conflictOf(e record.Entry) string {
	c := e.Conflict()
	if c == "" {
		return ""
	}
	return "conflict: " + c + "; nothing changes on any node until somebody applies again"
}
