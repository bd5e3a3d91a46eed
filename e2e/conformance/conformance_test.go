package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The page in docs says what the tests say.
func TestPageIsFresh(t *testing.T) {
	root := filepath.Join("..", "..")
	want, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, pagePath))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is stale; write it anew with: go run ./e2e/conformance", pagePath)
	}
}

func TestMarks(t *testing.T) {
	for _, c := range []struct {
		name, file, src string
		want            []mark
		err             string
	}{
		{
			name: "in a doc comment, several to a line, with a remark", file: "a_test.go",
			src:  "package a\n\n// TestX holds.\n//\n// conformance: A1 B2, C3 — as far as it goes\nfunc TestX() {}\n",
			want: []mark{{"A1", "TestX", "a_test.go"}, {"B2", "TestX", "a_test.go"}, {"C3", "TestX", "a_test.go"}},
		},
		{
			name: "inside of a function", file: "a_test.go",
			src:  "package a\n\nfunc TestX() {\n\t// conformance: U10\n}\n",
			want: []mark{{"U10", "TestX", "a_test.go"}},
		},
		{name: "in no function", file: "a_test.go", src: "package a\n\n// conformance: A1\n\nvar x int\n", err: "belongs to no function"},
		{name: "no row's name", file: "a_test.go", src: "package a\n\n// conformance: A1 sometimes\nfunc TestX() {}\n", err: `"sometimes" is no row's name`},
		{name: "no row", file: "a_test.go", src: "package a\n\n// conformance:\nfunc TestX() {}\n", err: "without a row"},
		{
			name: "in a script", file: "x/y.txtar", src: "# conformance: H2\nexec true\n",
			want: []mark{{"H2", "y.txtar", "x/y.txtar"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			find := inGo
			if strings.HasSuffix(c.file, ".txtar") {
				find = inScript
			}
			got, err := find(c.file, c.src)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("got %v, want %v", got[i], c.want[i])
				}
			}
		})
	}
}

// Rows and marks that do not fit together are an error, not a page.
func TestPageErrors(t *testing.T) {
	sections := []section{{"X", []row{{ID: "A1", Text: "one"}, {ID: "A2", Text: "two", NotApplicable: "why"}, {ID: "A3", Text: "three", Later: "that"}}}}
	page, err := render(sections, []mark{{"A1", "TestX", "x/x_test.go"}, {"A1", "TestX", "x/x_test.go"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Of 3 rows 1 are held by tests, 1 do not apply here and 1 are still to come",
		"| A1 | one | [TestX](../x/x_test.go) in x |\n", "| A2 | two | not applicable: why |\n", "| A3 | three | not yet: that |\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for _, m := range []mark{{"A2", "TestX", "x/x_test.go"}, {"A9", "TestX", "x/x_test.go"}} {
		if _, err := render(sections, []mark{m}); err == nil {
			t.Errorf("mark %v makes a page", m)
		}
	}
	if _, err := render(append(sections, sections...), nil); err == nil {
		t.Error("rows that are there twice make a page")
	}
}
