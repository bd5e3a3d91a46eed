package spec_test

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
)

// perNode draws what concerns one node: health, hooks, jobs and so on.
func perNode(t *rapid.T, d *spec.Daemon) {
	if rapid.Bool().Draw(t, "is a job") {
		d.Type = spec.TypeJob
		if d.Restart.Policy == spec.RestartAlways {
			d.Restart.Policy = ""
		}
		if d.Restart.Policy != spec.RestartNever {
			d.Restart.Attempts = rapid.IntRange(0, 1000).Draw(t, "attempts")
		}
	}
	d.Health = spec.Health{Startup: probe(t, "startup", *d), Liveness: probe(t, "liveness", *d)}
	if d.Health.Liveness != nil {
		d.Health.Liveness.Successes = rapid.IntRange(0, 1).Draw(t, "successes")
	}
	if !d.Job() {
		d.Health.Readiness = probe(t, "readiness", *d)
	}
	d.Hooks = spec.Hooks{PostStart: command(t, "post_start"), PreStop: command(t, "pre_stop")}
	d.Isolation.Policy = rapid.SampledFrom([]spec.IsolationPolicy{"", spec.IsolationKeep, spec.IsolationStop}).Draw(t, "isolation")
	d.Isolation.After = duration(t, "after", time.Second, 365*24*time.Hour)
	d.DependsOn = some(t, "depends_on", "dep-1", "dep-2")
	for range rapid.IntRange(0, 2).Draw(t, "tolerations") {
		d.Tolerations = append(d.Tolerations, toleration(t))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "overrides") {
		d.Overrides = append(d.Overrides, override(t, i))
	}
}

func command(t *rapid.T, label string) []string {
	if rapid.Bool().Draw(t, "no "+label) {
		return nil
	}
	return append([]string{rapid.SampledFrom([]string{"/bin/a", "{{ node.name }}"}).Draw(t, label)}, texts(t, label)...)
}

func probe(t *rapid.T, label string, d spec.Daemon) *spec.Probe {
	p := &spec.Probe{
		Interval:  duration(t, label+" interval", 100*time.Millisecond, 24*time.Hour),
		Timeout:   duration(t, label+" timeout", time.Millisecond, 10*time.Minute),
		Successes: rapid.IntRange(0, 1000).Draw(t, label+" successes"),
		Failures:  rapid.IntRange(0, 1000).Draw(t, label+" failures"),
		Delay:     duration(t, label+" delay", 0, 24*time.Hour),
	}
	here := 2 // of the answers below, those without expressions
	if !d.Literal {
		here = 3
	}
	way := rapid.IntRange(0, 3).Draw(t, label)
	if d.Network == spec.NamespaceNone && way > 1 {
		way = 1
	}
	switch way {
	case 0:
		return nil
	case 1:
		p.Exec = append([]string{"/bin/check"}, texts(t, label+" exec")...)
	case 2:
		p.HTTP = rapid.SampledFrom([]string{"http://127.0.0.1:9100/-/healthy?a=b%20c", "https://[::1]/", "http://{{ node.address }}:80/{{ node.name }}"}[:here]).Draw(t, label+" http")
	case 3:
		p.TCP = rapid.SampledFrom([]string{"127.0.0.1:1", "localhost:65535", "{{ node.address }}:{{ node.labels.port }}"}[:here]).Draw(t, label+" tcp")
	}
	return p
}

func toleration(t *rapid.T) spec.Toleration {
	tol := spec.Toleration{
		Key:      rapid.SampledFrom([]string{"dedicated", "example.org/x"}).Draw(t, "toleration"),
		Operator: rapid.SampledFrom([]spec.TolerationOperator{"", spec.TolerateEqual, spec.TolerateExists}).Draw(t, "tolerates"),
		Effect:   rapid.SampledFrom([]string{"", "NoSchedule", "NoExecute", "PreferNoSchedule"}).Draw(t, "effect"),
	}
	if tol.Operator == spec.TolerateExists {
		tol.Key = rapid.SampledFrom([]string{"", tol.Key}).Draw(t, "key")
	} else {
		tol.Value = rapid.SampledFrom([]string{"", "gpu"}).Draw(t, "value")
	}
	return tol
}

func override(t *rapid.T, i int) spec.Override {
	o := spec.Override{Env: rapid.MapOfN(rapid.StringMatching(`[A-Z]{1,3}`), text(), 1, 2).Draw(t, "override env")}
	if rapid.Bool().Draw(t, "by selector") {
		o.Selector = map[string]string{"role": "edge"}
	} else {
		o.Match = []spec.Match{match(t)}
	}
	switch rapid.IntRange(0, 2).Draw(t, "override args") {
	case 0:
		o.Args = []string{}
	case 1:
		o.Args = texts(t, "override args")
	}
	r := &o.Resources
	r.CPU = maybe(t, "override cpu", 0, 0.5, 3)
	r.Memory = maybe[spec.Size](t, "override memory", 0, 512<<20)
	r.Pids = maybe[int64](t, "override pids", 0, 7)
	r.MemoryReserve = maybe[spec.Size](t, "override reserve", 0, 1<<20)
	r.CPUWeight = maybe[uint64](t, "override weight", 0, 70)
	r.OOMScoreAdj = maybe(t, "override oom", 0, -7)
	r.Ulimits = rapid.MapOfN(rapid.SampledFrom([]string{"nofile", "core"}), rapid.Int64Range(-1, 9), 0, 2).Draw(t, "override ulimits")
	for j := range rapid.IntRange(0, 2).Draw(t, "override files") {
		o.Files = append(o.Files, spec.File{Target: fmt.Sprintf("/files/%d", i+j), Content: text().Draw(t, "override content"),
			Mode: rapid.SampledFrom([]string{"", "0444", "600"}).Draw(t, "override mode")})
	}
	return o
}

// maybe draws one of values, or nothing.
func maybe[T any](t *rapid.T, label string, values ...T) *T {
	i := rapid.IntRange(-1, len(values)-1).Draw(t, label)
	if i < 0 {
		return nil
	}
	return &values[i]
}
