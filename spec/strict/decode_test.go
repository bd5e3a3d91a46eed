package strict

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

type inner struct {
	Memory int64             `toml:"memory"`
	Labels map[string]string `toml:"labels"`
	Depth  int               `toml:"-"`
}

type outer struct {
	Name   string   `toml:"name"`
	Args   []string `toml:"args"`
	CPU    float64  `toml:"cpu"`
	Weight uint64   `toml:"weight"`
	On     bool     `toml:"on"`
	Inner  inner    `toml:"inner"`
	Items  []inner  `toml:"items"`
}

var testSchema = Schema{
	Aliases: map[string]string{"cmd": "args"},
}

func decodeOuter(src string) (outer, error) {
	var errs Errors
	var out outer
	if doc := Read([]byte(src), "f.toml", &errs); doc != nil {
		doc.Root().Decode(&out, testSchema)
	}
	return out, errs.Err()
}

func TestDecode(t *testing.T) {
	got, err := decodeOuter("name = 'x'\nargs = ['a']\ncpu = 2\nweight = 3\non = true\n" +
		"items = [{memory = 1}]\n[inner]\nmemory = 4\n[inner.labels]\n\"a.b\" = 'c'\n")
	if err != nil {
		t.Fatal(err)
	}
	want := outer{Name: "x", Args: []string{"a"}, CPU: 2, Weight: 3, On: true, Items: []inner{{Memory: 1}},
		Inner: inner{Memory: 4, Labels: map[string]string{"a.b": "c"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDecodeReplacesAndKeeps(t *testing.T) {
	out := outer{Name: "kept", Args: []string{"old", "older"}, Inner: inner{Labels: map[string]string{"old": "1"}, Memory: 7}}
	var errs Errors
	Read([]byte("args = ['new']\ninner.labels = {new = '2'}"), "", &errs).Root().Decode(&out, Schema{})
	want := outer{Name: "kept", Args: []string{"new"}, Inner: inner{Labels: map[string]string{"new": "2"}, Memory: 7}}
	if err := errs.Err(); err != nil || !reflect.DeepEqual(out, want) {
		t.Errorf("got %+v and %v, want %+v", out, err, want)
	}
}

// Every problem is told, in the order of the lines.
func TestDecodeTellsEverything(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"a typing error", "naem = 'x'", "f.toml:1: naem: unknown key (did you mean name?)"},
		{"another system's word", "cmd = ['x']", "f.toml:1: cmd: unknown key (here it is called args)"},
		{"a key of another table", "memory = 1", "f.toml:1: memory: unknown key (did you mean inner.memory?)"},
		{"a top-level key below a table", "[inner]\ncpu = 1", "f.toml:2: inner.cpu: unknown key (cpu belongs above the first [table])"},
		{"nothing near", "xyzzy = 1", "f.toml:1: xyzzy: unknown key"},
		{"an untagged field is no key", "[inner]\nDepth = 1", "f.toml:2: inner.Depth: unknown key"},
		{"letter case counts", "Name = 'x'", "f.toml:1: Name: unknown key (did you mean name?)"},
		{"a number for a text", "name = 5", `f.toml:1: name: needs a string, not the number 5 (write it in quotes: "5")`},
		{"a text for a number", "weight = '5'", `f.toml:1: weight: needs an integer, not the string "5" (write it without quotes)`},
		{"a text for an array", "args = 'a'", `f.toml:1: args: needs an array, not the string "a" (write ["a"])`},
		{"a table for an array", "args = {a = 1}", `f.toml:1: args: needs an array, not a table`},
		{"one bad element", "args = [\n'a',\n5]", `f.toml:3: args[1]: needs a string, not the number 5 (write it in quotes: "5")`},
		{"a table where tables belong", "[items]\nmemory = 1", "f.toml:1: items: needs an array of tables ([[items]]), not a table"},
		{"a value where a table belongs", "inner = 1", "f.toml:1: inner: needs a table, not the number 1"},
		{"a key in a list of tables", "[[items]]\n[[items]]\nmemroy = 1", "f.toml:3: items[1].memroy: unknown key (did you mean memory?)"},
		{"a map's value", "[inner.labels]\n\"x/y\" = 1", `f.toml:2: inner.labels."x/y": needs a string, not the number 1 (write it in quotes: "1")`},
		{"negative", "weight = -1", "f.toml:1: weight: -1 is negative"},
		{"no number at all", "cpu = nan", "f.toml:1: cpu: needs a finite number"},
		{"all at once", "naem = 1\nargs = 2\n[inner]\nmemory = 'x'\nz = 1",
			"f.toml:1: naem: unknown key (did you mean name?)\n" +
				"f.toml:2: args: needs an array, not the number 2\n" +
				"f.toml:4: inner.memory: needs an integer, not the string \"x\" (write it without quotes)\n" +
				"f.toml:5: inner.z: unknown key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeOuter(tt.src)
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", err, tt.want)
			}
		})
	}
}

func TestSyntaxErrors(t *testing.T) {
	tests := []struct {
		name, src string
		line      int
		msg       string // a part of it
	}{
		{"no value", "a = 1\nname =\n", 2, "expected value"},
		{"no quotes", "a = 1\n\nname = x\n", 3, "expected value"},
		{"a key twice", "name = 'a'\nargs = []\nname = 'b'\n", 3, "already been defined"},
		{"a table twice", "[inner]\n[items]\n[inner]\n", 3, "already been defined"},
		{"an open string", "name = 'a\nx = 1", 1, "newline"},
		{"bytes that are no text", "name = '\xff'", 1, "UTF-8"},
		{"nested too deeply", "a = " + strings.Repeat("[", 100_000), 0, "nested too deeply"},
		{"too large", strings.Repeat("#", MaxSource+1), 0, "larger than 8 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeOuter(tt.src)
			var one Error
			if !errors.As(err, &one) {
				t.Fatalf("got %v", err)
			}
			if one.Kind != Syntax || one.Line != tt.line || !strings.Contains(one.Msg, tt.msg) || one.File != "f.toml" {
				t.Errorf("got %+v, want line %d and %q", one, tt.line, tt.msg)
			}
		})
	}
}

func TestErrorsAreSortedAndTold(t *testing.T) {
	var e Errors
	if e.Err() != nil {
		t.Error("no problems are no error")
	}
	for _, one := range []Error{{File: "b", Line: 2, Msg: "x"}, {File: "a", Line: 3, Msg: "y"},
		{File: "b", Line: 1, Msg: "z"}, {File: "b", Line: 2, Msg: "x"}, {Msg: "m", Path: "p"}} {
		e.Add(one)
	}
	want := "b:1: z\nb:2: x\na:3: y\np: m"
	if got := e.Err().Error(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSuggest(t *testing.T) {
	words := []string{"name", "image", "memory", "memory_reserve", "read_only", "pid", "network", "env", "args", "nodes"}
	tests := []struct{ word, want string }{
		{"naem", "name"},          // letters swapped
		{"imag", "image"},         // one missing
		{"mem", "memory"},         // an abbreviation
		{"readOnly", "read_only"}, // another style
		{"read-only", "read_only"},
		{"netwrok", "network"},
		{"environ", ""}, // further than a third
		{"x", ""},
		{"", ""},
		{"go", ""}, // of two letters each, any two are alike
		{"foobar", ""},
	}
	for _, tt := range tests {
		if got := Suggest(tt.word, words); got != tt.want {
			t.Errorf("Suggest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}

type preset struct {
	Size *int64 `toml:"size"`
	Text string `toml:"text"`
}

func (p *preset) Preset() { p.Text = "default" }

// A pointer is nil without its key, zero when the key says so, and a table
// behind one starts out with its defaults.
func TestDecodePointers(t *testing.T) {
	var out struct {
		A *preset `toml:"a"`
		B *preset `toml:"b"`
		C *preset `toml:"c"`
	}
	var errs Errors
	Read([]byte("[a]\nsize = 0\n[b]\ntext = ''\nsize = 'x'"), "f", &errs).Root().Decode(&out, Schema{})
	zero := int64(0)
	if !reflect.DeepEqual(out.A, &preset{Size: &zero, Text: "default"}) || out.B == nil || out.B.Text != "" || out.C != nil {
		t.Errorf("got %+v", out)
	}
	if err := errs.Err(); err == nil || !strings.HasPrefix(err.Error(), `f:5: b.size: needs an integer`) {
		t.Errorf("got %v", err)
	}
}

func TestFailed(t *testing.T) {
	var errs Errors
	root := Read([]byte("[a]\nb = 1\nbc = 2"), "f", &errs).Root()
	root.Fail("a.bc", "is wrong", "")
	for path, want := range map[string]bool{"": true, "a": true, "a.bc": true, "a.b": false, "b": false} {
		if got := root.Failed(path); got != want {
			t.Errorf("%q failed: %v", path, got)
		}
	}
}
