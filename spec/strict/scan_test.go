package strict

import (
	"strings"
	"testing"
)

func TestScanFindsLines(t *testing.T) {
	tests := []struct {
		name string
		src  string
		want map[string]int
	}{
		{"keys, comments and blank lines", "# one\n\na = 1 # two\nb = 2\n", map[string]int{"a": 3, "b": 4}},
		{"tables", "a = 1\n[t]\nb = 2\n[t.u]\nc = 3", map[string]int{"a": 1, "t": 2, "t.b": 3, "t.u": 4, "t.u.c": 5}},
		{"a table that was implied first", "[t.u]\nc = 1\n[t]\nd = 2", map[string]int{"t.u": 1, "t": 3, "t.d": 4}},
		{"arrays of tables with tables below", "[[d]]\nn = 1\n[[d.m]]\nx = 1\n[[d.m]]\nx = 2\n[d.r]\ny = 3\n[[d]]\n[[d.m]]\nx = 3",
			map[string]int{"d[0]": 1, "d[0].n": 2, "d[0].m[0].x": 4, "d[0].m[1]": 5, "d[0].m[1].x": 6,
				"d[0].r.y": 8, "d[1]": 9, "d[1].m[0].x": 11}},
		{"dotted keys, spaces around the dots", "a . b.\"c\" = 1\na.d = 2", map[string]int{"a": 1, "a.b": 1, "a.b.c": 1, "a.d": 2}},
		{"quoted keys", "\"a.b\" = 1\n'c d' = 2\n\"\\u0065\\t\" = 3", map[string]int{`"a.b"`: 1, `"c d"`: 2, `"e\t"`: 3}},
		{"an inline table over several lines", "a = {\n  b = 1, # no\n  c = { d = 2 },\n}\ne = 3",
			map[string]int{"a": 1, "a.b": 2, "a.c.d": 3, "e": 5}},
		{"arrays over several lines", "a = [\n  1,\n  # ]\n  [\n 2 ],\n]\nb = 1",
			map[string]int{"a[0]": 2, "a[1]": 4, "a[1][0]": 5, "b": 7}},
		{"an array of inline tables", "m = [\n {k = 1},\n {k = 2}\n]", map[string]int{"m[0].k": 2, "m[1].k": 3}},
		{"brackets, quotes and hashes in strings", "a = \"]} # \\\" \\\\\"\nb = ']} # \\'\nc = 1", map[string]int{"b": 2, "c": 3}},
		{"multi-line strings that look like TOML", "a = \"\"\"\nb = 1\n[x]\n\\\"\"\" \"\" \"\"\"\"\nc = '''\nd = 1'''''\ne = 1",
			map[string]int{"a": 1, "c": 5, "e": 7}},
		{"Windows line ends and a byte order mark", "\ufeffa = 1\r\n[t]\r\nb = 2\r\n", map[string]int{"a": 1, "t": 2, "t.b": 3}},
		{"dates and floats", "a = 1979-05-27 07:32:00\nb = [1.5e3, +inf]\nc = 1", map[string]int{"a": 1, "b[1]": 2, "c": 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parse(tt.src); err != nil {
				t.Fatalf("the example is not TOML: %v", err)
			}
			got := scan(tt.src)
			for path, line := range tt.want {
				if got[path] != line {
					t.Errorf("%s is at line %d, want %d", path, got[path], line)
				}
			}
		})
	}
}

// Whatever the library accepts, the scanner must know the line of.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		"a = 1", "[a]\nb = [1, {c = 2}]", "[[a]]\n[a.b]\n[[a]]", "a.b.c = '''x'''", `"\u00e9" = """x"""""`,
		"a = [[[]]]", "a = {}\n[b]", "\xef\xbb\xbfa=1", "'' = 1", "a = 1979-05-27T07:32:00Z", "a={b.c=1,\n}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		root, err := parse(src)
		if err != nil {
			return
		}
		lines, most := scan(src), 1+strings.Count(src, "\n")
		walk(root, "", func(path string) {
			if line := lines[path]; line < 1 || line > most {
				t.Errorf("%s is at line %d of %d", path, line, most)
			}
		})
	})
}

func walk(v any, path string, visit func(string)) {
	if path != "" {
		visit(path)
	}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			walk(e, Join(path, k), visit)
		}
	case []any:
		for i, e := range v {
			walk(e, Index(path, i), visit)
		}
	case []map[string]any:
		for i, e := range v {
			walk(e, Index(path, i), visit)
		}
	}
}
