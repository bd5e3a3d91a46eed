package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

const (
	forgetPrefix  = "forget."
	hashMark      = "hash."
	maxNodeName   = 253 // bytes; a full DNS name (RFC 1035 section 2.3.4)
	controlSchema = 1
)

// Forget is the body of control/forget.NODE: an operator's word that a node is
// gone. It drops out of the counts at once, and the binding of its name to its
// key ends, so that a reimaged machine may come under the same name.
type Forget struct {
	Node string
	// ID is the hex node id that is forgotten; "" forgets whoever has the name.
	// With an ID, a machine that came back under the name is not touched.
	ID string
}

// ForgetKey returns the key under which a node is forgotten. A name that does
// not fit into a record's name is hashed; the body tells it in full.
func ForgetKey(node string) Key {
	return controlKey(forgetPrefix, node, node)
}

// controlKey returns the key prefix + name, or that of the hash of text, which
// is another one for every other text, when the name does not fit or would look
// like a hash.
func controlKey(prefix, name, text string) Key {
	key := Key{KindControl, prefix + name}
	if !validName(key.Name) || strings.HasPrefix(name, hashMark) {
		sum := sha256.Sum256([]byte(text))
		key.Name = prefix + hashMark + lowerBase32(sum[:20])
	}
	return key
}

type forgetJSON struct {
	Schema int    `json:"schema"`
	Node   string `json:"node"`
	ID     string `json:"id,omitempty"`
}

// EncodeForget returns the body of a forget record.
func EncodeForget(f Forget) []byte {
	b, err := json.Marshal(forgetJSON{controlSchema, f.Node, f.ID})
	if err != nil {
		panic("record: marshal forget: " + err.Error()) // strings always marshal
	}
	return b
}

// DecodeForget is the inverse of EncodeForget. Errors match ErrMalformed, or
// ErrNewer when a newer agentd wrote the body.
func DecodeForget(b []byte) (Forget, error) {
	fields, err := decodeBody(b, controlSchema, "schema", "node", "id")
	if err != nil {
		return Forget{}, err
	}
	var f Forget
	if f.Node, err = textField(fields, "node", maxNodeName); err != nil {
		return Forget{}, err
	}
	if f.Node == "" || !printable(f.Node) {
		return Forget{}, fmt.Errorf("%w: forget: no node", ErrMalformed)
	}
	if _, ok := fields["id"]; ok {
		if f.ID, err = textField(fields, "id", 2*len(NodeID{})); err != nil {
			return Forget{}, err
		}
		if raw, err := hex.DecodeString(f.ID); err != nil || len(raw) != len(NodeID{}) {
			return Forget{}, fmt.Errorf("%w: forget: %q is no node id", ErrMalformed, f.ID)
		}
	}
	return f, nil
}

// checkControl refuses a control record that this agentd knows to be nonsense,
// or whose body is about something else than its name. Operations that are not
// known are a newer agentd's.
func checkControl(r Record) error {
	var want Key
	switch {
	case strings.HasPrefix(r.Key.Name, forgetPrefix):
		f, err := DecodeForget(r.Body)
		if err != nil {
			return err
		}
		want = ForgetKey(f.Node)
	case strings.HasPrefix(r.Key.Name, pausePrefix):
		p, err := DecodePause(r.Body)
		if err != nil {
			return err
		}
		want = PauseKey(p.Daemon)
	case strings.HasPrefix(r.Key.Name, skipPrefix):
		s, err := DecodeSkip(r.Body)
		if err != nil {
			return err
		}
		want = SkipKey(s.Daemon, s.ID)
	default:
		return nil
	}
	if want != r.Key {
		return fmt.Errorf("%w: the body is that of %s", ErrMalformed, want)
	}
	return nil
}

// decodeBody reads a versioned JSON object; a later schema, or a key that is
// not known, is ErrNewer.
func decodeBody(b []byte, schema int, keys ...string) (map[string]json.RawMessage, error) {
	fields, err := decodeObject(b)
	if err != nil {
		return nil, fmt.Errorf("%w: the body is no JSON object: %w", ErrMalformed, err)
	}
	var have int
	if err := numberField(fields, "schema", maxSchema, &have); err != nil {
		return nil, err
	}
	if have > schema {
		return nil, fmt.Errorf("%w: schema %d, this agentd knows %d", ErrNewer, have, schema)
	}
	if have < 1 {
		return nil, fmt.Errorf("%w: schema %d", ErrMalformed, have)
	}
	known := map[string]bool{}
	for _, k := range keys {
		known[k] = true
	}
	for k := range fields {
		if !known[k] {
			return nil, fmt.Errorf("%w: key %q", ErrNewer, k)
		}
	}
	return fields, nil
}
