package record

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
)

// Trust is the set of operator keys whose signatures count on this node. It is
// immutable; the nil Trust trusts nobody.
type Trust struct {
	keys map[string]PublicKey // by id
	id   string
}

// NewTrust returns the set of keys; the same key given twice counts once.
func NewTrust(keys ...PublicKey) *Trust {
	t := &Trust{keys: make(map[string]PublicKey, len(keys))}
	for _, k := range keys {
		if _, ok := t.keys[k.ID()]; !ok && !k.IsZero() {
			t.keys[k.ID()] = k
		}
	}
	h := sha256.New()
	h.Write([]byte("agentd trust 1\n"))
	for _, k := range t.Keys() {
		h.Write(k.key[:])
	}
	t.id = hex.EncodeToString(h.Sum(nil)[:8])
	return t
}

// Empty reports whether no key is trusted, so that every record is refused.
func (t *Trust) Empty() bool { return t == nil || len(t.keys) == 0 }

// ID names the set of keys: nodes that trust the same keys have the same id,
// whatever the order and the comments.
func (t *Trust) ID() string {
	if t == nil {
		return NewTrust().id
	}
	return t.id
}

// Lookup returns the trusted key with that id.
func (t *Trust) Lookup(id string) (PublicKey, bool) {
	if t == nil {
		return PublicKey{}, false
	}
	k, ok := t.keys[id]
	return k, ok
}

// Keys returns the trusted keys in the order of their ids.
func (t *Trust) Keys() []PublicKey {
	if t == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(t.keys), func(a, b PublicKey) int { return cmp.Compare(a.ID(), b.ID()) })
}
