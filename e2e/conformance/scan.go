package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// mark is one row named by one test.
type mark struct {
	Row  string
	Test string // function, or file of a testscript
	File string // from the root, with slashes
}

// scan finds every mark below root, in the order of the files.
func scan(root string) ([]mark, error) {
	var all []mark
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			return skip(root, path, d.Name())
		}
		src := ""
		switch {
		case strings.HasPrefix(rel, "e2e/conformance/"): // speaks of marks, and has none
		case strings.HasSuffix(rel, ".go"), strings.HasSuffix(rel, ".txtar"):
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			src = string(b)
		}
		if !strings.Contains(src, "conformance:") {
			return nil
		}
		find := inGo
		if strings.HasSuffix(rel, ".txtar") {
			find = inScript
		}
		found, err := find(rel, src)
		all = append(all, found...)
		return err
	})
	return all, err
}

// skip leaves out hidden folders, test data other than scripts, and modules of
// their own.
func skip(root, path, name string) error {
	if path == root {
		return nil
	}
	if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || strings.HasPrefix(name, ".") || name == "bin" || name == "dist" {
		return fs.SkipDir
	}
	return nil
}

// inGo finds the marks of a Go file; each belongs to the function that it
// stands in or above.
func inGo(file, src string) ([]mark, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var all []mark
	for _, group := range tree.Comments {
		for _, c := range group.List {
			text, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(c.Text, "//")), "conformance:")
			if !ok {
				continue
			}
			where := fmt.Sprintf("%s:%d", file, set.Position(c.Pos()).Line)
			test := ""
			for _, decl := range tree.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && (f.Doc == group || f.Pos() <= c.Pos() && c.Pos() < f.End()) {
					test = f.Name.Name
				}
			}
			if test == "" {
				return nil, fmt.Errorf("%s: this mark belongs to no function", where)
			}
			ids, err := idsIn(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", where, err)
			}
			for _, id := range ids {
				all = append(all, mark{Row: id, Test: test, File: file})
			}
		}
	}
	return all, nil
}

// inScript finds the marks of a testscript; each belongs to the whole of it.
func inScript(file, src string) ([]mark, error) {
	var all []mark
	for line := range strings.Lines(src) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "# conformance:")
		if !ok {
			continue
		}
		ids, err := idsIn(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, id := range ids {
			all = append(all, mark{Row: id, Test: filepath.Base(file), File: file})
		}
	}
	return all, nil
}

// idsIn reads row names up to a dash.
func idsIn(text string) ([]string, error) {
	for _, dash := range []string{"—", "–", " - ", ":"} {
		text, _, _ = strings.Cut(text, dash)
	}
	ids := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
	if len(ids) == 0 {
		return nil, fmt.Errorf("a mark without a row")
	}
	for _, id := range ids {
		if len(id) < 2 || !strings.ContainsRune("ABCDEFGHU", rune(id[0])) || strings.Trim(id[1:], "0123456789") != "" {
			return nil, fmt.Errorf("%q is no row's name; a remark comes after a dash", id)
		}
	}
	return ids, nil
}
