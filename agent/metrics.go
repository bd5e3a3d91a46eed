package agent

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/agentd/agentd/gossip"
)

// measureTimeout bounds what a scrape waits for containers' numbers; a runtime
// that is silent costs them and nothing else.
const measureTimeout = 2 * time.Second

// collector turns the node's own state into metrics at scrape time. It tells of
// this node only; the fleet's picture is made by whoever scrapes all of them.
type collector struct {
	a     *Agent
	descs map[string]*prometheus.Desc
}

// gauges and sums of the collector: name, help, labels.
var described = []struct {
	name, help string
	labels     []string
}{
	{"build_info", "Version of this agentd; always 1.", []string{"version", "commit"}},
	{"runtime_up", "1 while containerd answers.", nil},
	{"ring_members", "Nodes of the ring as this node sees them, by state.", []string{"state"}},
	{"ring_in_sync_members", "Alive nodes that hold the same records as this one, itself included.", nil},
	{"ring_in_sync", "1 when every alive node holds the same records as this one.", nil},
	{"daemon_placed", "1 when the daemon is meant for this node.", []string{"daemon"}},
	{"daemon_ready", "1 when the daemon is ready on this node.", []string{"daemon"}},
	{"daemon_state", "1 for the state that the daemon is in on this node.", []string{"daemon", "state"}},
	{"daemon_starts_total", "Starts of the daemon's container since this agentd began.", []string{"daemon"}},
	{"daemon_restarts_total", "Starts after an end that agentd did not ask for, since it began.", []string{"daemon"}},
	{"daemon_exits_total", "Ends of the daemon's container since this agentd began.", []string{"daemon"}},
	{"daemon_oom_kills_total", "Ends by the kernel's OOM killer since this agentd began.", []string{"daemon"}},
	{"daemon_failures_total", "Steps that failed (pull, create, start) since this agentd began.", []string{"daemon"}},
	{"daemon_pulls_total", "Pulls of the daemon's image since this agentd began.", []string{"daemon"}},
	{"daemon_probes_total", "Answers to probes since this agentd began.", []string{"daemon", "probe"}},
	{"daemon_probe_failures_total", "Bad answers to probes since this agentd began.", []string{"daemon", "probe"}},
	{"quarantined", "1 when agentd itself failed on the daemon too often to go on; see agentctl why.", []string{"daemon"}},
	{"daemon_start_time_seconds", "When the daemon's container started, in seconds since 1970.", []string{"daemon"}},
	{"daemon_cpu_seconds_total", "CPU time that the daemon's container used.", []string{"daemon"}},
	{"daemon_memory_bytes", "Memory that the daemon's container uses, without cache that can be dropped.", []string{"daemon"}},
	{"daemon_memory_limit_bytes", "Memory that the daemon's container may use; 0 without a limit.", []string{"daemon"}},
	{"daemon_pids", "Processes and threads in the daemon's container.", []string{"daemon"}},
}

func newCollector(a *Agent) *collector {
	c := &collector{a: a, descs: make(map[string]*prometheus.Desc, len(described))}
	for _, d := range described {
		c.descs[d.name] = prometheus.NewDesc("agentd_"+d.name, d.help, d.labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], kind, v, labels...)
	}
	gauge := func(name string, v float64, labels ...string) { send(prometheus.GaugeValue, name, v, labels...) }
	ring := c.a.snapshot().ringStatus()
	gauge("build_info", 1, c.a.version, c.a.commit)
	gauge("runtime_up", float64(btoi(c.a.super.Trouble() == "")))
	gauge("ring_members", float64(ring.Nodes.Alive), string(gossip.Alive))
	gauge("ring_members", float64(ring.Nodes.Failed), string(gossip.Failed))
	gauge("ring_members", float64(ring.Nodes.Left), string(gossip.Left))
	gauge("ring_in_sync_members", float64(ring.Holding))
	gauge("ring_in_sync", float64(btoi(ring.InSync)))
	for _, r := range c.a.super.Reports() {
		gauge("daemon_placed", float64(btoi(r.Placed)), r.Name)
		gauge("daemon_ready", float64(btoi(r.Ready)), r.Name)
		gauge("daemon_state", 1, r.Name, r.State)
		gauge("quarantined", float64(btoi(r.Quarantined)), r.Name)
		for name, n := range map[string]uint64{
			"daemon_starts_total": r.Totals.Starts, "daemon_restarts_total": r.Totals.Restarts, "daemon_exits_total": r.Totals.Exits,
			"daemon_oom_kills_total": r.Totals.OOMs, "daemon_failures_total": r.Totals.Failures, "daemon_pulls_total": r.Totals.Pulls,
		} {
			send(prometheus.CounterValue, name, float64(n), r.Name)
		}
		for kind, n := range r.Totals.Probes {
			send(prometheus.CounterValue, "daemon_probes_total", float64(n.Passed+n.Failed+n.Unknown), r.Name, string(kind))
			send(prometheus.CounterValue, "daemon_probe_failures_total", float64(n.Failed), r.Name, string(kind))
		}
		if !r.StartedAt.IsZero() {
			gauge("daemon_start_time_seconds", float64(r.StartedAt.UnixMilli())/1000, r.Name)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), measureTimeout)
	defer cancel()
	top, err := c.a.Top(ctx)
	if err != nil {
		return
	}
	for _, t := range top.Daemons {
		if t.At == nil {
			continue
		}
		send(prometheus.CounterValue, "daemon_cpu_seconds_total", t.CPUSeconds, t.Name)
		gauge("daemon_memory_bytes", float64(t.Memory), t.Name)
		gauge("daemon_memory_limit_bytes", float64(t.MemoryLimit), t.Name)
		gauge("daemon_pids", float64(t.PIDs), t.Name)
	}
}

func (a *Agent) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(a), a.eventCount,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
