package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentd/agentd/internal/durable"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/strict"
)

// maxSpecFile is far beyond what fits into records of 64 KiB each.
const maxSpecFile = 16 << 20

// readAll reads at most limit bytes and refuses more.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return b, err
}

// readDaemons reads every daemon of the named files, folders (their *.toml) and
// stdin ("-"). It reports all problems of all files at once, each as a line on
// stderr, before it fails.
func (a *app) readDaemons(names []string) ([]spec.Daemon, error) {
	var files []string
	problems := 0
	complain := func(format string, args ...any) {
		problems++
		fmt.Fprintln(a.stderr, cleanLines(fmt.Sprintf(format, args...)))
	}
	for _, name := range names {
		list, err := expand(name)
		if err != nil {
			complain("%v", err)
		}
		files = append(files, list...)
	}
	var all []spec.Daemon
	from := map[string]string{}
	for _, file := range files {
		daemons, err := a.readFile(file)
		var found *strict.Errors
		if errors.As(err, &found) {
			for _, one := range found.List {
				complain("%v", one)
			}
			continue
		}
		if err != nil {
			complain("%v", err)
			continue
		}
		for _, d := range daemons {
			if other, twice := from[d.Name]; twice {
				complain("%s: daemon %q is in %s too", shown(file), d.Name, shown(other))
				continue
			}
			from[d.Name] = file
			all = append(all, d)
		}
	}
	if problems > 0 {
		return nil, fmt.Errorf("found %s in %s", plural(problems, "error"), plural(max(len(files), 1), "file"))
	}
	return all, nil
}

// expand lists the files that a name stands for.
func expand(name string) ([]string, error) {
	if name == "-" {
		return []string{"-"}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, readError(err)
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, readError(err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: the folder holds no .toml file", name)
	}
	slices.Sort(files)
	return files, nil
}

func (a *app) readFile(name string) ([]spec.Daemon, error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, readError(err)
		}
		defer f.Close()
		in = f
	}
	src, err := readAll(in, maxSpecFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown(name), err)
	}
	return spec.Parse(src, shown(name))
}

// readError words a path error as the lines of a file's problems are.
func readError(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return fmt.Errorf("%s: %w", pathErr.Path, pathErr.Err)
	}
	return err
}

func shown(file string) string {
	if file == "-" {
		return "stdin"
	}
	return file
}

// newFile is a file that is to be made, and must not be there.
type newFile struct {
	path string
	data []byte
	mode fs.FileMode
	note string // for the list of what was written
}

// existing returns the first of the files that is there already.
func existing(files []newFile) (string, bool) {
	for _, f := range files {
		if _, err := os.Lstat(f.path); err == nil {
			return f.path, true
		}
	}
	return "", false
}

// writeNew makes all files or none: it never overwrites, and takes back what it
// made when one fails.
func writeNew(files []newFile) (undo func(), err error) {
	var made []string
	undo = func() {
		for _, path := range made {
			_ = os.Remove(path)
		}
	}
	for _, f := range files {
		if err := writeOne(f); err != nil {
			undo()
			return nil, fmt.Errorf("write %s: %w", f.path, err)
		}
		made = append(made, f.path)
	}
	return undo, nil
}

func writeOne(f newFile) (err error) {
	dir := filepath.Dir(f.path)
	dirMode := fs.FileMode(0o755)
	if filepath.Base(f.path) == "operator.key" {
		dirMode = 0o700
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	out, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.path)
		}
	}()
	_, err = out.Write(f.data)
	if err == nil {
		err = out.Chmod(f.mode) // whatever the umask left
	}
	if err == nil {
		err = out.Sync()
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	return err
}
