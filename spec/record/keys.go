package record

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	privateKeyTag = "agentd-operator-key-1"
	publicKeyTag  = "agentd-operator-pub-1"

	// MaxKeyFile is the largest key file that is read, in bytes: one line of
	// key, and room for comments.
	MaxKeyFile = 4 << 10

	maxKeyComment = 128 // bytes
)

// PublicKey is an operator's Ed25519 public key. The zero value is no key.
type PublicKey struct {
	Comment string // for people: who it belongs to; no part of the key's identity

	key [ed25519.PublicKeySize]byte
}

// PrivateKey is an operator's Ed25519 private key. The zero value is no key. It
// prints as its public half, so that a stray log line gives nothing away.
type PrivateKey struct {
	Comment string

	key ed25519.PrivateKey
}

// GenerateKey draws a new key from the system's random source.
func GenerateKey(comment string) (PrivateKey, error) {
	comment, err := cleanComment(comment)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("generate operator key: %w", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("generate operator key: %w", err)
	}
	return PrivateKey{Comment: comment, key: key}, nil
}

// ParsePrivateKey reads a private key file: one line of tag, base64 and
// comment; blank lines and lines that begin with '#' are skipped.
func ParsePrivateKey(b []byte) (PrivateKey, error) {
	seed, comment, err := parseKeyLine(b, privateKeyTag, ed25519.SeedSize)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("read operator key: %w", err)
	}
	return PrivateKey{Comment: comment, key: ed25519.NewKeyFromSeed(seed)}, nil
}

// Marshal returns the key as the text that ParsePrivateKey reads.
func (k PrivateKey) Marshal() []byte {
	if len(k.key) != ed25519.PrivateKeySize {
		return nil
	}
	return keyLine(privateKeyTag, k.key.Seed(), k.Comment)
}

// Public returns the public half, with the same comment.
func (k PrivateKey) Public() PublicKey {
	pub := PublicKey{Comment: k.Comment}
	if len(k.key) == ed25519.PrivateKeySize {
		copy(pub.key[:], k.key[ed25519.SeedSize:])
	}
	return pub
}

// IsZero reports whether k is no key.
func (k PrivateKey) IsZero() bool { return len(k.key) != ed25519.PrivateKeySize }

// String returns the id of the public half.
func (k PrivateKey) String() string { return "private half of " + k.Public().ID() }

// GoString keeps %#v from printing the secret.
func (k PrivateKey) GoString() string { return k.String() }

func (k PrivateKey) sign(message []byte) []byte { return ed25519.Sign(k.key, message) }

// ParsePublicKey reads a public key file; see ParsePrivateKey for its form.
func ParsePublicKey(b []byte) (PublicKey, error) {
	raw, comment, err := parseKeyLine(b, publicKeyTag, ed25519.PublicKeySize)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read operator public key: %w", err)
	}
	k := PublicKey{Comment: comment}
	copy(k.key[:], raw)
	if k.IsZero() {
		return PublicKey{}, errors.New("read operator public key: the key is all zeros")
	}
	return k, nil
}

// Marshal returns the key as the text that ParsePublicKey reads.
func (k PublicKey) Marshal() []byte { return keyLine(publicKeyTag, k.key[:], k.Comment) }

// ID returns the first 16 hex digits of the SHA-256 of the key. Equal keys have
// equal ids whatever their comments.
func (k PublicKey) ID() string {
	sum := sha256.Sum256(k.key[:])
	return hex.EncodeToString(sum[:8])
}

// IsZero reports whether k is no key.
func (k PublicKey) IsZero() bool { return k.key == [ed25519.PublicKeySize]byte{} }

// Equal reports whether both are the same key; comments do not count.
func (k PublicKey) Equal(o PublicKey) bool { return k.key == o.key }

// String returns the id and the comment.
func (k PublicKey) String() string {
	if k.Comment == "" {
		return k.ID()
	}
	return k.ID() + " (" + k.Comment + ")"
}

func (k PublicKey) verify(message, sig []byte) bool {
	return !k.IsZero() && len(sig) == ed25519.SignatureSize && ed25519.Verify(k.key[:], message, sig)
}

func keyLine(tag string, key []byte, comment string) []byte {
	line := tag + " " + base64.StdEncoding.EncodeToString(key)
	if comment != "" {
		line += " " + comment
	}
	return []byte(line + "\n")
}

// parseKeyLine never repeats what it read in an error: it may be a secret.
func parseKeyLine(b []byte, tag string, size int) (key []byte, comment string, err error) {
	if len(b) > MaxKeyFile {
		return nil, "", fmt.Errorf("more than %d bytes, which is no key file", MaxKeyFile)
	}
	var line string
	for l := range strings.Lines(string(bytes.TrimPrefix(b, []byte("\ufeff")))) {
		l = strings.TrimSpace(l)
		switch {
		case l == "" || strings.HasPrefix(l, "#"):
		case line != "":
			return nil, "", errors.New("more than one key in one file")
		default:
			line = l
		}
	}
	if line == "" {
		return nil, "", errors.New("no key in it")
	}
	kind, rest, _ := strings.Cut(line, " ")
	switch {
	case kind == tag:
	case kind == privateKeyTag:
		return nil, "", errors.New("it holds a private key where a public key belongs; keep it secret")
	case kind == publicKeyTag:
		return nil, "", errors.New("it holds a public key where a private key belongs")
	default:
		return nil, "", fmt.Errorf("the line does not begin with %q", tag)
	}
	text, comment, _ := strings.Cut(strings.TrimSpace(rest), " ")
	key, err = base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != size {
		return nil, "", errors.New("the key is damaged or cut short")
	}
	comment, err = cleanComment(comment)
	if err != nil {
		return nil, "", err
	}
	return key, comment, nil
}

func cleanComment(s string) (string, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxKeyComment || !printable(s) {
		return "", fmt.Errorf("the key's comment must be at most %d bytes of printable text", maxKeyComment)
	}
	return s, nil
}

// printable reports whether s is UTF-8 that cannot move a terminal's cursor.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r != ' ' && !unicode.IsGraphic(r) {
			return false
		}
	}
	return true
}
