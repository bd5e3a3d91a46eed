package record

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

const maxKind = 16

// Valid reports whether the key may name an entry: kinds are [a-z]{1,16}, known
// or not; names are [a-z0-9]([-._a-z0-9]*[a-z0-9])?, at most MaxName bytes. So a
// key is safe in a file name and in a URL. Errors match ErrMalformed.
func (k Key) Valid() error {
	if len(k.Kind) == 0 || len(k.Kind) > maxKind {
		return fmt.Errorf("%w: a kind has 1 to %d letters, not %d", ErrMalformed, maxKind, len(k.Kind))
	}
	for _, c := range []byte(k.Kind) {
		if c < 'a' || c > 'z' {
			return fmt.Errorf("%w: kind %q may only have lower-case letters", ErrMalformed, string(k.Kind))
		}
	}
	if !validName(k.Name) {
		return fmt.Errorf("%w: name %.80q may only have a-z, 0-9 and, inside, '-', '.' and '_'; at most %d", ErrMalformed, k.Name, MaxName)
	}
	return nil
}

func validName(s string) bool {
	if len(s) == 0 || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '-' || c == '.' || c == '_':
			if i == 0 || i == len(s)-1 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// ParseKey is the inverse of Key.String.
func ParseKey(s string) (Key, error) {
	kind, name, ok := strings.Cut(s, "/")
	k := Key{Kind(kind), name}
	if !ok {
		return Key{}, fmt.Errorf("%w: %.80q is not KIND/NAME", ErrMalformed, s)
	}
	if err := k.Valid(); err != nil {
		return Key{}, err
	}
	return k, nil
}

// Bucket returns which of the set's 256 parts holds the key: the first byte of
// the SHA-256 of its text.
func (k Key) Bucket() uint8 { return sha256.Sum256([]byte(k.String()))[0] }

// BlobName returns the only name under which a blob with that body is valid:
// base32 of its SHA-256, since hex would be one digit too long for a name.
func BlobName(body []byte) string {
	sum := sha256.Sum256(body)
	return lowerBase32(sum[:])
}

func lowerBase32(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// Compare orders versions: negative when v comes before o.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Generation, o.Generation), bytes.Compare(v.Digest[:], o.Digest[:]))
}

// IsZero reports whether v is no version.
func (v Version) IsZero() bool { return v == Version{} }

// String returns "generation 7 (51d07be)".
func (v Version) String() string {
	return fmt.Sprintf("generation %d (%s)", v.Generation, v.Digest.Short())
}

// MarshalText and UnmarshalText carry digests through JSON as hex.
func (d Digest) MarshalText() ([]byte, error)     { return []byte(d.String()), nil }
func (d *Digest) UnmarshalText(text []byte) error { return unhex(d[:], string(text), "digest") }

// ParseDigest is the inverse of Digest.String.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	return d, unhex(d[:], s, "digest")
}

// ParseRingID is the inverse of RingID.String.
func ParseRingID(s string) (RingID, error) {
	var r RingID
	if len(s) != 2*len(r) || unhex(r[:], s, "") != nil {
		return RingID{}, fmt.Errorf("ring id %.80q is not %d hex digits", s, 2*len(r))
	}
	return r, nil
}

// MarshalText and UnmarshalText carry ring ids through JSON as hex.
func (r RingID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
func (r *RingID) UnmarshalText(text []byte) error {
	id, err := ParseRingID(string(text))
	*r = id
	return err
}
