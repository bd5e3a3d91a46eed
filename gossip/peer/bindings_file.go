package peer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentd/agentd/internal/durable"
)

// The file: a first line, a line "NAME ID [released]" per name in order, and a
// last line with the SHA-256 of all before it. It is replaced as a whole.
const (
	bindingsPrefix = "agentd-bindings-1"
	bindingsSum    = "sum "
	released       = "released"
	// maxBindingsFile is beyond what maxBindings names need.
	maxBindingsFile = 4 << 20
)

func formatBindings(names map[string]binding) []byte {
	var b bytes.Buffer
	b.WriteString(bindingsPrefix + "\n")
	for _, name := range slices.Sorted(maps.Keys(names)) {
		bound := names[name]
		b.WriteString(name + " " + bound.ID.String())
		if bound.Released {
			b.WriteString(" " + released)
		}
		b.WriteByte('\n')
	}
	sum := sha256.Sum256(b.Bytes())
	b.WriteString(bindingsSum + hex.EncodeToString(sum[:]) + "\n")
	return b.Bytes()
}

func parseBindings(b []byte) (map[string]binding, error) {
	at := bytes.LastIndex(b, []byte("\n"+bindingsSum)) + 1
	if at == 0 {
		return nil, fmt.Errorf("%w: no checksum", errDamaged)
	}
	sum := sha256.Sum256(b[:at])
	if string(b[at:]) != bindingsSum+hex.EncodeToString(sum[:])+"\n" {
		return nil, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	lines := strings.Split(strings.TrimSuffix(string(b[:at]), "\n"), "\n")
	if lines[0] != bindingsPrefix {
		return nil, fmt.Errorf("%w: first line is not %s", errDamaged, bindingsPrefix)
	}
	names := make(map[string]binding, len(lines)-1)
	for _, line := range lines[1:] {
		fields := strings.Split(line, " ")
		if len(fields) < 2 || len(fields) > 3 || (len(fields) == 3 && fields[2] != released) || !validNodeName(fields[0]) {
			return nil, fmt.Errorf("%w: line %q", errDamaged, clean(line, 100))
		}
		id, err := parseNodeID(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		names[fields[0]] = binding{ID: id, Released: len(fields) == 3}
	}
	if len(names) > maxBindings {
		return nil, fmt.Errorf("%w: more than %d names", errDamaged, maxBindings)
	}
	return names, nil
}

// readBindings returns an empty map for a file that is missing or, after
// putting it aside, damaged.
func readBindings(path string, log *slog.Logger) (map[string]binding, error) {
	b, err := readSecret(path, maxBindingsFile, 0o022)
	if errors.Is(err, fs.ErrNotExist) {
		return make(map[string]binding), nil
	}
	var names map[string]binding
	if err == nil {
		names, err = parseBindings(b)
	}
	if !errors.Is(err, errDamaged) {
		return names, err
	}
	aside := path + ".corrupt"
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("put damaged file aside: %w", err)
	}
	log.Warn("name bindings were damaged; names are bound anew as they are seen", "err", err, "put_aside", aside)
	return make(map[string]binding), nil
}

func writeBindings(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}
