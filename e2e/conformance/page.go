package main

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

const intro = `# Conformance

<!-- Written by "go run ./e2e/conformance" from the marks in the tests; do not edit. -->

What "one daemon on every node" has to mean: behaviours that the systems which
do this job are tested for, and those that their users ask for. Each row is held
by the tests beside it, which name it in a comment; taking such a test away
changes this page, and a test fails until it is written anew.

`

// render writes the page, or says which marks and rows do not fit together.
func render(sections []section, marks []mark) ([]byte, error) {
	byRow := map[string][]mark{}
	for _, m := range marks {
		byRow[m.Row] = append(byRow[m.Row], m)
	}
	known := map[string]bool{}
	var errs []error
	var body bytes.Buffer
	count := map[string]int{}
	for _, s := range sections {
		fmt.Fprintf(&body, "## %s\n\n| Row | Behaviour | Held by |\n|---|---|---|\n", s.Title)
		for _, r := range s.Rows {
			if known[r.ID] {
				errs = append(errs, fmt.Errorf("row %s is there twice", r.ID))
			}
			known[r.ID] = true
			held := tests(byRow[r.ID])
			switch {
			case held != "" && r.NotApplicable != "":
				errs = append(errs, fmt.Errorf("row %s is said not to apply, and %s has it", r.ID, byRow[r.ID][0].Test))
			case held != "":
				count["held"]++
			case r.NotApplicable != "":
				held = "not applicable: " + r.NotApplicable
				count["none"]++
			default:
				held = "not yet"
				if r.Later != "" {
					held += ": " + r.Later
				}
				count["later"]++
			}
			fmt.Fprintf(&body, "| %s | %s | %s |\n", r.ID, r.Text, held)
		}
		body.WriteString("\n")
	}
	for _, m := range marks {
		if !known[m.Row] {
			errs = append(errs, fmt.Errorf("%s: %s names row %s, which there is not", m.File, m.Test, m.Row))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	head := intro + fmt.Sprintf("Of %d rows %d are held by tests, %d do not apply here and %d are still to come.\n\n",
		len(known), count["held"], count["none"], count["later"])
	return append([]byte(head+strings.TrimRight(body.String(), "\n")), '\n'), nil
}

// tests are the links of a row, each test once.
func tests(marks []mark) string {
	var links []string
	for _, m := range marks {
		links = append(links, fmt.Sprintf("[%s](../%s) in %s", m.Test, m.File, path.Dir(m.File)))
	}
	slices.Sort(links)
	return strings.Join(slices.Compact(links), ", ")
}
