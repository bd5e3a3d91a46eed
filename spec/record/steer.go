package record

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const (
	pausePrefix = "pause."
	skipPrefix  = "skip."
	// maxForgiven is how many failures one record can forgive: 36 KiB of the
	// body's 64. A rollout stops long before as many nodes failed.
	maxForgiven = 1024
)

// Pause is the body of control/pause.DAEMON: an operator's word that a rollout
// stops, or goes on. Both are generations of one key, so that the last word
// holds; a pause outlasts later generations of the daemon.
type Pause struct {
	Daemon string
	Paused bool
	// Version is the daemon's record that the operator saw.
	Version Version
	// Forgiven are nodes that failed with Version and no longer count, sorted. A
	// node that fails with a later version counts again.
	Forgiven []NodeID
}

// Skip is the body of control/skip.DAEMON.ID: an operator's word that a node
// is down, so that a rollout goes on without it. It holds for Version and those
// before; the node, when it comes back, is late.
type Skip struct {
	Daemon  string
	Node    string // its name, for display
	ID      NodeID // who is skipped; another machine under the name is not
	Version Version
}

// PauseKey returns the key under which a daemon is paused and resumed. A name
// that does not fit into a record's name is hashed; the body tells it in full.
func PauseKey(daemon string) Key { return controlKey(pausePrefix, daemon, daemon) }

// SkipKey returns the key under which a node, by its id in lanes, is skipped by
// the rollouts of a daemon; hashed as that of PauseKey. A machine that came back
// under another id has a word of its own.
func SkipKey(daemon string, id NodeID) Key {
	name := daemon + "." + id.String()
	if strings.Contains(daemon, ".") {
		name = "" // no daemon, and no name in the clear
	}
	return controlKey(skipPrefix, name, daemon+"/"+id.String())
}

type pauseJSON struct {
	Schema   int      `json:"schema"`
	Daemon   string   `json:"daemon"`
	Paused   bool     `json:"paused"`
	Version           // generation, digest
	Forgiven []NodeID `json:"forgiven,omitempty"`
}

type skipJSON struct {
	Schema  int    `json:"schema"`
	Daemon  string `json:"daemon"`
	Node    string `json:"node"`
	ID      NodeID `json:"id"`
	Version        // generation, digest
}

// EncodePause returns the body of a pause record, with Forgiven sorted and each
// node once. Errors match ErrMalformed.
func EncodePause(p Pause) ([]byte, error) {
	p.Forgiven = slices.Compact(slices.SortedFunc(slices.Values(p.Forgiven), compareID))
	if err := checkPause(p); err != nil {
		return nil, err
	}
	b, err := json.Marshal(pauseJSON{controlSchema, p.Daemon, p.Paused, p.Version, p.Forgiven})
	if err != nil {
		return nil, fmt.Errorf("encode pause: %w", err)
	}
	return b, nil
}

// DecodePause is the inverse of EncodePause. Errors match ErrMalformed, or
// ErrNewer when a newer agentd wrote the body.
func DecodePause(b []byte) (Pause, error) {
	fields, err := decodeBody(b, controlSchema, "schema", "daemon", "paused", "generation", "digest", "forgiven")
	if err != nil {
		return Pause{}, err
	}
	var p Pause
	if p.Daemon, err = textField(fields, "daemon", MaxName); err != nil {
		return Pause{}, err
	}
	if p.Paused, err = boolField(fields, "paused"); err != nil {
		return Pause{}, err
	}
	if p.Version, err = versionOf(fields); err != nil {
		return Pause{}, err
	}
	if raw, ok := fields["forgiven"]; ok {
		if isNull(raw) || json.Unmarshal(raw, &p.Forgiven) != nil || len(p.Forgiven) == 0 {
			return Pause{}, fmt.Errorf("%w: %q is no list of node ids", ErrMalformed, "forgiven")
		}
	}
	if err := checkPause(p); err != nil {
		return Pause{}, err
	}
	return p, nil
}

func checkPause(p Pause) error {
	switch {
	case !validName(p.Daemon):
		return fmt.Errorf("%w: pause: %.80q is not the name of a daemon", ErrMalformed, p.Daemon)
	case len(p.Forgiven) > maxForgiven:
		return fmt.Errorf("%w: pause: %d failures are forgiven, at most %d", ErrMalformed, len(p.Forgiven), maxForgiven)
	}
	for i, n := range p.Forgiven {
		if i > 0 && compareID(p.Forgiven[i-1], n) >= 0 {
			return fmt.Errorf("%w: pause: the forgiven nodes are not sorted, each once", ErrMalformed)
		}
	}
	return checkSeen(p.Version)
}

// EncodeSkip returns the body of a skip record. Errors match ErrMalformed.
func EncodeSkip(s Skip) ([]byte, error) {
	if err := checkSkip(s); err != nil {
		return nil, err
	}
	b, err := json.Marshal(skipJSON{controlSchema, s.Daemon, s.Node, s.ID, s.Version})
	if err != nil {
		return nil, fmt.Errorf("encode skip: %w", err)
	}
	return b, nil
}

// DecodeSkip is the inverse of EncodeSkip. Errors match ErrMalformed, or
// ErrNewer when a newer agentd wrote the body.
func DecodeSkip(b []byte) (Skip, error) {
	fields, err := decodeBody(b, controlSchema, "schema", "daemon", "node", "id", "generation", "digest")
	if err != nil {
		return Skip{}, err
	}
	var s Skip
	if s.Daemon, err = textField(fields, "daemon", MaxName); err != nil {
		return Skip{}, err
	}
	if s.Node, err = textField(fields, "node", maxNodeName); err != nil {
		return Skip{}, err
	}
	id, err := textField(fields, "id", 2*len(s.ID))
	if err != nil {
		return Skip{}, err
	}
	if err := unhex(s.ID[:], id, "id"); err != nil {
		return Skip{}, err
	}
	if s.Version, err = versionOf(fields); err != nil {
		return Skip{}, err
	}
	if err := checkSkip(s); err != nil {
		return Skip{}, err
	}
	return s, nil
}

func checkSkip(s Skip) error {
	switch {
	case !validName(s.Daemon):
		return fmt.Errorf("%w: skip: %.80q is not the name of a daemon", ErrMalformed, s.Daemon)
	case s.Node == "" || len(s.Node) > maxNodeName || !printable(s.Node):
		return fmt.Errorf("%w: skip: %.80q is not the name of a node", ErrMalformed, s.Node)
	case s.ID == NodeID{}:
		return fmt.Errorf("%w: skip: no node id", ErrMalformed)
	}
	return checkSeen(s.Version)
}

// checkSeen checks the version of a record that exists.
func checkSeen(v Version) error {
	if v.Generation == 0 || v.Generation > MaxGeneration || v.Digest.IsZero() {
		return fmt.Errorf("%w: %s is no version of a daemon", ErrMalformed, v)
	}
	return nil
}

// versionOf reads the keys generation and digest.
func versionOf(fields map[string]json.RawMessage) (Version, error) {
	var v Version
	if err := numberField(fields, "generation", MaxGeneration, &v.Generation); err != nil {
		return Version{}, err
	}
	text, err := textField(fields, "digest", 2*len(v.Digest))
	if err != nil {
		return Version{}, err
	}
	return v, unhex(v.Digest[:], text, "digest")
}

func boolField(fields map[string]json.RawMessage, key string) (bool, error) {
	raw, ok := fields[key]
	var v bool
	if !ok || isNull(raw) || json.Unmarshal(raw, &v) != nil {
		return false, fmt.Errorf("%w: %q is neither true nor false", ErrMalformed, key)
	}
	return v, nil
}
