package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec/record"
)

const (
	corruptDir = "corrupt" // damaged files
	refusedDir = "refused" // sound files whose signatures do not count here, now
)

// load reads everything; s.mu is held, and nobody else has the Store yet.
func (s *Store) load() error {
	for _, dir := range []string{s.records, s.ratchet} {
		if err := s.makeDir(dir); err != nil {
			return err
		}
	}
	if err := s.loadRatchet(); err != nil {
		return err
	}
	names, err := s.cfg.disk.ReadDir(s.records)
	if err != nil {
		return fmt.Errorf("open store: read %s: %w", s.records, err)
	}
	useless := map[string]record.Record{}
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, tmpSuffix):
			// A crash came before its rename: it was never acknowledged.
			s.remove(filepath.Join(s.records, name))
		case strings.HasSuffix(name, recSuffix):
			r, ok := s.loadRecord(name)
			if !ok {
				continue
			}
			if _, dup := s.files[r.Digest]; !dup {
				s.files[r.Digest] = name
			}
			useless[name] = r
			s.set.Offer(r)
		}
	}
	s.loadCorrupt()
	s.loadRefused()
	for name, r := range useless {
		if _, held := s.set.Find(r.Key, r.Digest); !held {
			s.remove(filepath.Join(s.records, name))
			delete(s.files, r.Digest)
		}
	}
	s.settle()
	return nil
}

func (s *Store) makeDir(dir string) error {
	if err := s.cfg.disk.MkdirAll(dir); err != nil {
		return fmt.Errorf("open store: %w", &DiskError{"make " + dir, s.cfg.Dir, err})
	}
	for _, d := range []string{dir, s.cfg.Dir, filepath.Dir(s.cfg.Dir)} {
		if err := s.cfg.disk.SyncDir(d); err != nil && d != filepath.Dir(s.cfg.Dir) {
			return fmt.Errorf("open store: %w", &DiskError{"sync " + d, s.cfg.Dir, err})
		}
	}
	return nil
}

// loadRecord reads and verifies one file; whatever is wrong with it is settled
// here.
func (s *Store) loadRecord(name string) (record.Record, bool) {
	path := filepath.Join(s.records, name)
	b, err := s.cfg.disk.ReadFile(path, record.MaxEnvelope+maxHead)
	if err != nil && !errors.Is(err, errTooLong) {
		s.log.Warn("record file cannot be read", "file", path, "err", err)
		s.hold(name, fmt.Sprintf("%s cannot be read (%v); it waits for the ring to bring it back", path, err))
		return record.Record{}, false
	}
	var env []byte
	if err == nil {
		env, err = decodeFile(recordTag, b)
	}
	if err != nil {
		s.putAside(s.records, name, corruptDir, err)
		return record.Record{}, false
	}
	r, err := record.Verify(env, s.cfg.Ring, s.trust)
	if err != nil {
		s.putAside(s.records, name, refusedDir, err)
		return record.Record{}, false
	}
	return r, true
}

// putAside moves a file into a folder beside it, where it is kept for ever.
func (s *Store) putAside(dir, name, into string, cause error) {
	from, to := filepath.Join(dir, name), filepath.Join(dir, into)
	target, err := s.moveInto(from, to)
	if err != nil {
		text := fmt.Sprintf("%s is of no use (%v) and cannot be put aside (%v)", from, cause, err)
		if into == corruptDir && dir == s.records {
			s.hold(name, text)
		} else {
			s.problem("%s", text)
		}
		return
	}
	s.log.Warn("file put aside", "file", from, "to", target, "err", cause)
	if dir != s.records {
		s.problem("%s was damaged (%v) and is now %s", from, cause, target)
	}
	// What lies in records/corrupt and records/refused is told by load.
}

// hold is a record that was here and cannot be read.
type hold struct {
	fileID
	text string
}

// hold notes that nothing older than the record of that file name is to be
// acted upon until it, or something newer, is here again.
func (s *Store) hold(name, text string) {
	id, ok := parseRecordName(name)
	if !ok {
		s.problem("%s", text)
		return
	}
	s.damaged[id.key] = append(s.damaged[id.key], hold{id, text})
}

func (s *Store) moveInto(from, dir string) (string, error) {
	d := s.cfg.disk
	if err := d.MkdirAll(dir); err != nil {
		return "", err
	}
	taken, err := d.ReadDir(dir)
	if err != nil {
		return "", err
	}
	base := filepath.Base(from)
	name := base
	for i := 1; slices.Contains(taken, name); i++ {
		name = fmt.Sprintf("%s.%d", base, i)
	}
	target := filepath.Join(dir, name)
	if err := d.Rename(from, target); err != nil {
		return "", err
	}
	// Should the move be lost in a crash, it is made again at the next start.
	for _, dir := range []string{dir, filepath.Dir(dir)} {
		if err := d.SyncDir(dir); err != nil {
			s.log.Warn("folder cannot be synced", "dir", dir, "err", err)
		}
	}
	return target, nil
}

// loadCorrupt learns from the names of damaged files, put aside now or in
// earlier runs, what was here.
func (s *Store) loadCorrupt() {
	dir := filepath.Join(s.records, corruptDir)
	names, err := s.cfg.disk.ReadDir(dir)
	if err != nil {
		s.problem("%s cannot be read: %v", dir, err)
	}
	for _, name := range names {
		base, _, _ := strings.Cut(name, recSuffix) // without the number of moveInto
		if id, ok := parseRecordName(base + recSuffix); ok {
			s.hold(base+recSuffix, fmt.Sprintf("generation %d of %s was damaged on disk and put aside as %s; it waits for the ring to bring it back",
				id.generation, id.key, filepath.Join(dir, name)))
		}
	}
}

// loadRefused takes back what was put aside for its signature, if the trusted
// keys have changed, and tells of the rest.
func (s *Store) loadRefused() {
	dir := filepath.Join(s.records, refusedDir)
	names, err := s.cfg.disk.ReadDir(dir)
	if err != nil {
		s.problem("%s cannot be read: %v", dir, err)
	}
	refused, why := 0, error(nil)
	for _, name := range names {
		path := filepath.Join(dir, name)
		b, err := s.cfg.disk.ReadFile(path, record.MaxEnvelope+maxHead)
		if err != nil {
			continue
		}
		env, err := decodeFile(recordTag, b)
		if err != nil {
			continue
		}
		r, err := record.Verify(env, s.cfg.Ring, s.trust)
		if err != nil {
			refused, why = refused+1, err
			continue
		}
		s.set.Offer(r)
		if _, held := s.set.Find(r.Key, r.Digest); held && s.files[r.Digest] == "" {
			if err := s.writeRecord(r); err != nil {
				s.problem("%s is trusted again, but cannot be taken back: %v", path, err)
				continue
			}
			s.log.Info("record taken back", "record", r.Key.String(), "generation", r.Generation)
		}
		s.remove(path)
	}
	if refused > 0 {
		s.problem("%d records on disk are not trusted (the last one: %v); they are kept in %s and come back when the keys do", refused, why, dir)
	}
}

func (s *Store) remove(path string) {
	if err := s.cfg.disk.Remove(path); err != nil {
		s.log.Warn("useless file cannot be removed", "file", path, "err", err)
	}
}

// problem notes something for status; s.mu is held.
func (s *Store) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.log.Warn("store problem", "reason", text)
	if len(s.problems) < maxProblems {
		s.problems = append(s.problems, text)
	}
}

// maxProblems keeps a dying disk from filling the status.
const maxProblems = 100

// Problems tells in words what is wrong with the files. What the ring has
// brought back since is no longer among it.
func (s *Store) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.problems)
	for _, holds := range s.damaged {
		for _, h := range holds {
			if len(out) < maxProblems {
				out = append(out, h.text)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
