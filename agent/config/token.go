package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec/record"
)

const (
	tokenPrefix = "agentd1-"
	// maxToken bounds the text of a token. Each record of the ring takes some 70
	// characters of it, so it is enough for 14,000 of them.
	maxToken = 1 << 20
	// checksumSize makes one mistyped token in 2^32 pass, which the ring key
	// inside then would not survive.
	checksumSize = 4
)

// Token is what a node needs to join a ring. It holds the ring's key: a token
// is as secret as that is.
type Token struct {
	RingName  string
	Key       RingKey
	Operators []record.PublicKey
	Addresses []string                  // HOST:PORT of nodes to ask first
	Floor     map[string]record.Version // by record key, "daemon/x"
}

// GoString keeps %#v from printing the secret. String, which is the token, is
// for the one who asked for it.
func (t Token) GoString() string { return "token of " + t.Key.String() }

// String returns the token as one line without spaces: a prefix that names its
// format, then base64url of its length, its content and a checksum.
func (t Token) String() string {
	var w writer
	w.bytes([]byte(t.RingName))
	w.b = append(w.b, t.Key.ID[:]...)
	w.count(len(t.Key.Keys))
	for _, k := range t.Key.Keys {
		w.bytes(k)
	}
	w.count(len(t.Operators))
	for _, k := range t.Operators {
		w.bytes(bytes.TrimSpace(k.Marshal()))
	}
	w.count(len(t.Addresses))
	for _, a := range t.Addresses {
		w.bytes([]byte(a))
	}
	w.count(len(t.Floor))
	for _, k := range slices.Sorted(maps.Keys(t.Floor)) {
		v := t.Floor[k]
		w.bytes([]byte(k))
		w.b = binary.AppendUvarint(w.b, v.Generation)
		w.b = append(w.b, v.Digest[:]...)
	}
	sum := sha256.Sum256(w.b)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(w.b)))
	out = append(append(out, w.b...), sum[:checksumSize]...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(out)
}

// ParseToken reads a token. White space around and inside it is skipped, for
// terminals wrap lines. A token that was cut short by a paste is told apart
// from one that is wrong. Errors never repeat what was read.
func ParseToken(s string) (Token, error) {
	s = strings.Join(strings.Fields(s), "")
	switch {
	case s == "":
		return Token{}, errors.New("the token is empty")
	case len(s) > maxToken:
		return Token{}, fmt.Errorf("the token is longer than %d characters", maxToken)
	case !strings.HasPrefix(s, tokenPrefix):
		if strings.HasPrefix(s, "agentd") && strings.Contains(s, "-") {
			return Token{}, errors.New("the token is in a format of another agentd: use the same version on both nodes")
		}
		return Token{}, fmt.Errorf("that is no token: one begins with %s", tokenPrefix)
	}
	text := s[len(tokenPrefix):]
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		// A cut may leave a last letter that is not whole.
		raw, err = base64.RawURLEncoding.DecodeString(text[:len(text)/4*4])
		if err != nil {
			return Token{}, errors.New("the token has characters that no token has: copy it again, whole")
		}
		if want, ok := tokenLength(raw); !ok || len(raw) < want {
			return Token{}, cutShort(len(s), raw)
		}
		return Token{}, errMistyped()
	}
	want, ok := tokenLength(raw)
	switch {
	case !ok || len(raw) < want:
		return Token{}, cutShort(len(s), raw)
	case want == 0:
		return Token{}, errMistyped()
	case len(raw) > want:
		return Token{}, errors.New("something follows the token: copy it again, alone")
	}
	body, checksum := raw[4:want-checksumSize], raw[want-checksumSize:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:checksumSize], checksum) {
		return Token{}, errMistyped()
	}
	t, err := decodeToken(body)
	if err != nil {
		return Token{}, fmt.Errorf("the token is malformed: %w", err)
	}
	return t, nil
}

// tokenLength returns how many bytes the token says that it has; 0 when no
// token has so many. It needs the first four.
func tokenLength(raw []byte) (int, bool) {
	if len(raw) < 4 {
		return 0, false
	}
	n := binary.BigEndian.Uint32(raw)
	if n > maxToken {
		return 0, true
	}
	return 4 + int(n) + checksumSize, true
}

func cutShort(have int, raw []byte) error {
	if want, ok := tokenLength(raw); ok {
		total := len(tokenPrefix) + base64.RawURLEncoding.EncodedLen(want)
		return fmt.Errorf("the token is cut short: %d of %d characters: copy it again, whole", have, total)
	}
	return errors.New("the token is cut short: copy it again, whole")
}

func errMistyped() error {
	return errors.New("the token is damaged: its checksum does not fit; copy it again, whole")
}

func decodeToken(body []byte) (Token, error) {
	r := &reader{b: body}
	var t Token
	t.RingName = string(r.bytes())
	copy(t.Key.ID[:], r.take(len(t.Key.ID)))
	for range r.count() {
		t.Key.Keys = append(t.Key.Keys, bytes.Clone(r.bytes()))
	}
	for range r.count() {
		line := r.bytes()
		if r.bad {
			break
		}
		k, err := record.ParsePublicKey(line)
		if err != nil {
			return Token{}, err
		}
		t.Operators = append(t.Operators, k)
	}
	for range r.count() {
		t.Addresses = append(t.Addresses, string(r.bytes()))
	}
	for range r.count() {
		key := string(r.bytes())
		v := record.Version{Generation: r.uvarint()}
		copy(v.Digest[:], r.take(len(v.Digest)))
		if t.Floor == nil {
			t.Floor = map[string]record.Version{}
		}
		t.Floor[key] = v
	}
	if r.bad || len(r.b) != 0 {
		return Token{}, errors.New("its parts do not fit its length")
	}
	return t, t.valid()
}

// valid checks what whoever joins relies on.
func (t Token) valid() error {
	if !ringPattern.MatchString(t.RingName) || len(t.RingName) > 63 {
		return errors.New("the ring's name is not a name")
	}
	if err := t.Key.valid(); err != nil {
		return err
	}
	for _, a := range t.Addresses {
		if _, port, err := hostPort(a); err != nil || port == 0 {
			return errors.New("an address is not HOST:PORT")
		}
	}
	for k := range t.Floor {
		if _, err := record.ParseKey(k); err != nil {
			return err
		}
	}
	return nil
}

// writer appends the parts of a token.
type writer struct{ b []byte }

func (w *writer) count(n int) { w.b = binary.AppendUvarint(w.b, uint64(n)) }
func (w *writer) bytes(p []byte) {
	w.count(len(p))
	w.b = append(w.b, p...)
}

// reader takes the parts off again. Once something is missing it is bad, and
// everything after is empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many parts follow; each takes at least a byte.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte { return r.take(r.count()) }
