package man

import "os"

// T is the part of testing.T that Golden needs.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// Golden fails when the file at path is not the page; with update, it writes it.
func Golden(t T, path string, page *Page, update bool) {
	t.Helper()
	if update {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page.String() {
		t.Errorf("%s is stale; write it anew: make man", path)
	}
}
