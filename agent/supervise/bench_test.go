package supervise

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"syscall"
	"testing"
	"time"

	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// cpuUsed is the processor time of this process.
func cpuUsed(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Twenty daemons with an http probe each, a hundred times faster than the
// probes' default of 10 s and the relist's 7 s: what an operation costs, with
// the answering side included, is what 10 s of real life may cost. One percent
// of a core is 100 ms of 10 s.
func BenchmarkTwentyProbedDaemons(b *testing.B) {
	const faster = 100
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }))
	defer srv.Close()
	s := New(Config{Node: spec.Node{Name: "n1"}, Runtime: fake.New(fake.Config{}), DataDir: b.TempDir(), Relist: 7 * time.Second / faster})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var all []Desired
	for i := range 20 {
		all = append(all, want(fmt.Sprintf("d%d", i), 1, func(d *spec.Daemon) {
			d.Health.Liveness = &spec.Probe{HTTP: srv.URL, Interval: spec.Duration(10 * time.Second / faster),
				Timeout: spec.Duration(time.Second), Successes: 1, Failures: 3}
		}))
	}
	s.Set(all)
	for ready := 0; ready < len(all); {
		time.Sleep(10 * time.Millisecond)
		ready = 0
		for _, r := range s.Reports() {
			if r.State == string(Running) && r.Totals.Probes["liveness"].Passed > 0 {
				ready++
			}
		}
	}
	goruntime.GC()
	began := cpuUsed(b)
	for b.Loop() {
		time.Sleep(10 * time.Second / faster)
	}
	used := cpuUsed(b) - began
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	b.ReportMetric(100*used.Seconds()/float64(b.N)/10, "%core")
	b.ReportMetric(float64(goruntime.NumGoroutine())/20, "goroutines/daemon")
	b.ReportMetric(float64(m.HeapInuse+m.StackInuse)/1e6, "MB")
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
