// Command conformance writes docs/conformance.md: what "one daemon on every
// node" has to mean, row by row, and which tests of ours hold each row.
//
// A test names the rows that it covers in a comment of its own line, in its doc
// comment or inside of it:
//
//	// conformance: A5 C1
//	// conformance: H3 — what follows a dash is a remark
//
// and a testscript does so with "# conformance: ...". Rows that no test names
// are told apart in rows.go: those that have no meaning here, and those that
// are still to come. The page is a function of the sources alone; the test of
// this package fails when it is stale.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// pagePath is where the page goes, from the root of the repository.
const pagePath = "docs/conformance.md"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	fs := flag.NewFlagSet("conformance", flag.ContinueOnError)
	root := fs.String("root", "", "the repository's `folder`; default: the one above that holds go.mod")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *root == "" {
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		if *root, err = findRoot(dir); err != nil {
			return err
		}
	}
	page, err := generate(*root)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*root, pagePath), page, 0o644)
}

func generate(root string) ([]byte, error) {
	marks, err := scan(root)
	if err != nil {
		return nil, err
	}
	return render(rows(), marks)
}

// findRoot is the nearest folder above that has a go.mod.
func findRoot(dir string) (string, error) {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("there is no go.mod above: run it in the repository")
		}
		dir = up
	}
}
