package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd/agentd/api"
)

// segment is one file of whole lines, each an event as JSON. Its name is the
// number of its first event, so that names sort by age.
type segment struct {
	path  string
	first uint64
	size  int64 // bytes of whole lines
}

const suffix = ".jsonl"

func segmentAt(dir string, first uint64) segment {
	return segment{path: filepath.Join(dir, fmt.Sprintf("%020d%s", first, suffix)), first: first}
}

// files is what is on disk; one goroutine uses it.
type files struct {
	dir  string
	most int64     // bytes of all
	list []segment // oldest first; the last one is written to
	out  *os.File  // the last one; nil until something is written
}

// openFiles looks at the folder and mends the newest file. next is the number
// of the event that follows.
func openFiles(dir string, most int64) (_ files, next uint64, err error) {
	f := files{dir: dir, most: most}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return f, 0, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return f, 0, err
	}
	for _, e := range entries {
		first, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), suffix), 10, 64)
		if err != nil || e.Name() != filepath.Base(segmentAt(dir, first).path) || !e.Type().IsRegular() {
			continue // not ours
		}
		info, err := e.Info()
		if err != nil {
			return f, 0, err
		}
		s := segmentAt(dir, first)
		s.size = info.Size()
		f.list = append(f.list, s)
	}
	slices.SortFunc(f.list, func(a, b segment) int { return strings.Compare(a.path, b.path) })
	next = 1
	if len(f.list) > 0 {
		if next, err = f.mend(&f.list[len(f.list)-1]); err != nil {
			return f, 0, err
		}
	}
	return f, next, f.trim()
}

// mend cuts a half-written line off the end and returns the number after the
// last event.
func (f *files) mend(s *segment) (next uint64, err error) {
	text, err := os.ReadFile(s.path)
	if err != nil {
		return 0, err
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	if len(whole) < len(text) {
		if err := os.Truncate(s.path, int64(len(whole))); err != nil {
			return 0, err
		}
	}
	s.size = int64(len(whole))
	next = s.first
	for line := range bytes.Lines(whole) {
		if e, ok := decode(line); ok && e.Seq >= next {
			next = e.Seq + 1
		}
	}
	return next, nil
}

// decode reads one line; false when it is damaged.
func decode(line []byte) (api.Event, bool) {
	var e api.Event
	err := json.Unmarshal(line, &e)
	return e, err == nil && e.Seq > 0 && e.Seq < 1<<62
}

// append writes events; the first n of them are done with. After an error it
// can be tried again with the rest.
func (f *files) append(list []api.Event) (n int, err error) {
	for n < len(list) {
		var text []byte
		first, end := list[n].Seq, n
		for room := f.room(); end < len(list); end++ {
			line, err := json.Marshal(list[end])
			if err != nil {
				continue // a time beyond the year 9999, say: nothing that can be kept
			}
			if len(text)+len(line)+1 > room {
				if len(text) > 0 {
					break
				}
				room = f.full() // a new file, where a line always finds room
			}
			text = append(append(text, line...), '\n')
		}
		if err := f.write(first, text); err != nil {
			return n, err
		}
		n = end
	}
	return n, nil
}

// full is how large a file gets; a single line may be larger.
func (f *files) full() int { return int(f.most / segments) }

// room is what still fits into the newest file.
func (f *files) room() int {
	if len(f.list) == 0 {
		return f.full()
	}
	return f.full() - int(f.list[len(f.list)-1].size)
}

// write adds whole lines to the newest file, or to a new one when they don't
// fit. What was written in part before an error is cut off by the next one.
func (f *files) write(first uint64, text []byte) error {
	if len(f.list) == 0 || len(text) > f.room() && f.list[len(f.list)-1].size > 0 {
		f.close()
		f.list = append(f.list, segmentAt(f.dir, first))
		if err := f.trim(); err != nil {
			return err
		}
	}
	last := &f.list[len(f.list)-1]
	if f.out == nil {
		out, err := os.OpenFile(last.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return err
		}
		f.out = out
		if err := out.Truncate(last.size); err != nil {
			f.close()
			return err
		}
	}
	if _, err := f.out.Write(text); err != nil {
		f.close()
		return err
	}
	last.size += int64(len(text))
	return nil
}

// trim removes the oldest files until the rest, with room for the newest to
// grow, is within the limit.
func (f *files) trim() error {
	for len(f.list) > 1 {
		size := max(f.most/segments, f.list[len(f.list)-1].size)
		for _, s := range f.list[:len(f.list)-1] {
			size += s.size
		}
		if size <= f.most {
			return nil
		}
		if err := os.Remove(f.list[0].path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f.list = slices.Delete(f.list, 0, 1)
	}
	return nil
}

// close makes what was written last, and closes it.
func (f *files) close() {
	if f.out == nil {
		return
	}
	_ = f.out.Sync() // as good as it gets; nothing depends on it
	_ = f.out.Close()
	f.out = nil
}

// readLines calls emit for each event of a segment from offset on.
func readLines(s segment, offset int64, emit func(api.Event) error) error {
	file, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // trimmed meanwhile
	}
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, offset, s.size-offset))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		e, ok := decode(line)
		if !ok {
			continue // damaged; the others are not
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}
