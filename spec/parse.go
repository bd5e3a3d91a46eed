package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agentd/agentd/spec/strict"
)

// schema is what the tags of Daemon do not say.
var schema = strict.Schema{
	Aliases: aliases(),
	Narrow:  map[string]string{"override": "an override may have " + overridable},
}

// aliases are what Compose, Kubernetes and Quadlet call our keys.
func aliases() map[string]string {
	out := map[string]string{
		"entrypoint":           "command",
		"cmd":                  "args",
		"environment":          "env",
		"volumes":              "mounts (as [[mounts]])",
		"cap_add":              "capabilities.add",
		"cap_drop":             "capabilities.drop",
		"nodeSelector":         "selector",
		"labels":               "selector",
		"node_name":            "nodes",
		"imagePullPolicy":      "pull",
		"pull_policy":          "pull",
		"network_mode":         "network",
		"hostNetwork":          `network = "host"`,
		"hostPID":              `pid = "host"`,
		"workdir":              "working_dir",
		"stop_signal":          "stop.signal",
		"healthcheck":          "health.liveness",
		"livenessProbe":        "health.liveness",
		"readinessProbe":       "health.readiness",
		"startupProbe":         "health.startup",
		"health.http":          "health.liveness.http, or of startup or readiness",
		"health.tcp":           "health.liveness.tcp, or of startup or readiness",
		"health.exec":          "health.liveness.exec, or of startup or readiness",
		"lifecycle":            "hooks",
		"hooks.postStart":      "post_start",
		"hooks.preStop":        "pre_stop",
		"dependsOn":            "depends_on",
		"after":                "depends_on",
		"requires":             "depends_on",
		"overrides":            "override (as [[override]])",
		"pids_limit":           "resources.pids",
		"readonly":             "read_only",
		"mounts.src":           "source",
		"mounts.dst":           "target",
		"mounts.path":          "target",
		"mounts.readonly":      `options = ["ro"]`,
		"files.path":           "target",
		"files.source":         "content",
		"stop.timeout":         "grace",
		"restart.max_retries":  "attempts",
		"restart.backoffLimit": "attempts",
		"stop.pre_stop":        "hooks.pre_stop",
		"tolerations.match":    "operator",
		"isolation.timeout":    "after",
		"isolation.action":     "policy",
		"deploy":               "update (as [update])",
		"updateStrategy":       "update (as [update])",
		"update_config":        "update (as [update])",
		"minReadySeconds":      "update.min_ready",
	}
	for theirs, ours := range map[string]string{
		"type":                    "strategy",
		"maxUnavailable":          "max_unavailable",
		"maxSurge":                "surge (true or false)",
		"max_surge":               "surge (true or false)",
		"order":                   "surge (true or false)",
		"parallelism":             "max_unavailable",
		"max_parallel":            "max_unavailable",
		"minReadySeconds":         "min_ready",
		"min_healthy_time":        "min_ready",
		"monitor":                 "min_ready",
		"progressDeadlineSeconds": "deadline",
		"progress_deadline":       "deadline",
		"healthy_deadline":        "deadline",
		"timeout":                 "deadline",
		"canaries":                "canary",
		"failure_action":          "on_failure",
		"auto_revert":             `on_failure = "rollback"`,
		"max_failure_ratio":       "max_failures (a number of nodes)",
	} {
		out["update."+theirs] = ours
	}
	for _, probe := range []string{"startup", "liveness", "readiness"} {
		for theirs, ours := range map[string]string{
			"url":                 "http",
			"httpGet":             "http (a whole URL)",
			"path":                "http (a whole URL)",
			"port":                "tcp (HOST:PORT)",
			"tcpSocket":           "tcp (HOST:PORT)",
			"command":             "exec",
			"test":                "exec",
			"period":              "interval",
			"periodSeconds":       "interval",
			"timeoutSeconds":      "timeout",
			"initial_delay":       "delay",
			"initialDelaySeconds": "delay",
			"start_period":        "delay",
			"retries":             "failures",
			"failureThreshold":    "failures",
			"successThreshold":    "successes",
		} {
			out["health."+probe+"."+theirs] = ours
		}
	}
	return out
}

// several is the key of the tables when a file holds more than one daemon.
const several = "daemon"

// Parse reads the daemons of a TOML file: one at the top level, or several
// under [[daemon]]. Nothing that is not understood is accepted: the error is a
// *strict.Errors with every problem of the file. file is only for messages.
func Parse(src []byte, file string) ([]Daemon, error) {
	var errs strict.Errors
	doc := strict.Read(src, file, &errs)
	if doc == nil {
		return nil, errs.Err()
	}
	var out []Daemon
	in := tables(doc.Root())
	for _, t := range in {
		d := defaultsOf(t.Text("type"))
		t.Decode(&d, schema)
		check(d, t)
		d = d.WithDefaults()
		if slices.ContainsFunc(out, func(o Daemon) bool { return o.Name == d.Name && d.Name != "" }) {
			t.Fail("name", strict.Quote(d.Name)+" is in this file twice", "")
		}
		out = append(out, d)
	}
	circles(out, in)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

// tables returns the tables that hold one daemon each.
func tables(root strict.Table) []strict.Table {
	if !root.Has(several) {
		if len(root.Keys()) == 0 {
			root.Fail("", "no daemon in it", `a daemon has at least a name and an image`)
			return nil
		}
		return []strict.Table{root}
	}
	list, ok := root.Tables(several)
	if !ok {
		root.Fail(several, "needs an array of tables", "write [[daemon]] above each daemon, with two brackets")
		return nil
	}
	if len(list) == 0 {
		root.Fail(several, "no daemon in it", "")
	}
	for _, key := range root.Keys() {
		if key == several {
			continue
		}
		if strict.Suggest(key, []string{several}) != "" {
			root.Problem(strict.Error{Path: key, Msg: "unknown key", Hint: "did you mean [[daemon]]?", Kind: strict.Unknown})
		} else {
			root.Fail(key, "stands outside of [[daemon]]",
				"a file holds one daemon at the top level, or several under [[daemon]]; the tables of one are written [daemon.NAME]")
		}
	}
	return list
}

// Validate returns every problem of d as a *strict.Errors without file and
// lines, or nil. Parse and Decode have validated what they return.
func (d Daemon) Validate() error {
	var errs strict.Errors
	check(d.filled(), strict.FromMap(nil, &errs).Root())
	return errs.Err()
}

// check adds every problem of d to the table that it was decoded from.
func check(d Daemon, t strict.Table) {
	c := newChecker(t)
	c.size(d)
	checkValues(c.texts(d), c)
}

// checkValues adds every problem of the values of a daemon without expressions.
func checkValues(d Daemon, c checker) {
	c.identity(d)
	c.process(d)
	c.rights(d)
	c.selection(d)
	c.tolerations(d.Tolerations)
	c.dependencies(d)
	c.mounts(d)
	c.files(d.Files)
	c.resources(d.Resources)
	c.lifecycle(d)
	c.attempts(d)
	c.health(d)
	c.hooks(d.Hooks)
	c.update(d)
	c.isolation(d.Isolation)
	c.overrides(d)
}

// checker collects problems. Each method looks at one part of a daemon.
type checker struct {
	t       strict.Table
	within  string          // path of the table, in t, that what is checked is in; "" is t
	told    map[string]bool // paths of texts with a wrong {{ … }}, whose values say nothing
	sampled map[string]bool // paths of texts that are checked with a sample in place of {{ … }}
}

func newChecker(t strict.Table) checker {
	return checker{t: t, told: map[string]bool{}, sampled: map[string]bool{}}
}

// under returns a checker for a table within.
func (c checker) under(path string) checker {
	c.within = c.at(path)
	return c
}

// failed reports whether something was wrong with what is at or below path.
func (c checker) failed(path string) bool { return c.t.Failed(c.at(path)) }

func (c checker) at(path string) string {
	switch {
	case path == "":
		return c.within
	case c.within == "":
		return path
	}
	return c.within + "." + path
}

func (c checker) fail(path, msg, hint string) {
	switch at := c.at(path); {
	case c.told[at]:
	case c.sampled[at]:
		c.t.Fail(at, msg, strings.TrimPrefix(hint+"; with a sample in place of {{ … }}", "; "))
	default:
		c.t.Fail(at, msg, hint)
	}
}

// unknown adds a problem with what a newer version may take.
func (c checker) unknown(path, msg, hint string) {
	c.t.Problem(strict.Error{Path: c.at(path), Msg: msg, Hint: hint, Kind: strict.Unknown})
}

func (c checker) failf(path, format string, args ...any) {
	c.fail(path, fmt.Sprintf(format, args...), "")
}

// oneOf checks a word against its vocabulary.
func (c checker) oneOf(path, value string, words ...string) {
	if !slices.Contains(words, value) {
		msg, hint := strict.OneOf(value, words...)
		c.fail(path, msg, hint)
	}
}
