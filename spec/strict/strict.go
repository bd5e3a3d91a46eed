// Package strict decodes TOML that people write: it takes nothing that it does
// not know, and it tells everything that is wrong in one go.
//
// Promises: an unknown key, a value of the wrong type and a key that is not
// supported yet are errors, each with file, line, full key path and, where one
// is near, what was probably meant. All problems of a document are reported
// together; only a syntax error (a duplicate key is one) hides those after it.
// Nothing here keeps state; a Document may be read by many goroutines, and
// collects problems for one.
package strict

import (
	"fmt"
	"sort"
	"strings"
)

// MaxSource bounds a document, in bytes: far more than people write, far less
// than what hurts to parse.
const MaxSource = 8 << 20

// Kind tells problems apart for those who branch on them.
type Kind int

const (
	Invalid Kind = iota // a value that is wrong
	Syntax              // not TOML
	Unknown             // a key that does not exist
)

// Error is one problem of a document.
type Error struct {
	File string
	Line int    // from 1; 0 when it concerns no line
	Path string // daemon[1].mounts[0].target; empty when it concerns no key
	Msg  string
	Hint string // what to do, or what was probably meant; may be empty
	Kind Kind
}

// Error returns "FILE:LINE: path: msg (hint)", leaving out what is empty.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		if e.File == "" {
			b.WriteString("line ")
		} else {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%d", e.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteByte(')')
	}
	return b.String()
}

// Errors is every problem that was found. The zero value is ready to use.
type Errors struct {
	List []Error
}

// Error prints one problem per line.
func (e *Errors) Error() string {
	lines := make([]string, len(e.List))
	for i, one := range e.List {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As and errors.Is each problem.
func (e *Errors) Unwrap() []error {
	out := make([]error, len(e.List))
	for i, one := range e.List {
		out[i] = one
	}
	return out
}

// Add appends a problem.
func (e *Errors) Add(one Error) { e.List = append(e.List, one) }

// Err returns e with its problems in the order of files and lines, each once,
// or nil when there are none.
func (e *Errors) Err() error {
	if e == nil || len(e.List) == 0 {
		return nil
	}
	order := map[string]int{} // files in the order of their first problem
	for _, one := range e.List {
		if _, ok := order[one.File]; !ok {
			order[one.File] = len(order)
		}
	}
	sort.SliceStable(e.List, func(i, j int) bool {
		a, b := e.List[i], e.List[j]
		if a.File != b.File {
			return order[a.File] < order[b.File]
		}
		return a.Line < b.Line
	})
	kept := e.List[:0]
	seen := map[Error]bool{}
	for _, one := range e.List {
		if !seen[one] {
			seen[one] = true
			kept = append(kept, one)
		}
	}
	e.List = kept
	return e
}

// Join appends a key to a path, quoted when it is not a bare key.
func Join(path, key string) string {
	if path == "" {
		return quoteKey(key)
	}
	return path + "." + quoteKey(key)
}

// Index appends an index, from 0, to a path.
func Index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
