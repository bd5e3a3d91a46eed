package config

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec/record"
)

const (
	ringIDTag  = "agentd-ring-id-1"
	ringKeyTag = "agentd-ring-key-1"

	ringKeySize = 32 // bytes: AES-256, memberlist's largest
	maxRingKeys = 8  // more than any rotation has in flight
	maxRingFile = 16 << 10
)

// RingKey is what makes a node a member: the ring's id and its keys. Keys[0]
// encrypts, all of them decrypt, so that a rotation can happen node by node. It
// prints as the ring's id, so that a stray log line gives nothing away.
type RingKey struct {
	ID   record.RingID
	Keys [][]byte // 32 bytes each
}

// NewRingKey draws the id and the key of a new ring.
func NewRingKey() RingKey {
	k := RingKey{Keys: [][]byte{make([]byte, ringKeySize)}}
	// Neither can fail: since Go 1.24 the program ends if the system has no
	// randomness to give.
	_, _ = rand.Read(k.ID[:])
	_, _ = rand.Read(k.Keys[0])
	return k
}

// String returns the ring's id.
func (k RingKey) String() string { return "ring " + k.ID.String() }

// GoString keeps %#v from printing the secret.
func (k RingKey) GoString() string { return k.String() }

// Equal reports whether both have the same id and the same keys in one order.
func (k RingKey) Equal(o RingKey) bool {
	return k.ID == o.ID && slices.EqualFunc(k.Keys, o.Keys, bytes.Equal)
}

// Marshal returns the key as the text that ParseRingKey reads.
func (k RingKey) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString("# The key of an agentd ring. Whoever has it can join the ring and read what\n" +
		"# its nodes tell each other: keep it secret, mode 0600.\n")
	fmt.Fprintf(&b, "%s %s\n", ringIDTag, k.ID)
	for _, key := range k.Keys {
		fmt.Fprintf(&b, "%s %s\n", ringKeyTag, base64.StdEncoding.EncodeToString(key))
	}
	return b.Bytes()
}

// ParseRingKey reads a ring key file: a line with the id, then one for each
// key; blank lines and lines that begin with '#' are skipped. Errors never
// repeat what was read.
func ParseRingKey(b []byte) (RingKey, error) {
	if len(b) > maxRingFile {
		return RingKey{}, fmt.Errorf("more than %d bytes, which is no ring key", maxRingFile)
	}
	var k RingKey
	n, hasID := 0, false
	for line := range strings.Lines(string(b)) {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 {
			return RingKey{}, fmt.Errorf("line %d is not a word and a value", n)
		}
		switch fields[0] {
		case ringIDTag:
			id, err := record.ParseRingID(fields[1])
			switch {
			case hasID:
				return RingKey{}, fmt.Errorf("line %d has a second ring id", n)
			case err != nil:
				return RingKey{}, fmt.Errorf("line %d: the ring id is not 32 hex digits", n)
			}
			k.ID, hasID = id, true
		case ringKeyTag:
			key, err := base64.StdEncoding.Strict().DecodeString(fields[1])
			if err != nil || len(key) != ringKeySize {
				return RingKey{}, fmt.Errorf("line %d: the key is not %d bytes in base64", n, ringKeySize)
			}
			k.Keys = append(k.Keys, key)
		default:
			return RingKey{}, fmt.Errorf("line %d begins with neither %s nor %s", n, ringIDTag, ringKeyTag)
		}
	}
	if !hasID {
		return RingKey{}, errors.New("there is no ring id")
	}
	if err := k.valid(); err != nil {
		return RingKey{}, err
	}
	return k, nil
}

// valid checks what neither the file nor a token may lack.
func (k RingKey) valid() error {
	switch {
	case k.ID == record.RingID{}:
		return errors.New("the ring id is all zeros")
	case len(k.Keys) == 0:
		return errors.New("there is no ring key")
	case len(k.Keys) > maxRingKeys:
		return fmt.Errorf("there are %d ring keys, and at most %d can be", len(k.Keys), maxRingKeys)
	}
	for i, key := range k.Keys {
		if len(key) != ringKeySize {
			return fmt.Errorf("ring key %d is not %d bytes", i+1, ringKeySize)
		}
		if bytes.Equal(key, make([]byte, ringKeySize)) {
			return fmt.Errorf("ring key %d is all zeros", i+1)
		}
		if slices.ContainsFunc(k.Keys[:i], func(o []byte) bool { return bytes.Equal(o, key) }) {
			return fmt.Errorf("ring key %d is there twice", i+1)
		}
	}
	return nil
}

// ReadRingKey reads the ring key at path, which nobody but root, or the user
// that runs this, may be able to read or write. Errors are *FileError.
func ReadRingKey(path string) (RingKey, error) {
	b, err := readTrusted(path, openToOthers, maxRingFile)
	if err != nil {
		var fe *FileError
		if errors.As(err, &fe) && errors.Is(err, fs.ErrNotExist) {
			fe.Msg = "no such file, and without the ring's key there is no ring"
			fe.Fix = "agentctl init makes a new ring, agentctl join joins one; [ring] key_file names another file"
		}
		return RingKey{}, err
	}
	k, err := ParseRingKey(b)
	if err != nil {
		return RingKey{}, &FileError{File: path, Msg: "is not a ring key: " + err.Error(),
			Fix: "take the file from another node of the ring, or join again: agentctl join", Err: err}
	}
	return k, nil
}
