package spec

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/agentd/agentd/spec/strict"
)

// Format returns d as a TOML file that Parse takes back as the same daemon.
// Only keys that differ from their defaults are written, in the order in which
// the documentation has them. RestartNonce is left out: it belongs to the ring.
// A Literal daemon is written with its braces quoted.
func Format(d Daemon) []byte {
	var b bytes.Buffer
	if d.Literal {
		d = quoted(d)
	}
	formatTable(&b, "", reflect.ValueOf(d.withoutDefaults()))
	return b.Bytes()
}

// formatTable writes the keys of a table, then its tables, for in TOML
// everything that follows a header belongs to it.
func formatTable(b *bytes.Buffer, path string, rv reflect.Value) {
	type sub struct {
		path  string
		value reflect.Value
	}
	var tables []sub
	for i := range rv.NumField() {
		tag, f := rv.Type().Field(i).Tag.Get("toml"), rv.Field(i)
		if tag == "" || tag == "-" || f.IsZero() {
			continue
		}
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		if isTable(f) {
			tables = append(tables, sub{strict.Join(path, tag), f})
			continue
		}
		fmt.Fprintf(b, "%s = %s\n", tag, formatValue(f))
	}
	for _, t := range tables {
		switch t.value.Kind() {
		case reflect.Slice:
			for i := range t.value.Len() {
				header(b, "[["+t.path+"]]")
				formatTable(b, t.path, t.value.Index(i))
			}
		case reflect.Map:
			header(b, "["+t.path+"]")
			for _, k := range sortedKeys(t.value) {
				fmt.Fprintf(b, "%s = %s\n", strict.QuoteKey(k), formatValue(t.value.MapIndex(reflect.ValueOf(k))))
			}
		default:
			header(b, "["+t.path+"]")
			formatTable(b, t.path, t.value)
		}
	}
}

func header(b *bytes.Buffer, h string) {
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	b.WriteString(h + "\n")
}

// isTable reports whether a value is written under a header of its own.
func isTable(rv reflect.Value) bool {
	switch rv.Kind() {
	case reflect.Struct, reflect.Map:
		return true
	case reflect.Slice:
		return rv.Type().Elem().Kind() == reflect.Struct
	}
	return false
}

// formatValue returns a value that is no table as TOML.
func formatValue(rv reflect.Value) string {
	switch v := rv.Interface().(type) {
	case Duration:
		return strict.Quote(v.String())
	case Size:
		return strict.Quote(v.String())
	case []string:
		return strict.QuoteStrings(v)
	}
	switch rv.Kind() {
	case reflect.String:
		return strict.QuoteText(rv.String())
	case reflect.Float64:
		return strict.QuoteFloat(rv.Float())
	}
	return fmt.Sprint(rv.Interface())
}

func sortedKeys(m reflect.Value) []string {
	keys := map[string]bool{}
	for _, k := range m.MapKeys() {
		keys[k.String()] = true
	}
	return slices.Sorted(maps.Keys(keys))
}
