package spec

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec/strict"
)

// Origin says where a value of a rendered daemon comes from, when it is not
// what stands in its file.
type Origin struct {
	Path  string // as in Change: env.ROLE, args, files["/etc/x"].content, args[1]
	Value string // what it is on this node; texts as they are, long ones by length and hash
	From  string // "override 2" (counted from 1), "template", or "override 2, template"
}

// For returns d as it is on one node: with the override blocks whose labels
// match, in their order, and then with every {{ … }} replaced:
//
//	{{ node.name }}        the node's name
//	{{ node.address }}     its address, without a port; an IPv6 address has
//	                       brackets in the http and tcp of probes only
//	{{ node.labels.KEY }}  the value of a label; a missing label is an error
//	{{ "{{" }}             two braces
//
// The result has no overrides, and its Digest is the one of what runs on the
// node; rendering it again changes nothing. The error says in words, on one
// line, everything that cannot be rendered.
func (d Daemon) For(n Node) (rendered Daemon, origins []Origin, err error) {
	out := d.WithDefaults()
	overrides := out.Overrides
	out.Overrides = nil
	from, values := map[string]string{}, map[string]string{}
	var order, wrong []string
	note := func(path, value, source string) {
		if _, again := from[path]; !again {
			order = append(order, path)
		}
		from[path], values[path] = source, value
	}
	for i, o := range overrides {
		if !o.Matches(n) {
			continue
		}
		var set *leaves
		out, set = o.apply(out)
		for _, path := range set.order {
			note(path, set.shown[path], fmt.Sprintf("override %d", i+1))
		}
	}
	literal := out.Literal
	eachText(reflect.ValueOf(&out).Elem(), byTarget, func(path, s, template string) string {
		if literal || template == "" || !strings.Contains(s, "{{") {
			return s
		}
		text, problems := expandField(s, template, on(n))
		for _, p := range problems {
			wrong = append(wrong, path+": "+p.msg)
		}
		source := "template"
		if o, ok := from[path]; ok {
			source = o + ", template"
		}
		note(path, shown(reflect.ValueOf(text)), source)
		out.Literal = out.Literal || strings.Contains(text, "{{")
		return text
	})
	if len(order) == 0 {
		return out, nil, nil
	}
	if len(wrong) == 0 {
		wrong = invalid(out)
	}
	if len(wrong) > 0 {
		return Daemon{}, nil, errors.New(strings.Join(wrong, "; "))
	}
	out = out.WithDefaults()
	if _, ok := from["args"]; ok {
		values["args"] = shown(reflect.ValueOf(out.Args)) // as a whole, when an expression was in it too
	}
	for _, path := range order {
		origins = append(origins, Origin{path, values[path], from[path]})
	}
	rank := ranks()
	slices.SortStableFunc(origins, func(a, b Origin) int { return rank[top(a.Path)] - rank[top(b.Path)] })
	return out, origins, nil
}

// invalid returns what is wrong with the values of a rendered daemon.
func invalid(d Daemon) []string {
	var errs strict.Errors
	checkValues(d, newChecker(strict.FromMap(nil, &errs).Root()))
	if errs.Err() == nil {
		return nil
	}
	out := make([]string, len(errs.List))
	for i, e := range errs.List {
		out[i] = e.Error()
	}
	return out
}
