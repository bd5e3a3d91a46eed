package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/agentd/agentd/internal/durable"
	"github.com/agentd/agentd/spec"
)

// What is kept under data_dir, besides what other rooms keep there:
//
//	files/DAEMON/DIGEST16/N   files carried by the spec, rendered
//	volumes/NAME              volumes; never removed by agentd
//	current/DAEMON.json       what was started here last
//	panics/DAEMON.json        panics of agentd itself

// checkHost makes sure that what r mounts of the host is there.
func checkHost(r Rendered) error {
	for _, src := range r.Sources {
		if _, err := os.Stat(src); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("mount source %s does not exist on this node", src)
			}
			return fmt.Errorf("mount source: %w", err)
		}
	}
	return nil
}

// writeHost writes files and makes volumes. It is idempotent and leaves alone
// what is right already.
func writeHost(r Rendered) error {
	for _, f := range r.Files {
		if err := writeHostFile(f); err != nil {
			return fmt.Errorf("render file: %w", err)
		}
	}
	for _, v := range r.Volumes {
		if err := makeVolume(v); err != nil {
			return fmt.Errorf("make volume: %w", err)
		}
	}
	return nil
}

func writeHostFile(f HostFile) error {
	if have, err := os.ReadFile(f.Path); err == nil && bytes.Equal(have, f.Content) {
		if info, err := os.Stat(f.Path); err == nil && info.Mode().Perm() == f.Mode {
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(f.Path, f.Content, f.Mode)
}

func makeVolume(v HostDir) error {
	if info, err := os.Stat(v.Path); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(v.Path), 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(v.Path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(v.Path, v.UID, v.GID)
}

// dropFiles removes rendered files of a daemon except those of the digests that
// are still needed; none: all of them.
func dropFiles(dataDir, daemon string, keep ...string) error {
	parent := filepath.Dir(filesDir(dataDir, daemon, "x"))
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	kept := false
next:
	for _, e := range entries {
		for _, k := range keep {
			if k != "" && filepath.Join(parent, e.Name()) == filesDir(dataDir, daemon, k) {
				kept = true
				continue next
			}
		}
		errs = append(errs, os.RemoveAll(filepath.Join(parent, e.Name())))
	}
	if !kept {
		errs = append(errs, os.RemoveAll(parent))
	}
	return errors.Join(errs...)
}

// currentFile is the file form of what was started here last. A machine that
// boots into a new revision whose image it can't get goes on with this one.
type currentFile struct {
	Spec       json.RawMessage `json:"spec"`
	Digest     string          `json:"digest"`
	Generation uint64          `json:"generation"`
	Revision   int             `json:"revision"`
	Image      string          `json:"image"`
	Deleted    bool            `json:"deleted,omitempty"` // see Desired.Deleted
}

func currentPath(dataDir, daemon string) string {
	return filepath.Join(dataDir, "current", daemon+".json")
}

func writeCurrent(dataDir string, d Desired, image string) error {
	b, err := json.Marshal(currentFile{spec.Encode(d.Daemon), d.Digest, d.Generation, d.Revision, image, d.Deleted})
	if err != nil {
		return err
	}
	path := currentPath(dataDir, d.Daemon.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, b, 0o600)
}

// readCurrent returns what was started here last, or nil. A file that can't be
// used, by a newer agentd or by a broken disk, is as good as none.
func readCurrent(dataDir, daemon string) *Desired {
	b, err := os.ReadFile(currentPath(dataDir, daemon))
	if err != nil {
		return nil
	}
	return decodeCurrent(b, daemon)
}

func decodeCurrent(b []byte, daemon string) *Desired {
	var f currentFile
	if json.Unmarshal(b, &f) != nil {
		return nil
	}
	d, err := spec.Decode(f.Spec)
	if err != nil || d.Name != daemon || d.Digest() != f.Digest {
		return nil
	}
	return &Desired{Daemon: d, Digest: f.Digest, Generation: f.Generation, Revision: f.Revision, ImageDigest: f.Image, Deleted: f.Deleted}
}

func dropCurrent(dataDir, daemon string) error { return durable.Remove(currentPath(dataDir, daemon)) }
