package spec

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/agentd/agentd/spec/strict"
)

// literalHint tells those who mean the two braces themselves.
const literalHint = `one of node.name, node.address and node.labels.KEY; two braces that are meant as such are written {{ "{{" }}`

// problem is what is wrong with an expression.
type problem struct{ msg, hint string }

// expand replaces each {{ … }} in text by its value. An expression is
// node.name, node.address, node.labels.KEY, or text between double quotes,
// which stands for itself. value is asked for the others; what it answers is
// not expanded again.
func expand(text string, value func(expr string) (string, *problem)) (string, []problem) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	var out strings.Builder
	var problems []problem
	fail := func(rest, msg, hint string) {
		if lines := strings.Count(text, "\n"); lines > 0 {
			line := 1 + strings.Count(text[:len(text)-len(rest)], "\n")
			msg = fmt.Sprintf("in line %d of the text, %s", line, msg)
		}
		problems = append(problems, problem{msg, hint})
	}
	rest := text
	for {
		before, inside, found := strings.Cut(rest, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), problems
		}
		start := rest[len(before):]
		expr, quoted, after, closed := cutExpr(inside)
		if !closed {
			fail(start, "{{ without }}", literalHint)
			return out.String(), problems
		}
		rest = after
		if quoted {
			out.WriteString(expr)
			continue
		}
		v, p := value(expr)
		if p != nil {
			fail(start, p.msg, p.hint)
			continue
		}
		out.WriteString(v)
	}
}

// cutExpr splits what follows {{ into the expression and what follows its }}.
func cutExpr(s string) (expr string, quoted bool, after string, ok bool) {
	trimmed := strings.TrimLeft(s, " \t")
	if body, isText := strings.CutPrefix(trimmed, `"`); isText {
		if text, tail, found := strings.Cut(body, `"`); found {
			if rest, found := strings.CutPrefix(strings.TrimLeft(tail, " \t"), "}}"); found {
				return text, true, rest, true
			}
		}
	}
	expr, after, ok = strings.Cut(s, "}}")
	return strings.TrimSpace(expr), false, after, ok
}

// labelsPrefix is before the key in the expression for a label.
const labelsPrefix = "node.labels."

// known returns what is wrong with an expression, whatever the node.
func known(expr string) *problem {
	if key, ok := strings.CutPrefix(expr, labelsPrefix); ok && ValidLabelKey(key) {
		return nil
	}
	if expr == "node.name" || expr == "node.address" {
		return nil
	}
	const most = 40
	name := expr
	if r := []rune(name); len(r) > most {
		name = string(r[:most]) + "…"
	}
	if name == "" {
		return &problem{"{{ }} is empty", literalHint}
	}
	hint := literalHint
	if s := strict.Suggest(expr, []string{"node.name", "node.address", "node.labels.KEY"}); s != "" {
		hint = "did you mean {{ " + s + " }}?"
	}
	return &problem{"{{ " + name + " }} is not known", hint}
}

// asAddress is the tag of texts that hold an address before a port or a path.
const asAddress = "address"

// bracketed matches brackets that were written around an address.
var bracketed = regexp.MustCompile(`\[(\{\{[ \t]*node\.address[ \t]*\}\})\]`)

// expandField is expand for a text of a field with that template tag.
func expandField(text, template string, value func(expr string) (string, *problem)) (string, []problem) {
	if template != asAddress {
		return expand(text, value)
	}
	// IPv6 needs brackets and IPv4 must not have them; a file is for both.
	return expand(bracketed.ReplaceAllString(text, "$1"), func(expr string) (string, *problem) {
		v, p := value(expr)
		if expr == "node.address" && strings.Contains(v, ":") {
			v = "[" + v + "]"
		}
		return v, p
	})
}

// on returns the values of expressions on a node.
func on(n Node) func(string) (string, *problem) {
	return func(expr string) (string, *problem) {
		if p := known(expr); p != nil {
			return "", p
		}
		switch expr {
		case "node.name":
			return n.Name, nil
		case "node.address":
			if n.Address == "" {
				return "", &problem{"{{ node.address }}: this node has no address", ""}
			}
			return n.Address, nil
		}
		key := strings.TrimPrefix(expr, labelsPrefix)
		v, ok := n.Labels[key]
		if !ok {
			return "", &problem{"{{ " + expr + " }}: this node has no label " + key, ""}
		}
		return v, nil
	}
}

// sample returns values of the kind that a node has, for checks that need one.
// A label's is 1: good for a port, a tag, a number and part of a path.
func sample(expr string) (string, *problem) {
	switch expr {
	case "node.name":
		return "n1", nil
	case "node.address":
		return "192.0.2.1", nil // TEST-NET-1 of RFC 5737
	}
	return "1", known(expr)
}

// quoted returns a copy of d in whose texts no two braces are an expression.
func quoted(d Daemon) Daemon {
	d = clone(d)
	eachText(reflect.ValueOf(&d).Elem(), byIndex, func(_, s, template string) string {
		if template == "" {
			return s
		}
		return strings.ReplaceAll(s, "{{", `{{ "{{" }}`)
	})
	d.Literal = false
	return d
}

// namer returns the path of an element of the list at path.
type namer func(path string, list reflect.Value, i int) string

// byIndex names elements as a document's lines are found.
func byIndex(path string, _ reflect.Value, i int) string { return strict.Index(path, i) }

// byTarget names mounts and files by their target, as Diff does.
func byTarget(path string, list reflect.Value, i int) string {
	return fmt.Sprintf("%s[%s]", path, elementKey(list.Index(i), i))
}

// eachText visits every text within rv, which is addressable, in the order of
// the fields and sorted by key, and puts what visit returns in its place.
// template is the field's tag, "" when the text holds no expressions. Keys of
// maps are visited as well and stay.
func eachText(rv reflect.Value, name namer, visit func(path, text, template string) string) {
	texts{name, visit}.walk("", rv, "")
}

type texts struct {
	name  namer
	visit func(path, text, template string) string
}

func (t texts) walk(at string, rv reflect.Value, template string) {
	switch rv.Kind() {
	case reflect.String:
		if s := t.visit(at, rv.String(), template); s != rv.String() {
			rv.SetString(s)
		}
	case reflect.Slice:
		for i := range rv.Len() {
			t.walk(t.name(at, rv, i), rv.Index(i), template)
		}
	case reflect.Map:
		for _, k := range sortedKeys(rv) {
			here, key := strict.Join(at, k), reflect.ValueOf(k)
			t.visit(here, k, "")
			v := reflect.New(rv.Type().Elem()).Elem()
			v.Set(rv.MapIndex(key))
			t.walk(here, v, template)
			if !v.Equal(rv.MapIndex(key)) {
				rv.SetMapIndex(key, v)
			}
		}
	case reflect.Pointer:
		if !rv.IsNil() {
			t.walk(at, rv.Elem(), template)
		}
	case reflect.Struct:
		for i := range rv.NumField() {
			f := rv.Type().Field(i)
			if tag := f.Tag.Get("toml"); tag != "" && tag != "-" {
				t.walk(strict.Join(at, tag), rv.Field(i), cmp.Or(f.Tag.Get("template"), template))
			}
		}
	}
}

// clone returns a deep copy of v. What is nil stays nil, what is empty empty.
func clone[T any](v T) T {
	rv := reflect.ValueOf(&v).Elem()
	rv.Set(cloned(rv))
	return v
}

func cloned(rv reflect.Value) reflect.Value {
	out := reflect.New(rv.Type()).Elem()
	out.Set(rv)
	switch rv.Kind() {
	case reflect.Struct:
		for i := range rv.NumField() {
			out.Field(i).Set(cloned(rv.Field(i)))
		}
	case reflect.Slice:
		if !rv.IsNil() {
			out.Set(reflect.MakeSlice(rv.Type(), rv.Len(), rv.Len()))
			for i := range rv.Len() {
				out.Index(i).Set(cloned(rv.Index(i)))
			}
		}
	case reflect.Map:
		if !rv.IsNil() {
			out.Set(reflect.MakeMapWithSize(rv.Type(), rv.Len()))
			for _, k := range rv.MapKeys() {
				out.SetMapIndex(k, cloned(rv.MapIndex(k)))
			}
		}
	case reflect.Pointer:
		if !rv.IsNil() {
			out.Set(reflect.New(rv.Type().Elem()))
			out.Elem().Set(cloned(rv.Elem()))
		}
	}
	return out
}
