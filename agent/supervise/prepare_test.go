package supervise

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/runtime/fake"
	"github.com/agentd/agentd/spec"
)

// Before an old container is stopped, the image of the new one is here and its
// files are on disk.
//
// conformance: U6
func TestNothingStopsBeforeTheNewOneIsPrepared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		content := func(d *spec.Daemon) {
			d.Image = "web:v" + d.Env["REV"]
			d.Files = []spec.File{{Target: "/etc/x", Content: d.Env["REV"]}}
		}
		v1, v2 := want("web", 1, content), want("web", 2, content)
		var stopped time.Time
		machine := slow
		machine.Watch = func(c fake.Change) {
			if c.What != fake.Ended || !c.Asked {
				return
			}
			stopped = time.Now()
			if b, err := os.ReadFile(filepath.Join(filesDir(dir, "web", v2.Digest), "0")); err != nil || string(b) != "2" {
				t.Errorf("when the old one stops, the new file holds %q, %v", b, err)
			}
		}
		r := newRig(t, machine, func(c *Config) { c.DataDir = dir })
		defer r.end()
		r.set(v1)
		r.after(10 * time.Second)
		r.set(v2)
		r.after(10 * time.Second)
		if rep := r.is("web", Running); rep.Revision != 2 || stopped.IsZero() {
			t.Fatalf("report %+v", rep)
		}
		if pulls := r.rt.Calls(fake.OpPull); len(pulls) != 2 || pulls[1].ID != "web:v2" || pulls[1].Err != nil || pulls[1].At.After(stopped) {
			t.Fatalf("stopped at %v, pulls %+v", stopped, pulls)
		}
	})
}

// What can't be prepared stops nothing, and its deadline runs.
//
// conformance: U6
func TestWhatCannotBePreparedStopsNothing(t *testing.T) {
	ways := map[string]func(*spec.Daemon){
		"the image is nowhere": func(d *spec.Daemon) { d.Image = "none:v1" },
		"a mount is not here": func(d *spec.Daemon) {
			d.Mounts = []spec.Mount{{Source: "/nowhere", Target: "/x", Options: []string{"ro"}}}
		},
		"the policy denies it": func(d *spec.Daemon) { d.Privileged = true },
		"a label is not here":  func(d *spec.Daemon) { d.Args = []string{"{{ node.labels.rack }}"} },
	}
	for name, edit := range ways {
		for _, surges := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					r := newRig(t, fake.Config{Images: map[string]string{"web:v1": "sha256:1"}}, func(c *Config) {
						c.Policy = policyOf(t, func(*config.Policy) {})
					})
					defer r.end()
					r.set(want("web", 1))
					first := r.is("web", Running)
					began := time.Now()
					r.set(want("web", 2, edit, func(d *spec.Daemon) { d.Update.Surge = surges }))
					r.after(10 * time.Minute)
					rep := r.report("web")
					if calls := r.rt.Calls(fake.OpStop, fake.OpRemove); len(calls) > 0 || rep.PID != first.PID || !rep.Ready || rep.Revision != 1 {
						t.Fatalf("calls %+v, report %+v", calls, rep)
					}
					if !rep.TryingSince.Equal(began) || rep.LastError == "" && rep.State != string(Blocked) {
						t.Fatalf("trying since %v, want %v; report %+v", rep.TryingSince, began, rep)
					}
				})
			})
		}
	}
}
