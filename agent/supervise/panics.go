package supervise

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/agentd/agentd/internal/durable"
)

// panicMark counts recovered panics of agentd itself on one digest of a
// daemon. It is on disk, so that a panic which takes the process with it after
// all, or a restart in between, does not forgive. A kill, an OOM or a power
// loss never writes one.
type panicMark struct {
	Digest string `json:"digest"`
	Count  int    `json:"count"`
	Last   string `json:"last"`
}

func panicPath(dataDir, daemon string) string {
	return filepath.Join(dataDir, "panics", daemon+".json")
}

// readPanics returns the mark of a digest; another digest has none.
func readPanics(dataDir, daemon, digest string) panicMark {
	b, err := os.ReadFile(panicPath(dataDir, daemon))
	var m panicMark
	if err != nil || json.Unmarshal(b, &m) != nil || m.Digest != digest {
		return panicMark{Digest: digest}
	}
	return m
}

// addPanic counts one more. The mark is returned even if it can't be written.
func addPanic(dataDir, daemon, digest, text string) (panicMark, error) {
	m := readPanics(dataDir, daemon, digest)
	m.Count++
	if m.Last = text; len(m.Last) > 200 {
		m.Last = m.Last[:200]
	}
	b, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	path := panicPath(dataDir, daemon)
	return m, errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), durable.WriteFile(path, b, 0o600))
}
