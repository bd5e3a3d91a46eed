package supervise

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// rig is a supervisor over a fake runtime, inside a synctest bubble. The bubble
// itself fails the test when a goroutine is left at its end.
type rig struct {
	t    *testing.T
	dir  string
	rt   *fake.Runtime
	cfg  Config
	s    *Supervisor
	stop context.CancelFunc
	done chan error
}

func newRig(t *testing.T, machine fake.Config, edit ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), rt: fake.New(machine)}
	r.cfg = Config{
		Node: spec.Node{Name: "n1", Labels: map[string]string{"role": "edge"}}, Runtime: r.rt, DataDir: r.dir,
		LogPath: func(d string) string { return filepath.Join(r.dir, "logs", d+".log") },
	}
	for _, e := range edit {
		e(&r.cfg)
	}
	r.start()
	t.Cleanup(func() {
		if r.stop != nil {
			t.Error("the test forgot to end its supervisor")
		}
	})
	return r
}

// start begins a supervisor, as a (re)started agent does.
func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.s, r.stop, r.done = New(r.cfg), cancel, make(chan error, 1)
	go func() { r.done <- r.s.Run(ctx) }()
	synctest.Wait() // for the first look
}

// end stops the supervisor and waits for Run.
func (r *rig) end() {
	r.stop()
	r.stop = nil
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	synctest.Wait()
}

// restart replaces the supervisor by a new one with the same state, wanting ds.
func (r *rig) restart(ds ...Desired) {
	r.end()
	r.start()
	r.set(ds...)
}

func (r *rig) set(ds ...Desired) {
	r.s.Set(ds)
	synctest.Wait()
}

// after lets virtual time pass.
func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) report(name string) Report {
	r.t.Helper()
	for _, rep := range r.s.Reports() {
		if rep.Name == name {
			if rep.Reason == "" || len(rep.Reasons) == 0 {
				r.t.Errorf("%s is %s without a reason", name, rep.State)
			}
			return rep
		}
	}
	r.t.Fatalf("no report of %s in %+v", name, r.s.Reports())
	return Report{}
}

// is fails unless the daemon is in the state; it returns the report.
func (r *rig) is(name string, want State) Report {
	r.t.Helper()
	rep := r.report(name)
	if rep.State != string(want) {
		r.t.Fatalf("%s is %s (%s), want %s", name, rep.State, rep.Reason, want)
	}
	return rep
}

// runs fails unless exactly the containers named run.
func (r *rig) runs(names ...string) {
	r.t.Helper()
	got := r.rt.Running()
	if len(got) != len(names) {
		r.t.Fatalf("running are %v, want %v; reports %+v", got, names, r.s.Reports())
	}
	for i := range got {
		if got[i] != names[i] {
			r.t.Fatalf("running are %v, want %v", got, names)
		}
	}
}

// want makes a Desired of revision rev; edits change the running part.
func want(name string, rev int, edits ...func(*spec.Daemon)) Desired {
	d := spec.Daemon{Name: name, Image: name + ":v1"}
	d.Env = map[string]string{"REV": string(rune('0' + rev))}
	for _, e := range edits {
		e(&d)
	}
	d = d.WithDefaults()
	return Desired{Daemon: d, Digest: d.Digest(), Generation: uint64(rev), Revision: rev}
}

func gone(name string, gen uint64) Desired {
	return Desired{Daemon: spec.Daemon{Name: name}, Generation: gen, Delete: true}
}

func restart(p spec.RestartPolicy) func(*spec.Daemon) {
	return func(d *spec.Daemon) { d.Restart.Policy = p }
}

// policyOf is the default policy with a change.
func policyOf(t *testing.T, edit func(*config.Policy)) *policy.Policy {
	t.Helper()
	cfg := config.Default().Policy
	edit(&cfg)
	p, err := policy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
