package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/agentd/agentd/gossip"
)

// collector turns the node's own state into metrics at scrape time. It tells of
// this node only; the fleet's picture is made by whoever scrapes all of them.
type collector struct {
	a *Agent

	info, members, records, inSync, placed, ready, restarts *prometheus.Desc
}

func newCollector(a *Agent) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("agentd_"+name, help, labels, nil)
	}
	return &collector{
		a:        a,
		info:     desc("build_info", "Version of this agentd; always 1.", "version", "commit"),
		members:  desc("ring_members", "Nodes of the ring as this node sees them, by state.", "state"),
		records:  desc("ring_in_sync_members", "Alive nodes that hold the same records as this one."),
		inSync:   desc("ring_in_sync", "1 when every alive node holds the same records as this one."),
		placed:   desc("daemon_placed", "1 when the daemon is meant for this node.", "daemon"),
		ready:    desc("daemon_ready", "1 when the daemon is ready on this node.", "daemon"),
		restarts: desc("daemon_restarts", "Restarts of the daemon's container since it last ran well.", "daemon"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.info, c.members, c.records, c.inSync, c.placed, c.ready, c.restarts} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ring := c.a.snapshot().ringStatus()
	gauge(c.info, 1, c.a.version, c.a.commit)
	gauge(c.members, float64(ring.Nodes.Alive), string(gossip.Alive))
	gauge(c.members, float64(ring.Nodes.Failed), string(gossip.Failed))
	gauge(c.members, float64(ring.Nodes.Left), string(gossip.Left))
	gauge(c.records, float64(ring.Holding))
	gauge(c.inSync, float64(btoi(ring.InSync)))
	for _, r := range c.a.super.Reports() {
		gauge(c.placed, float64(btoi(r.Placed)), r.Name)
		gauge(c.ready, float64(btoi(r.Ready)), r.Name)
		gauge(c.restarts, float64(r.Restarts), r.Name)
	}
}

func (a *Agent) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(a), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Metrics writes them in the Prometheus text format.
func (a *Agent) Metrics(w io.Writer) {
	families, err := a.metrics.Gather()
	if err != nil {
		a.log.Warn("metrics are incomplete", "err", err)
	}
	enc := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if enc.Encode(f) != nil {
			return // the reader went away
		}
	}
}

// serveMetrics serves /metrics and /healthz where [metrics] listen says. A port
// that is taken is a warning: metrics never keep daemons from running.
func (a *Agent) serveMetrics(ctx context.Context) error {
	if a.cfg.Metrics.Listen == "" {
		return nil
	}
	ln, err := net.Listen("tcp", a.cfg.Metrics.Listen)
	if err != nil {
		a.note("no metrics at %s: %v", a.cfg.Metrics.Listen, err)
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := a.Health(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n") // the prober went away
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
