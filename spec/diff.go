package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec/strict"
)

// Change is one key that differs between two daemons.
type Change struct {
	Path string // env.LOG_LEVEL, mounts["/host"].options
	// Old and New are the values as TOML; "" is a key without a value. Long
	// texts are named by their length and hash, a new order is spelled out.
	Old, New string
	// Running: the change restarts the container.
	Running bool
}

// Diff returns what differs between two daemons, in the order of the keys'
// documentation; nil when they mean the same. Mounts and files are matched by
// their target.
func Diff(old, new Daemon) []Change {
	o, n := flatten(old), flatten(new)
	var out []Change
	seen := map[string]bool{}
	for _, leaf := range append(slices.Clone(n.order), o.order...) {
		if seen[leaf] || o.values[leaf] == n.values[leaf] {
			continue
		}
		seen[leaf] = true
		out = append(out, Change{leaf, o.values[leaf], n.values[leaf], o.running[leaf] || n.running[leaf]})
	}
	out = append(out, reordered("mounts", targets(old.Mounts, mountTarget), targets(new.Mounts, mountTarget))...)
	out = append(out, reordered("files", targets(old.Files, fileTarget), targets(new.Files, fileTarget))...)
	rank := ranks()
	slices.SortStableFunc(out, func(a, b Change) int {
		if ra, rb := rank[top(a.Path)], rank[top(b.Path)]; ra != rb {
			return ra - rb
		}
		return strings.Compare(a.Path, b.Path)
	})
	return out
}

func mountTarget(m Mount) string { return m.Target }
func fileTarget(f File) string   { return f.Target }

func targets[T any](list []T, target func(T) string) []string {
	var out []string
	for _, e := range list {
		out = append(out, target(e))
	}
	return out
}

// reordered returns a change when what both lists have comes in another order:
// one mount may lie within another.
func reordered(path string, old, new []string) []Change {
	without := func(list, others []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !slices.Contains(others, s) })
	}
	o, n := without(old, new), without(new, old)
	if slices.Equal(o, n) {
		return nil
	}
	return []Change{{path, "in the order " + strings.Join(o, ", "), "in the order " + strings.Join(n, ", "), true}}
}

// leaves are the values of a daemon by path.
type leaves struct {
	order   []string
	values  map[string]string // as TOML
	shown   map[string]string // texts without quotes
	running map[string]bool
}

func newLeaves() *leaves {
	return &leaves{values: map[string]string{}, shown: map[string]string{}, running: map[string]bool{}}
}

func flatten(d Daemon) *leaves {
	l := newLeaves()
	l.table("", reflect.ValueOf(d.WithDefaults()), true)
	if d.RestartNonce != "" {
		l.add(nonceKey, reflect.ValueOf(d.RestartNonce), true)
	}
	if d.Literal {
		l.add(literalKey, reflect.ValueOf(true), true)
	}
	return l
}

func (l *leaves) add(path string, value reflect.Value, running bool) {
	l.order = append(l.order, path)
	l.values[path] = display(value)
	l.shown[path] = shown(value)
	l.running[path] = running
}

func (l *leaves) table(path string, rv reflect.Value, running bool) {
	for i := range rv.NumField() {
		field := rv.Type().Field(i)
		tag, f := field.Tag.Get("toml"), rv.Field(i)
		if tag == "" || tag == "-" || f.IsZero() {
			continue
		}
		at, runs := strict.Join(path, tag), running && field.Tag.Get("digest") != "-"
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		switch {
		case f.Kind() == reflect.Struct:
			l.table(at, f, runs)
		case f.Kind() == reflect.Map:
			for _, k := range sortedKeys(f) {
				l.add(strict.Join(at, k), f.MapIndex(reflect.ValueOf(k)), runs)
			}
		case isTable(f):
			for i := range f.Len() {
				l.table(fmt.Sprintf("%s[%s]", at, elementKey(f.Index(i), i)), f.Index(i), runs)
			}
		default:
			l.add(at, f, runs)
		}
	}
}

// elementKey names an element of an array of tables: by its target, so that
// an element that was put in front does not make all others look changed.
func elementKey(rv reflect.Value, i int) string {
	switch v := rv.Interface().(type) {
	case Mount:
		return strict.Quote(v.Target)
	case File:
		return strict.Quote(v.Target)
	}
	return fmt.Sprint(i)
}

// display returns a value for people: long texts by length and hash.
func display(rv reflect.Value) string {
	if rv.Kind() == reflect.String && isLong(rv.String()) {
		return shown(rv)
	}
	return formatValue(rv)
}

// shown returns a value for those who know its type: without quotes.
func shown(rv reflect.Value) string {
	switch v := rv.Interface().(type) {
	case Duration:
		return v.String()
	case Size:
		return v.String()
	}
	if rv.Kind() != reflect.String {
		return formatValue(rv)
	}
	s := rv.String()
	if !isLong(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%d bytes, sha256 %s", len(s), hex.EncodeToString(sum[:])[:12])
}

func isLong(s string) bool {
	const most = 80
	return len(s) > most || strings.Contains(s, "\n")
}

// ranks numbers the top-level keys in the order of Daemon's fields.
func ranks() map[string]int {
	rank := map[string]int{}
	t := reflect.TypeFor[Daemon]()
	for i := range t.NumField() {
		rank[t.Field(i).Tag.Get("toml")] = i
	}
	rank[nonceKey], rank[literalKey] = t.NumField(), t.NumField()
	return rank
}

// top returns the top-level key of a path.
func top(path string) string {
	if i := strings.IndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return path
}
