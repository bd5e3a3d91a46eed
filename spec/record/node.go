package record

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Limits of a node record. Label keys are Kubernetes': a prefix of 253 bytes, a
// slash and a name of 63; values have 63; a taint is key=value:Effect.
const (
	nodeSchema   = 1
	maxLabelKey  = 253 + 1 + 63
	maxLabel     = 63
	maxTaint     = maxLabelKey + 1 + maxLabel + 1 + 32
	maxNodeItems = 512 // labels, or taints, in one record
)

// NodeBody is the body of node/NAME: what operators said of a node from
// anywhere, over what its own agentd.toml says.
type NodeBody struct {
	// Labels are set; nil removes one that agentd.toml sets. Those that every
	// node has by itself stay as they are, whatever is here.
	Labels map[string]*string
	// Taints replace those of agentd.toml, as key=value:Effect; nil leaves them,
	// empty removes them all.
	Taints []string
	// Cordoned: nothing is started that does not run already. Draining: what
	// runs is stopped as well. Both hold for every daemon, tolerations or not.
	Cordoned, Draining bool
}

// NodeKey returns the key of a node's record. A name that no record can have
// makes a key that is not Valid.
func NodeKey(name string) Key { return Key{KindNode, name} }

// Over returns the labels and taints of a node that has these in its
// agentd.toml. It changes neither.
func (n NodeBody) Over(labels map[string]string, taints []string) (map[string]string, []string) {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range n.Labels {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = *v
		}
	}
	if n.Taints != nil {
		taints = n.Taints
	}
	return out, slices.Clone(taints)
}

// IsZero reports whether the body says nothing, as if there were no record.
func (n NodeBody) IsZero() bool {
	return len(n.Labels) == 0 && n.Taints == nil && !n.Cordoned && !n.Draining
}

type nodeJSON struct {
	Schema   int                `json:"schema"`
	Labels   map[string]*string `json:"labels,omitempty"`
	Taints   []string           `json:"taints,omitzero"`
	Cordoned bool               `json:"cordoned,omitempty"`
	Draining bool               `json:"draining,omitempty"`
}

// EncodeNode returns the body of a node record; errors match ErrMalformed. That
// labels and taints mean something is for those who know what they mean; here
// they are texts of a certain length.
func EncodeNode(n NodeBody) ([]byte, error) {
	if err := checkNode(n); err != nil {
		return nil, err
	}
	b, err := json.Marshal(nodeJSON{nodeSchema, n.Labels, n.Taints, n.Cordoned, n.Draining})
	if err != nil {
		return nil, fmt.Errorf("encode node: %w", err)
	}
	if len(b) > MaxBody {
		return nil, fmt.Errorf("%w: node body of %d bytes, %d are allowed", ErrTooLarge, len(b), MaxBody)
	}
	return b, nil
}

// DecodeNode is the inverse of EncodeNode. Errors match ErrMalformed, or
// ErrNewer when a newer agentd wrote the body.
func DecodeNode(b []byte) (NodeBody, error) {
	if len(b) > MaxBody {
		return NodeBody{}, fmt.Errorf("%w: node body of %d bytes, %d are allowed", ErrTooLarge, len(b), MaxBody)
	}
	fields, err := decodeBody(b, nodeSchema, "schema", "labels", "taints", "cordoned", "draining")
	if err != nil {
		return NodeBody{}, err
	}
	var n NodeBody
	if raw, ok := fields["labels"]; ok {
		if n.Labels, err = decodeLabels(raw); err != nil {
			return NodeBody{}, err
		}
	}
	if raw, ok := fields["taints"]; ok {
		if isNull(raw) || json.Unmarshal(raw, &n.Taints) != nil {
			return NodeBody{}, fmt.Errorf("%w: node body: taints are no list of texts", ErrMalformed)
		}
	}
	for key, into := range map[string]*bool{"cordoned": &n.Cordoned, "draining": &n.Draining} {
		if raw, ok := fields[key]; ok && (isNull(raw) || json.Unmarshal(raw, into) != nil) {
			return NodeBody{}, fmt.Errorf("%w: node body: %s is neither true nor false", ErrMalformed, key)
		}
	}
	return n, checkNode(n)
}

// decodeLabels reads texts and nulls by key, each key once.
func decodeLabels(raw json.RawMessage) (map[string]*string, error) {
	fields, err := decodeObject(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: node body: labels: %w", ErrMalformed, err)
	}
	if len(fields) == 0 {
		return nil, nil
	}
	labels := make(map[string]*string, len(fields))
	for k, v := range fields {
		var text *string
		if err := json.Unmarshal(v, &text); err != nil {
			return nil, fmt.Errorf("%w: node body: label %.80q is neither a text nor null", ErrMalformed, k)
		}
		labels[k] = text
	}
	return labels, nil
}

func checkNode(n NodeBody) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: node body: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	if len(n.Labels) > maxNodeItems || len(n.Taints) > maxNodeItems {
		return bad("%d labels and %d taints, at most %d of each", len(n.Labels), len(n.Taints), maxNodeItems)
	}
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		v := n.Labels[k]
		switch {
		case k == "" || len(k) > maxLabelKey || !plainText(k, "/"):
			return bad("%.80q is not a label", k)
		case v != nil && (len(*v) > maxLabel || !plainText(*v, "")):
			return bad("%.80q is not the value of label %s", *v, k)
		}
	}
	for i, t := range n.Taints {
		if t == "" || len(t) > maxTaint || !plainText(t, "/=:") {
			return bad("%.80q is not a taint", t)
		}
		if slices.Contains(n.Taints[:i], t) {
			return bad("taint %s is given twice", t)
		}
	}
	return nil
}

// plainText reports whether s is made of letters, digits, - . _ and extra.
func plainText(s, extra string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			if !slices.Contains([]byte(extra), c) {
				return false
			}
		}
	}
	return true
}
