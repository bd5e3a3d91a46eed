// Package monitoring checks what agentd ships for those who watch it: the
// Grafana dashboard and the Prometheus alert rules in configs.
package monitoring

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "configs"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type dashboard struct {
	Title, UID string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ H, W, X, Y int }
		Targets                  []struct{ Expr, RefID string }
	}
}

var (
	variable = regexp.MustCompile(`\$\{?([a-zA-Z_]+)\}?`)
	queries  = regexp.MustCompile(`^label_values\(([a-z_]+(?:\{[^}]*\})?), ([a-z_]+)\)$`)
)

// The dashboard asks for metrics that there are, with variables that it has,
// and no panel lies on another.
func TestDashboard(t *testing.T) {
	b := read(t, "grafana", "agentd.json")
	var d dashboard
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	vars := map[string]bool{"__rate_interval": true, "__all": true}
	for _, v := range d.Templating.List {
		vars[v.Name] = true
		if v.Type != "query" {
			continue
		}
		m := queries.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("variable %s: %q is no label_values", v.Name, v.Definition)
			continue
		}
		for _, bad := range wrong("sum by (" + m[2] + ") (" + m[1] + ")") {
			t.Errorf("variable %s: %s: %s", v.Name, v.Definition, bad)
		}
	}
	for _, m := range variable.FindAllSubmatch(b, -1) {
		if !vars[string(m[1])] {
			t.Errorf("$%s is no variable of the dashboard", m[1])
		}
	}
	ids, cells := map[int]string{}, map[[2]int]string{}
	asked := map[string]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] != "" {
			t.Errorf("panels %q and %q have one id", p.Title, ids[p.ID])
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("panel %q is outside of the grid: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Fatalf("panel %q lies on %q", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q has no description or shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			for _, bad := range wrong(q.Expr) {
				t.Errorf("panel %q: %s: %s", p.Title, q.Expr, bad)
			}
			for _, m := range named.FindAllStringSubmatch(q.Expr, -1) {
				asked[m[1]] = true
			}
		}
	}
	for name := range metrics {
		if !asked[name] && !slices.Contains(details, name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

var (
	placeholder = regexp.MustCompile(`\{\{(.*?)\}\}`)
	usedLabel   = regexp.MustCompile(`\$labels\.([a-z_]+)`)
)

// Every alert is about metrics that there are, and says what is wrong where and
// what to do.
func TestAlerts(t *testing.T) {
	var r rules
	dec := yaml.NewDecoder(bytes.NewReader(read(t, "prometheus", "agentd.yml")))
	dec.KnownFields(true)
	if err := dec.Decode(&r); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range r.Groups {
		for _, a := range g.Rules {
			if seen[a.Alert] || !strings.HasPrefix(a.Alert, "Agentd") {
				t.Errorf("alert %q is there twice, or does not say whose it is", a.Alert)
			}
			seen[a.Alert] = true
			for _, bad := range wrong(a.Expr) {
				t.Errorf("%s: %s: %s", a.Alert, a.Expr, bad)
			}
			if _, err := time.ParseDuration(a.For); a.For != "" && err != nil {
				t.Errorf("%s: for: %v", a.Alert, err)
			}
			if s := a.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s: severity %q", a.Alert, s)
			}
			for _, key := range []string{"summary", "description"} {
				text := a.Annotations[key]
				if text == "" {
					t.Errorf("%s has no %s", a.Alert, key)
				}
				if strings.Count(text, "{{") != len(placeholder.FindAllString(text, -1)) {
					t.Errorf("%s: %s: braces do not match in %q", a.Alert, key, text)
				}
				// A label that an aggregation drops would be an empty word.
				for _, m := range usedLabel.FindAllStringSubmatch(text, -1) {
					if !keeps(a.Expr, m[1]) {
						t.Errorf("%s: %s speaks of label %s, which the result has not", a.Alert, key, m[1])
					}
				}
			}
		}
	}
	if len(seen) < 8 {
		t.Errorf("only %d alerts: %v", len(seen), seen)
	}
}

// keeps reports whether the result of an expression has a label.
func keeps(expr, label string) bool {
	if groups := grouping.FindAllStringSubmatch(expr, -1); groups != nil {
		for _, l := range strings.Split(groups[0][1], ",") {
			if strings.TrimSpace(l) == label {
				return true
			}
		}
		return false
	}
	for _, m := range named.FindAllStringSubmatch(expr, -1) {
		for _, l := range append([]string{"job", "instance"}, metrics[m[1]]...) {
			if l == label {
				return true
			}
		}
	}
	return false
}
