package strict

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Schema is what a table's struct tags do not say. Keys are paths without
// indexes, from the table that is decoded.
type Schema struct {
	// Aliases are what other systems call our keys: "entrypoint": "command".
	Aliases map[string]string
	// Narrow are tables that take some of the keys of the top level, with the
	// words for those who write another one in them.
	Narrow map[string]string
}

// Decode fills dst, a pointer to a struct with toml tags, from the table. Only
// what the table names is set: a present array or map replaces the one in dst.
// Problems go to the document's Errors; dst then holds whatever was fine.
//
// Fields may be strings, bools, numbers, slices, structs, maps with string keys,
// pointers to these (nil when the key is missing) and types that implement
// toml.Unmarshaler.
func (t Table) Decode(dst any, schema Schema) {
	rv := reflect.ValueOf(dst)
	if rv.Kind() != reflect.Pointer || rv.Elem().Kind() != reflect.Struct {
		panic("strict: Decode needs a pointer to a struct") // a programming error
	}
	d := decoder{doc: t.doc, schema: schema, root: rv.Elem().Type()}
	d.table(t.path, "", t.value, rv.Elem())
}

// Preset is implemented by types that start out with their defaults when a
// table of a document makes a pointer to them.
type Preset interface{ Preset() }

type decoder struct {
	doc    *Document
	schema Schema
	root   reflect.Type
}

// table decodes a table into a struct. path is where it is in the document,
// key where it is in the schema.
func (d *decoder) table(path, key string, table map[string]any, rv reflect.Value) {
	fields := fieldsOf(rv.Type())
	for _, name := range slices.Sorted(maps.Keys(table)) {
		at, schemaKey := Join(path, name), Join(key, name)
		i, ok := fields[name]
		if !ok {
			d.doc.add(Unknown, at, "unknown key", d.hint(key, name, fields))
			continue
		}
		d.value(at, schemaKey, table[name], rv.Field(i))
	}
}

// value decodes one value.
func (d *decoder) value(path, key string, v any, rv reflect.Value) {
	if u, ok := rv.Addr().Interface().(toml.Unmarshaler); ok {
		if err := u.UnmarshalTOML(v); err != nil {
			d.doc.Fail(path, err.Error(), "")
		}
		return
	}
	switch rv.Kind() {
	case reflect.String:
		if s, ok := v.(string); ok {
			rv.SetString(s)
			return
		}
		d.wrong(path, "a string", v)
	case reflect.Bool:
		if b, ok := v.(bool); ok {
			rv.SetBool(b)
			return
		}
		d.wrong(path, "true or false", v)
	case reflect.Int, reflect.Int64:
		n, ok := v.(int64)
		switch {
		case !ok:
			d.wrong(path, "an integer", v)
		case rv.OverflowInt(n):
			d.doc.Fail(path, fmt.Sprintf("%d is too large", n), "")
		default:
			rv.SetInt(n)
		}
	case reflect.Uint64:
		n, ok := v.(int64)
		switch {
		case !ok:
			d.wrong(path, "an integer", v)
		case n < 0:
			d.doc.Fail(path, fmt.Sprintf("%d is negative", n), "")
		default:
			rv.SetUint(uint64(n))
		}
	case reflect.Float64:
		switch n := v.(type) {
		case float64:
			if math.IsNaN(n) || math.IsInf(n, 0) {
				d.doc.Fail(path, "needs a finite number", "")
				return
			}
			rv.SetFloat(n)
		case int64:
			rv.SetFloat(float64(n))
		default:
			d.wrong(path, "a number", v)
		}
	case reflect.Slice:
		d.slice(path, key, v, rv)
	case reflect.Map:
		d.mapping(path, key, v, rv)
	case reflect.Pointer:
		made := reflect.New(rv.Type().Elem())
		if p, ok := made.Interface().(Preset); ok {
			p.Preset()
		}
		d.value(path, key, v, made.Elem())
		rv.Set(made)
	case reflect.Struct:
		if m, ok := v.(map[string]any); ok {
			d.table(path, key, m, rv)
			return
		}
		d.wrong(path, "a table", v)
	default:
		panic("strict: no decoding into " + rv.Type().String()) // a programming error
	}
}

func (d *decoder) slice(path, key string, v any, rv reflect.Value) {
	var items []any
	switch list := v.(type) {
	case []any:
		items = list
	case []map[string]any:
		for _, m := range list {
			items = append(items, m)
		}
	default:
		what := "an array"
		if rv.Type().Elem().Kind() == reflect.Struct {
			what = "an array of tables ([[" + strings.TrimPrefix(path, ".") + "]])"
		}
		d.wrong(path, what, v)
		return
	}
	out := reflect.MakeSlice(rv.Type(), len(items), len(items))
	for i, item := range items {
		d.value(Index(path, i), key, item, out.Index(i))
	}
	rv.Set(out)
}

func (d *decoder) mapping(path, key string, v any, rv reflect.Value) {
	table, ok := v.(map[string]any)
	if !ok {
		d.wrong(path, "a table", v)
		return
	}
	out := reflect.MakeMapWithSize(rv.Type(), len(table))
	for _, name := range slices.Sorted(maps.Keys(table)) {
		item := reflect.New(rv.Type().Elem()).Elem()
		d.value(Join(path, name), Join(key, name), table[name], item)
		out.SetMapIndex(reflect.ValueOf(name).Convert(rv.Type().Key()), item)
	}
	rv.Set(out)
}

// wrong reports a value of the wrong type.
func (d *decoder) wrong(path, want string, got any) {
	hint := ""
	switch v := got.(type) {
	case int64, float64, bool:
		if want == "a string" {
			hint = fmt.Sprintf("write it in quotes: \"%v\"", v)
		}
	case string:
		switch want {
		case "an array":
			hint = "write " + QuoteStrings([]string{v})
		case "an integer", "a number", "true or false":
			hint = "write it without quotes"
		}
	}
	d.doc.Fail(path, "needs "+want+", not "+describe(got), hint)
}

// hint guesses what an unknown key was meant to be: a key of the same table by
// another spelling, what another system calls it, or a key of another table.
func (d *decoder) hint(table, name string, fields map[string]int) string {
	if ours := d.schema.Aliases[Join(table, name)]; ours != "" {
		return "here it is called " + ours
	}
	names := slices.Collect(maps.Keys(fields))
	if h := didYouMean(name, names); h != "" {
		return h
	}
	if table != "" {
		if _, ok := fieldsOf(d.root)[name]; ok {
			if words := d.schema.Narrow[table]; words != "" {
				return words
			}
			return name + " belongs above the first [table]"
		}
	}
	if path := find(d.root, "", name); path != "" {
		return "did you mean " + path + "?"
	}
	return ""
}

// find returns the path of the first nested key with that name.
func find(t reflect.Type, path, name string) string {
	for _, f := range reflect.VisibleFields(t) {
		tag, inner := f.Tag.Get("toml"), f.Type
		if tag == "" || tag == "-" {
			continue
		}
		if inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		at := Join(path, tag)
		if path != "" && tag == name {
			return at
		}
		if inner.Kind() == reflect.Struct {
			if found := find(inner, at, name); found != "" {
				return found
			}
		}
	}
	return ""
}

// fieldsOf returns the index of each tagged field.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("toml"); tag != "" && tag != "-" {
			fields[tag] = i
		}
	}
	return fields
}

func describe(v any) string {
	switch v := v.(type) {
	case string:
		return "the string " + Quote(shorten(v))
	case bool:
		return fmt.Sprintf("%v", v)
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return "the number " + QuoteFloat(v)
	case []any, []map[string]any:
		return "an array"
	case map[string]any:
		return "a table"
	case time.Time:
		return "a date"
	}
	return fmt.Sprintf("a %T", v)
}

func shorten(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
