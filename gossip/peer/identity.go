package peer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/agentd/agentd/gossip"
	"github.com/agentd/agentd/internal/durable"
)

// Identity is what makes a node itself: its name and its own key.
type Identity struct {
	Name string
	Key  ed25519.PrivateKey
	ID   gossip.NodeID // hash of both
}

// nodeKeyPrefix opens the one line of a node key file. What follows is base64
// of the seed and the first 4 bytes of the seed's SHA-256: a flipped bit must
// be told from another node's key.
const nodeKeyPrefix = "agentd-node-key-1"

// errDamaged marks a file whose content is not what was once written.
var errDamaged = errors.New("damaged")

// LoadOrCreateIdentity reads the node's key at path, or makes one at first
// start. A key that others can read, that is not ours, or that is damaged is an
// error that says what to do, never a reason to make another: the ring knows
// the node by it.
func LoadOrCreateIdentity(path, name string) (*Identity, error) {
	if !validNodeName(name) {
		return nil, fmt.Errorf("node name %q: must be 1 to %d letters, digits, dots, dashes or underscores", name, maxName)
	}
	b, err := readSecret(path, 4<<10, 0o077)
	if errors.Is(err, fs.ErrNotExist) {
		return createIdentity(path, name)
	}
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	seed, err := parseNodeKey(b)
	if err != nil {
		return nil, fmt.Errorf("node key %s: %w: restore it from a backup, or move it away for a new one and then run, on another node: agentctl forget %s", path, err, name)
	}
	return newIdentity(name, seed), nil
}

func createIdentity(path, name string) (*Identity, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("create node key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create node key: %w", err)
	}
	if err := durable.WriteFile(path, formatNodeKey(seed), 0o600); err != nil {
		return nil, fmt.Errorf("create node key: %w", err)
	}
	return newIdentity(name, seed), nil
}

func newIdentity(name string, seed []byte) *Identity {
	key := ed25519.NewKeyFromSeed(seed)
	return &Identity{Name: name, Key: key, ID: gossip.MakeNodeID(name, key.Public().(ed25519.PublicKey))}
}

func formatNodeKey(seed []byte) []byte {
	sum := sha256.Sum256(seed)
	return []byte(nodeKeyPrefix + " " + base64.StdEncoding.EncodeToString(append(bytes.Clone(seed), sum[:4]...)) + "\n")
}

func parseNodeKey(b []byte) ([]byte, error) {
	word, rest, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
	if !ok || word != nodeKeyPrefix {
		return nil, fmt.Errorf("not a node key (want one line: %s BASE64)", nodeKeyPrefix)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(rest)
	if err != nil || len(raw) != ed25519.SeedSize+4 {
		return nil, errDamaged
	}
	seed := raw[:ed25519.SeedSize]
	if sum := sha256.Sum256(seed); !bytes.Equal(sum[:4], raw[ed25519.SeedSize:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	return seed, nil
}

// readSecret reads a file of at most limit bytes that has none of the mode bits
// in forbidden and belongs to us or to root.
func readSecret(path string, limit int64, forbidden fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block us
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, fmt.Errorf("%s has mode %04o, which lets others at it; run: chmod %o %s", path, mode, mode&^forbidden, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s belongs to uid %d, not to root or uid %d; run: chown %d %s", path, st.Uid, os.Geteuid(), os.Geteuid(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", errDamaged, path, limit)
	}
	return b, nil
}

// validNodeName keeps names printable, and free of what has a meaning in paths,
// files and terminals. The configuration may demand more.
func validNodeName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '.' && c != '_') {
			return false
		}
	}
	return true
}

func parseNodeID(s string) (gossip.NodeID, error) {
	var id gossip.NodeID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("node id %q: want %d hex digits", clean(s, 64), 2*len(id))
	}
	copy(id[:], b)
	return id, nil
}
