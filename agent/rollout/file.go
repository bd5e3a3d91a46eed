package rollout

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/agentd/agentd/internal/durable"
)

const (
	fileSchema = 1
	// maxFile bounds what is read back: 1,000 daemons take about 600 bytes each.
	maxFile = 16 << 20
)

// File is a Saver that writes one file: a line with the SHA-256 of the rest, in
// hex, and the states as JSON.
type File struct{ Path string }

type fileJSON struct {
	Schema int              `json:"schema"`
	Node   NodeID           `json:"node"`
	Salt   string           `json:"salt,omitempty"`
	Past   []string         `json:"past,omitempty"`
	States map[string]State `json:"daemons"`
}

// MakeID returns the id of a node that has drawn that salt, or none. Nobody can
// take another node's id: without salt it is the node's own, which is a hash of
// its key, and with any salt it is a hash of that.
func MakeID(node NodeID, salt string) NodeID {
	if salt == "" {
		return node
	}
	sum := sha256.Sum256([]byte("agentd rollout id v1\x00" + node.String() + "\x00" + salt))
	return NodeID(sum[:len(node)])
}

// Save replaces the file, through to the disk.
func (f File) Save(who Identity, states map[string]State) error {
	body, err := json.Marshal(fileJSON{fileSchema, who.Node, who.Salt, who.Past, states})
	if err != nil {
		return fmt.Errorf("encode rollout state: %w", err)
	}
	sum := sha256.Sum256(body)
	return durable.WriteFile(f.Path, append(append([]byte(hex.EncodeToString(sum[:])), '\n'), body...), 0o640)
}

// Open returns a keeper on the file. A node that has none is a member of lanes
// under its own id if it is new, and under a new one if it was here before: a
// disk that forgot which turns it held must not be believed. A file that can't
// be read is put aside (PATH.corrupt) and counts as lost; lost tells why.
//
// The keeper is good for use even with an error, which then says that nothing
// could be written: until it can be, no daemon goes on to anything new.
func (f File) Open(node NodeID, isNew bool) (k *Keeper, lost string, err error) {
	raw, readErr := os.ReadFile(f.Path)
	if errors.Is(readErr, fs.ErrNotExist) {
		if !isNew {
			lost = f.Path + " is gone"
		}
	} else {
		var was Identity
		var states map[string]State
		if readErr == nil {
			was, states, readErr = decodeFile(raw)
		}
		switch {
		case readErr != nil:
			lost = fmt.Sprintf("%s: %v", f.Path, readErr)
			err = os.Rename(f.Path, f.Path+".corrupt")
		case was.Node == node:
			return NewKeeper(was, states, f), "", nil
		default: // the node has a new key, and with it a new id already
		}
	}
	who := Identity{Node: node}
	if lost != "" {
		who.Salt = newSalt()
	}
	err = errors.Join(err, f.Save(who, map[string]State{}))
	return NewKeeper(who, nil, f), lost, err
}

func newSalt() string {
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails (crypto/rand)
	return hex.EncodeToString(salt[:])
}

func decodeFile(raw []byte) (Identity, map[string]State, error) {
	if len(raw) > maxFile {
		return Identity{}, nil, fmt.Errorf("%d bytes, at most %d", len(raw), maxFile)
	}
	head, body, ok := bytes.Cut(raw, []byte{'\n'})
	sum := sha256.Sum256(body)
	if !ok || string(head) != hex.EncodeToString(sum[:]) {
		return Identity{}, nil, errors.New("the checksum does not match")
	}
	var j fileJSON
	if err := json.Unmarshal(body, &j); err != nil {
		return Identity{}, nil, err
	}
	if j.Schema != fileSchema {
		return Identity{}, nil, fmt.Errorf("schema %d, this agentd knows %d", j.Schema, fileSchema)
	}
	return Identity{j.Node, j.Salt, j.Past}, j.States, nil
}
