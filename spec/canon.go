package spec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/agentd/agentd/spec/strict"
)

// schemaVersion is the version of the encoding of a daemon. A daemon that says
// a larger one was written by a newer agentd and is not understood.
const schemaVersion = 1

// digestPrefix versions the canonical form that is hashed. It changes only if
// the form does, and then every daemon restarts: so it should not.
const digestPrefix = "agentd-daemon-1\n"

// Keys in the encoding that operators do not write, and TOML has none of.
const (
	nonceKey   = "restart_nonce"
	literalKey = "literal"
)

// ErrNewer: the daemon uses something that this version does not know, so a
// newer agentd wrote it. What runs goes on; nothing new is started from it.
var ErrNewer = errors.New("written by a newer agentd")

// Encode returns d as canonical JSON: only what differs from the defaults,
// keys in the order of the alphabet, the names of the TOML keys. Two daemons
// with the same meaning have the same encoding.
func Encode(d Daemon) []byte {
	m := canonical(d, func(reflect.StructField) bool { return true })
	m["schema"] = schemaVersion
	return marshal(m)
}

// Digest returns the hex SHA-256 of the running part of d: everything but
// where it runs and how its image is fetched. A field that has its default does
// not take part, so a new version with new fields restarts nobody.
func (d Daemon) Digest() string {
	m := canonical(d, func(f reflect.StructField) bool { return f.Tag.Get("digest") != "-" })
	sum := sha256.Sum256(append([]byte(digestPrefix), marshal(m)...))
	return hex.EncodeToString(sum[:])
}

// canonical returns the fields of d that keep takes and that differ from their
// defaults.
func canonical(d Daemon, keep func(reflect.StructField) bool) map[string]any {
	m := tableOf(reflect.ValueOf(d.withoutDefaults()), keep)
	if d.RestartNonce != "" {
		m[nonceKey] = d.RestartNonce
	}
	if d.Literal {
		m[literalKey] = true
	}
	return m
}

// tableOf returns the non-zero tagged fields of a struct.
func tableOf(rv reflect.Value, keep func(reflect.StructField) bool) map[string]any {
	m := map[string]any{}
	for i := range rv.NumField() {
		f := rv.Type().Field(i)
		tag := f.Tag.Get("toml")
		if tag == "" || tag == "-" || rv.Field(i).IsZero() || !keep(f) {
			continue
		}
		m[tag] = plain(rv.Field(i), keep)
	}
	return m
}

// plain returns a value as JSON has it: durations as text, tables as maps.
func plain(rv reflect.Value, keep func(reflect.StructField) bool) any {
	switch v := rv.Interface().(type) {
	case Duration:
		return v.String()
	case Size:
		return int64(v)
	}
	switch rv.Kind() {
	case reflect.Pointer:
		return plain(rv.Elem(), keep)
	case reflect.Struct:
		return tableOf(rv, keep)
	case reflect.Slice:
		list := make([]any, rv.Len())
		for i := range list {
			list[i] = plain(rv.Index(i), keep)
		}
		return list
	}
	return rv.Interface()
}

func marshal(m map[string]any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		panic("spec: encode: " + err.Error()) // only strings, numbers, bools, maps and slices are in it
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Decode is the inverse of Encode. It returns ErrNewer (test with errors.Is)
// when the daemon has a field, a value or a schema that this version does not
// know, and another error when it is not valid.
func Decode(b []byte) (Daemon, error) {
	m, err := unmarshal(b)
	if err != nil {
		return Daemon{}, fmt.Errorf("decode daemon: %w", err)
	}
	if v, ok := m["schema"].(int64); !ok || v < 1 {
		return Daemon{}, errors.New("decode daemon: no schema")
	} else if v > schemaVersion {
		return Daemon{}, fmt.Errorf("decode daemon: schema %d: %w", v, ErrNewer)
	}
	delete(m, "schema")
	var errs strict.Errors
	table := strict.FromMap(m, &errs).Root()
	d := defaultsOf(table.Text("type"))
	if nonce, ok := m[nonceKey].(string); ok {
		d.RestartNonce = nonce
		delete(m, nonceKey)
	}
	if literal, ok := m[literalKey].(bool); ok {
		d.Literal = literal
		delete(m, literalKey)
	}
	table.Decode(&d, schema)
	check(d, table)
	if err := errs.Err(); err != nil {
		for _, one := range errs.List {
			if one.Kind == strict.Unknown {
				return Daemon{}, fmt.Errorf("decode daemon: %w: %s", ErrNewer, one.Path)
			}
		}
		return Daemon{}, fmt.Errorf("decode daemon: %w", err)
	}
	return d.WithDefaults(), nil
}

// unmarshal reads one JSON object, with integers as int64.
func unmarshal(b []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	for k, v := range m {
		n, err := numbers(v)
		if err != nil {
			return nil, err
		}
		m[k] = n
	}
	return m, nil
}

// numbers replaces each json.Number by an int64 or, failing that, a float64.
func numbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case []any:
		for i := range v {
			if v[i], err = numbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = numbers(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
