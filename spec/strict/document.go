package strict

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Document is a TOML source that was read, and the problems found in it.
type Document struct {
	File   string
	Errors *Errors
	root   map[string]any
	lines  map[string]int
}

// Read parses src. The problems of everything that is decoded out of the
// document later are added to errs. It returns nil, having added why, when src
// is not TOML.
func Read(src []byte, file string, errs *Errors) *Document {
	if len(src) > MaxSource {
		errs.Add(Error{File: file, Kind: Syntax,
			Msg: fmt.Sprintf("larger than %d MiB", MaxSource>>20)})
		return nil
	}
	root, err := parse(string(src))
	if err != nil {
		err.File = file
		errs.Add(*err)
		return nil
	}
	return &Document{File: file, Errors: errs, root: root, lines: scan(string(src))}
}

// FromMap wraps values that come from somewhere else than TOML, with the same
// dynamic types: string, bool, int64, float64, []any, map[string]any.
func FromMap(root map[string]any, errs *Errors) *Document {
	return &Document{Errors: errs, root: root}
}

// parse reads TOML, turning every failure of the library into an Error.
func parse(src string) (root map[string]any, failure *Error) {
	if deep(src) {
		return nil, &Error{Kind: Syntax, Msg: "nested too deeply"}
	}
	defer func() {
		// The library panics with "BUG" on sources that it did not foresee.
		if r := recover(); r != nil {
			root, failure = nil, &Error{Kind: Syntax, Msg: fmt.Sprintf("not TOML: %v", r)}
		}
	}()
	_, err := toml.Decode(src, &root)
	if err == nil {
		return root, nil
	}
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return nil, &Error{Kind: Syntax, Msg: strings.TrimPrefix(err.Error(), "toml: ")}
	}
	// The library counts a line end that should not be there as the next line's.
	line := pe.Position.Line
	if at := pe.Position.Start; line > 1 && at < len(src) && src[at] == '\n' {
		line = 1 + strings.Count(src[:at], "\n")
	}
	return nil, &Error{Line: max(1, line), Path: pe.LastKey, Kind: Syntax,
		Msg: pe.Message, Hint: syntaxHint(pe)}
}

// syntaxHint adds what to do about the mistakes that people make most.
func syntaxHint(pe toml.ParseError) string {
	switch msg := pe.Message; {
	case strings.Contains(msg, "has already been defined"), strings.Contains(msg, "already"):
		return "each key and table can be written once; repeat [[name]] for lists of tables"
	case strings.Contains(msg, "expected value but found"):
		return "text needs quotes"
	case strings.Contains(msg, "strings cannot contain newlines"):
		return `text of several lines goes between """`
	}
	return ""
}

// maxDepth bounds nested arrays and inline tables: the library recurses once
// for each, and nothing that people write comes near.
const maxDepth = 500

// deep reports whether brackets nest deeper than maxDepth. Brackets in strings
// and comments are counted too, for the source may not be TOML at all; what
// counts is only that text with that many unclosed brackets is refused.
func deep(src string) bool {
	depth := 0
	for i := range len(src) {
		switch src[i] {
		case '[', '{':
			if depth++; depth > maxDepth {
				return true
			}
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	return false
}

// Line returns the line of a path, or of its nearest parent, or 0.
func (d *Document) Line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

// Fail adds a problem with the value at path.
func (d *Document) Fail(path, msg, hint string) { d.add(Invalid, path, msg, hint) }

func (d *Document) add(kind Kind, path, msg, hint string) {
	d.Errors.Add(Error{File: d.File, Line: d.Line(path), Path: path, Msg: msg, Hint: hint, Kind: kind})
}

// Table is a table of a document.
type Table struct {
	doc   *Document
	path  string
	value map[string]any
}

// Root returns the document's top level.
func (d *Document) Root() Table { return Table{doc: d, value: d.root} }

// Keys returns the table's keys, sorted.
func (t Table) Keys() []string { return slices.Sorted(maps.Keys(t.value)) }

// Has reports whether the table has the key.
func (t Table) Has(key string) bool { _, ok := t.value[key]; return ok }

// Text returns the string at key, "" when there is none or something else.
func (t Table) Text(key string) string { s, _ := t.value[key].(string); return s }

// Fail adds a problem with the value at path within the table; "" is the table
// itself.
func (t Table) Fail(path, msg, hint string) { t.Problem(Error{Path: path, Msg: msg, Hint: hint}) }

// Problem adds a problem found elsewhere: its path, which is relative to the
// table, is completed, and file and line are filled in.
func (t Table) Problem(e Error) {
	e.Path = t.within(e.Path)
	e.File, e.Line = t.doc.File, t.doc.Line(e.Path)
	t.doc.Errors.Add(e)
}

func (t Table) within(path string) string {
	switch {
	case path == "":
		return t.path
	case t.path == "":
		return path
	}
	return t.path + "." + path
}

// Failed reports whether there is a problem at path within the table, or below.
func (t Table) Failed(path string) bool {
	path = t.within(path)
	for _, e := range t.doc.Errors.List {
		rest, ok := strings.CutPrefix(e.Path, path)
		if ok && e.File == t.doc.File && (path == "" || rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// Tables returns the tables of the array of tables at key. ok is false, with
// no problem added, when there is something else at key.
func (t Table) Tables(key string) (list []Table, ok bool) {
	path := Join(t.path, key)
	switch v := t.value[key].(type) {
	case []map[string]any:
		for i, m := range v {
			list = append(list, Table{t.doc, Index(path, i), m})
		}
		return list, true
	case []any:
		for i, e := range v {
			m, isTable := e.(map[string]any)
			if !isTable {
				return nil, false
			}
			list = append(list, Table{t.doc, Index(path, i), m})
		}
		return list, true
	}
	return nil, false
}

// Table returns the table at key. ok is false, with no problem added, when
// there is something else at key.
func (t Table) Table(key string) (inner Table, ok bool) {
	m, ok := t.value[key].(map[string]any)
	return Table{t.doc, Join(t.path, key), m}, ok
}
