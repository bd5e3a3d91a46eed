package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/strict"
)

// dropIns is the folder of drop-ins, beside the configuration file.
const dropIns = "agentd.d"

// Loaded is a configuration that was read, checked and resolved.
type Loaded struct {
	Config
	// Origin is the file that each key which is not at its default came from,
	// by key path ("ring.bind").
	Origin map[string]string
	// Files are the files that were read: the named one, then its drop-ins in
	// the order in which they were merged.
	Files []string
}

// Load reads the configuration file at path and merges the drop-ins beside it,
// agentd.d/*.toml, in the order of their names: a key that a later file names
// replaces the earlier one, arrays and tables of labels too. The error has
// every problem of every file, as a *strict.Errors.
func Load(path string) (*Loaded, error) {
	var errs strict.Errors
	sources := readSources(path, &errs)
	host, err := os.Hostname()
	if err != nil {
		host = "" // told when the name is needed
	}
	loaded := merge(sources, host, &errs)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return loaded, nil
}

// source is one file's bytes.
type source struct {
	path string
	data []byte
}

// readSources reads the file at path and its drop-ins.
func readSources(path string, errs *strict.Errors) []source {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	files := []string{path}
	dir := filepath.Join(filepath.Dir(path), dropIns)
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil:
		if err := checkDir(dir); err != nil {
			addFileError(errs, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		addFileError(errs, openError(dir, err))
	}
	for _, e := range entries { // sorted by name
		// A leading dot is what editors call their own files.
		if name := e.Name(); strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			files = append(files, filepath.Join(dir, name))
		}
	}
	var out []source
	for i, f := range files {
		b, err := readTrusted(f, writableByOthers, strict.MaxSource)
		if err != nil {
			if fe := new(FileError); i == 0 && errors.Is(err, os.ErrNotExist) && errors.As(err, &fe) {
				fe.Fix = "agentctl init makes one for a new ring, agentctl join for one that is there; --config names another file"
			}
			addFileError(errs, err)
			continue
		}
		out = append(out, source{f, b})
	}
	return out
}

// addFileError adds a problem with a file as such.
func addFileError(errs *strict.Errors, err error) {
	var fe *FileError
	if !errors.As(err, &fe) {
		fe = &FileError{Msg: err.Error()}
	}
	errs.Add(strict.Error{File: fe.File, Msg: fe.Msg, Hint: fe.Fix})
}

// merge decodes the sources one over the other, checks and resolves the whole.
// It is pure. What it returns is only good when no problem was added.
func merge(sources []source, hostname string, errs *strict.Errors) *Loaded {
	l := &Loaded{Config: Default(), Origin: map[string]string{}}
	origin := map[string]strict.Table{}
	for _, s := range sources {
		l.Files = append(l.Files, s.path)
		doc := strict.Read(s.data, s.path, errs)
		if doc == nil {
			continue
		}
		root := doc.Root()
		root.Decode(&l.Config, strict.Schema{Aliases: aliases()})
		for _, section := range root.Keys() {
			table, _ := root.Table(section)
			for _, key := range table.Keys() {
				at := strict.Join(section, key)
				origin[at] = root
				l.Origin[at] = s.path
			}
		}
	}
	c := checker{origin: origin, errs: errs}
	if len(sources) > 0 {
		c.main = sources[0].path
	}
	c.check(&l.Config)
	c.resolve(&l.Config, hostname)
	return l
}

// aliases are names under which people look for our keys.
func aliases() map[string]string {
	return map[string]string{
		"node.hostname":     "name",
		"node.state_dir":    "data_dir",
		"ring.key":          "key_file",
		"ring.listen":       "bind",
		"ring.seeds":        "join",
		"ring.peers":        "join",
		"ring.address":      "bind, or advertise",
		"peer.listen":       "bind",
		"metrics.bind":      "listen",
		"metrics.address":   "listen",
		"api.path":          "socket",
		"api.listen":        "socket",
		"runtime.socket":    "address",
		"runtime.endpoint":  "address",
		"log.max_backups":   "max_files",
		"policy.caps":       "capabilities",
		"policy.volumes":    "host_paths",
		"policy.namespaces": "host_namespaces",
	}
}

// Print writes the configuration in effect as TOML, each key with the file
// that its value came from.
func (l *Loaded) Print(w io.Writer) {
	rv := reflect.ValueOf(l.Config)
	for i := range rv.NumField() {
		section := rv.Type().Field(i).Tag.Get("toml")
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "[%s]\n", section)
		table := rv.Field(i)
		for j := range table.NumField() {
			key := table.Type().Field(j).Tag.Get("toml")
			from := "default"
			if f, ok := l.Origin[strict.Join(section, key)]; ok {
				from = f
			}
			fmt.Fprintf(w, "%-48s # %s\n", key+" = "+printed(table.Field(j)), from)
		}
	}
}

// printed returns a value of the configuration as TOML.
func printed(rv reflect.Value) string {
	switch v := rv.Interface().(type) {
	case string:
		return strict.Quote(v)
	case []string:
		return strict.QuoteStrings(v)
	case spec.Size:
		return strict.Quote(v.String())
	case map[string]string:
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			pairs = append(pairs, strict.QuoteKey(k)+" = "+strict.Quote(v[k]))
		}
		if len(pairs) == 0 {
			return "{}"
		}
		return "{ " + strings.Join(pairs, ", ") + " }"
	}
	return fmt.Sprint(rv.Interface())
}
