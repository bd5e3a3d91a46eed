package record

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

const (
	daemonSchema = 1

	// MaxInlineNodes is how many nodes the lanes of a daemon record name
	// themselves; more are named by a blob. 256 of them take 9 KiB of the body.
	MaxInlineNodes = 256
	// MaxLaneNodes is how many nodes fit into a blob of lanes: each takes 35
	// bytes of MaxBlob.
	MaxLaneNodes = 29_000

	maxCanaries = MaxInlineNodes
	maxRevision = 1 << 40
)

// NodeID names a node for good: a hash of its name and its own public key. It
// is gossip's NodeID.
type NodeID [16]byte

// String returns the id in hex.
func (n NodeID) String() string { return hex.EncodeToString(n[:]) }

// MarshalText and UnmarshalText carry ids through JSON as hex.
func (n NodeID) MarshalText() ([]byte, error)     { return []byte(n.String()), nil }
func (n *NodeID) UnmarshalText(text []byte) error { return unhex(n[:], string(text), "node id") }

// DaemonBody is the body of a daemon record.
type DaemonBody struct {
	Spec     []byte // as spec.Encode made it; opaque here
	Revision int    // counts the generations whose running part differs from the one before
	Rollout  Rollout
}

// Rollout is what a daemon record freezes about the way in which nodes go on to
// it. It is signed with the rest, so that no two nodes can see it differently.
type Rollout struct {
	// First: nothing of the daemon ran before, so that there are no turns and
	// every node starts at once. The lanes are there for the next record.
	First bool `json:"first,omitempty"`
	// K is the largest number of nodes that may be down for the update; at
	// least 1. There are at most K lanes.
	K int `json:"k"`
	// Lanes are ordered lists of nodes; one node of each lane at a time. Empty
	// when they are in a blob.
	Lanes [][]NodeID `json:"lanes,omitempty"`
	// LanesBlob is the name of the blob with the lanes, above MaxInlineNodes.
	LanesBlob string `json:"lanes_blob,omitempty"`
	// Canaries go before all others, sorted. They are members of lanes.
	Canaries []NodeID `json:"canaries,omitempty"`
	// Fallback is the last generation whose rollout finished; zero for none. It
	// is what a rollback goes to, and its body is kept.
	Fallback Version `json:"fallback,omitzero"`
}

// EncodeDaemon returns the record body: one line of JSON, then the spec as it
// is. The spec is not wrapped once more, since its size counts against MaxBody.
// Errors match ErrMalformed or ErrTooLarge.
func EncodeDaemon(d DaemonBody) ([]byte, error) {
	if err := checkDaemon(d); err != nil {
		return nil, err
	}
	head, err := json.Marshal(struct {
		Schema   int     `json:"schema"`
		Revision int     `json:"revision"`
		Rollout  Rollout `json:"rollout"`
	}{daemonSchema, d.Revision, d.Rollout})
	if err != nil {
		return nil, fmt.Errorf("encode daemon body: %w", err)
	}
	b := append(append(head, '\n'), d.Spec...)
	if len(b) > MaxBody {
		return nil, fmt.Errorf("%w: a daemon of %d bytes, of which the rollout takes %d; %d are allowed", ErrTooLarge, len(b), len(head), MaxBody)
	}
	return b, nil
}

// DecodeDaemon is the inverse of EncodeDaemon. Errors match ErrMalformed, or
// ErrNewer when a newer agentd wrote the body.
func DecodeDaemon(b []byte) (DaemonBody, error) {
	var d DaemonBody
	if len(b) > MaxBody {
		return d, fmt.Errorf("%w: a daemon of %d bytes, %d are allowed", ErrTooLarge, len(b), MaxBody)
	}
	head, spec, ok := bytes.Cut(b, []byte{'\n'})
	if !ok {
		return d, fmt.Errorf("%w: the daemon's body has no spec", ErrMalformed)
	}
	fields, err := decodeBody(head, daemonSchema, "schema", "revision", "rollout")
	if err != nil {
		return d, err
	}
	if err := numberField(fields, "revision", maxRevision, &d.Revision); err != nil {
		return d, err
	}
	rollout, err := decodeObject(fields["rollout"])
	if err != nil {
		return d, fmt.Errorf("%w: rollout: %w", ErrMalformed, err)
	}
	for k := range rollout {
		switch k {
		case "first", "k", "lanes", "lanes_blob", "canaries", "fallback":
		default:
			return d, fmt.Errorf("%w: key %q of the rollout", ErrNewer, k)
		}
	}
	if err := json.Unmarshal(fields["rollout"], &d.Rollout); err != nil {
		return d, fmt.Errorf("%w: rollout: %w", ErrMalformed, err)
	}
	d.Spec = bytes.Clone(spec)
	if err := checkDaemon(d); err != nil {
		return DaemonBody{}, err
	}
	return d, nil
}

func checkDaemon(d DaemonBody) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: daemon body: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	r := d.Rollout
	switch {
	case len(d.Spec) == 0:
		return bad("no spec")
	case d.Revision < 1 || d.Revision > maxRevision:
		return bad("revision %d", d.Revision)
	case r.K < 1:
		return bad("k is %d, at least 1 node has to be allowed down", r.K)
	case r.LanesBlob != "" && len(r.Lanes) > 0:
		return bad("lanes both inline and in a blob")
	case r.LanesBlob != "" && !validName(r.LanesBlob):
		return bad("lanes_blob is no blob's name")
	case len(r.Lanes) > r.K:
		return bad("%d lanes, at most k = %d", len(r.Lanes), r.K)
	case len(r.Canaries) > maxCanaries:
		return bad("%d canaries, at most %d", len(r.Canaries), maxCanaries)
	}
	if _, err := checkLanes(r.Lanes, MaxInlineNodes); err != nil {
		return bad("%v", err)
	}
	if r.LanesBlob != "" {
		return nil
	}
	return checkCanaries(r.Canaries, r.Lanes)
}

// checkCanaries checks that every canary is a member of a lane.
func checkCanaries(canaries []NodeID, lanes [][]NodeID) error {
	for _, c := range canaries {
		if !slices.ContainsFunc(lanes, func(lane []NodeID) bool { return slices.Contains(lane, c) }) {
			return fmt.Errorf("%w: daemon body: canary %s is in no lane", ErrMalformed, c)
		}
	}
	return nil
}

// checkLanes returns the members of all lanes: no lane empty, no node twice.
func checkLanes(lanes [][]NodeID, limit int) (map[NodeID]bool, error) {
	members := map[NodeID]bool{}
	for i, lane := range lanes {
		if len(lane) == 0 {
			return nil, fmt.Errorf("lane %d is empty", i)
		}
		for _, n := range lane {
			if members[n] {
				return nil, fmt.Errorf("node %s is in the lanes twice", n)
			}
			members[n] = true
		}
	}
	if len(members) > limit {
		return nil, fmt.Errorf("%d nodes in the lanes, at most %d", len(members), limit)
	}
	return members, nil
}

// EncodeLanes returns the body of a blob of lanes.
func EncodeLanes(lanes [][]NodeID) ([]byte, error) {
	if _, err := checkLanes(lanes, MaxLaneNodes); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	b, err := json.Marshal(lanes)
	if err != nil {
		return nil, fmt.Errorf("encode lanes: %w", err)
	}
	return b, nil
}

// DecodeLanes is the inverse of EncodeLanes. Errors match ErrMalformed.
func DecodeLanes(b []byte) ([][]NodeID, error) {
	if len(b) > MaxBlob {
		return nil, fmt.Errorf("%w: lanes of %d bytes, %d are allowed", ErrTooLarge, len(b), MaxBlob)
	}
	var lanes [][]NodeID
	if err := json.Unmarshal(b, &lanes); err != nil {
		return nil, fmt.Errorf("%w: lanes: %w", ErrMalformed, err)
	}
	if _, err := checkLanes(lanes, MaxLaneNodes); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return lanes, nil
}

// LanesOf returns the lanes of a daemon's record. blob is the body of the blob
// that body.Rollout.LanesBlob names, and not looked at when there is none.
// Errors match ErrMalformed.
func LanesOf(body DaemonBody, blob []byte) ([][]NodeID, error) {
	r := body.Rollout
	if r.LanesBlob == "" {
		return r.Lanes, nil
	}
	if BlobName(blob) != r.LanesBlob {
		return nil, fmt.Errorf("%w: the lanes are in blob %s, and this is another one", ErrMalformed, r.LanesBlob)
	}
	lanes, err := DecodeLanes(blob)
	if err != nil {
		return nil, err
	}
	if len(lanes) > r.K {
		return nil, fmt.Errorf("%w: %d lanes, at most k = %d", ErrMalformed, len(lanes), r.K)
	}
	if err := checkCanaries(r.Canaries, lanes); err != nil {
		return nil, err
	}
	return lanes, nil
}
