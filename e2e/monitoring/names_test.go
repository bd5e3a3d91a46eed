package monitoring

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// metrics are agentd's names with their own labels; job and instance come from
// whoever scrapes. Counters end in _total. It is what agentd promises: taking a
// name away breaks dashboards of others, so that it has to be done here as well.
var metrics = map[string][]string{
	"agentd_build_info":                  {"version", "commit"},
	"agentd_daemon_cpu_seconds_total":    {"daemon"},
	"agentd_daemon_exits_total":          {"daemon"},
	"agentd_daemon_failures_total":       {"daemon"},
	"agentd_daemon_memory_bytes":         {"daemon"},
	"agentd_daemon_memory_limit_bytes":   {"daemon"},
	"agentd_daemon_oom_kills_total":      {"daemon"},
	"agentd_daemon_pids":                 {"daemon"},
	"agentd_daemon_placed":               {"daemon"},
	"agentd_daemon_probe_failures_total": {"daemon", "probe"},
	"agentd_daemon_probes_total":         {"daemon", "probe"},
	"agentd_daemon_pulls_total":          {"daemon"},
	"agentd_daemon_ready":                {"daemon"},
	"agentd_daemon_restarts_total":       {"daemon"},
	"agentd_daemon_start_time_seconds":   {"daemon"},
	"agentd_daemon_starts_total":         {"daemon"},
	"agentd_daemon_state":                {"daemon", "state"},
	"agentd_events_total":                {"type"},
	"agentd_quarantined":                 {"daemon"},
	"agentd_ring_in_sync":                nil,
	"agentd_ring_in_sync_members":        nil,
	"agentd_ring_members":                {"state"},
	"agentd_runtime_up":                  nil,
	"up":                                 nil, // Prometheus' own
}

// details are for those who look closer than the dashboard.
var details = []string{"agentd_daemon_exits_total", "agentd_daemon_probes_total", "agentd_daemon_starts_total", "up"}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	named    = regexp.MustCompile(`\b(agentd_[a-z_]+|up)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
	counter  = regexp.MustCompile(`\b(?:rate|increase)\(agentd_[a-z_]+_total(?:\{[^}]*\})?\[[^\]]+\]\)`)
)

// wrong tells what an expression uses that agentd does not have, or uses as it
// must not.
func wrong(expr string) []string {
	var bad []string
	bare := quoted.ReplaceAllString(expr, `""`)
	if strings.Count(bare, "(") != strings.Count(bare, ")") || strings.Count(bare, "{") != strings.Count(bare, "}") {
		bad = append(bad, "its brackets do not match")
	}
	uses := named.FindAllStringSubmatch(bare, -1)
	if len(uses) == 0 {
		bad = append(bad, "it uses no metric of agentd")
	}
	labels := map[string]bool{"job": true, "instance": true}
	for _, u := range uses {
		own, known := metrics[u[1]]
		if !known {
			bad = append(bad, "there is no metric "+u[1])
			continue
		}
		here := map[string]bool{"job": true, "instance": true}
		for _, l := range own {
			here[l], labels[l] = true, true
		}
		for _, m := range matcher.FindAllStringSubmatch(u[2], -1) {
			if !here[m[1]] {
				bad = append(bad, u[1]+" has no label "+m[1])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(bare, -1) {
		for _, l := range strings.Split(g[1], ",") {
			if l = strings.TrimSpace(l); l != "" && !labels[l] {
				bad = append(bad, "nothing in it has a label "+l)
			}
		}
	}
	if strings.Contains(counter.ReplaceAllString(bare, ""), "_total") {
		bad = append(bad, "a counter is used without rate or increase")
	}
	return bad
}

// The list is what the agent's sources have, names and labels.
func TestListIsTrue(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "agent", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	// {"name", "help", labels}, and Name: "agentd_name", ... labels.
	entry := regexp.MustCompile(`\{"([a-z_]+)", "[^"]+", (?:nil|\[\]string\{([^}]*)\})\}`)
	whole := regexp.MustCompile(`Name: "agentd_([a-z_]+)"[^{}]*\}(?:, \[\]string\{([^}]*)\})?`)
	found := map[string][]string{"up": nil}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, re := range []*regexp.Regexp{entry, whole} {
			for _, m := range re.FindAllStringSubmatch(string(src), -1) {
				var labels []string
				for _, l := range strings.Split(m[2], ",") {
					if l = strings.Trim(l, ` "`); l != "" {
						labels = append(labels, l)
					}
				}
				found["agentd_"+m[1]] = labels
			}
		}
	}
	for name, labels := range metrics {
		if got, ok := found[name]; !ok || !slices.Equal(got, labels) {
			t.Errorf("%s has labels %q in the list; in agent's sources it is there: %t, with %q", name, labels, ok, got)
		}
	}
	for name := range found {
		if _, ok := metrics[name]; !ok {
			t.Errorf("agent's sources have %s, and the list has not", name)
		}
	}
}

// A check that lets everything pass proves nothing.
func TestWrong(t *testing.T) {
	for expr, want := range map[string]string{
		`sum by (daemon) (agentd_daemon_ready{job=~"x",daemon="a"})`: "",
		`agentd_daemon_state{state!="{excluded"} == 1`:               "",
		`increase(agentd_events_total[5m]) > 0`:                      "",
		`agentd_daemon_reddy == 0`:                                   "no metric agentd_daemon_reddy",
		`agentd_runtime_up{daemon="a"}`:                              "no label daemon",
		`sum by (node) (agentd_runtime_up)`:                          "a label node",
		`agentd_events_total > 5`:                                    "without rate or increase",
		`sum(agentd_runtime_up`:                                      "brackets",
		`node_load1 > 5`:                                             "no metric of agentd",
	} {
		got := strings.Join(wrong(expr), "; ")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}
