package machines

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// settle is how long anything may take that should take a moment: these
// machines share few cores.
const settle = 90 * time.Second

// The versions of the packages: the tests' own, and a newer one.
const (
	versionA = "0.1.0"
	versionB = "0.1.1"
)

// exporter is the daemon of most tests: a real one, on the machine's network.
const exporter = "exporter"

func exporterToml(more string) string {
	return fmt.Sprintf("name = %q\nimage = %q\npull = \"never\"\nnetwork = \"host\"\n%s\n", exporter, lab.NodeExporterRef, more)
}

// testd is a second daemon, which needs no port and no network.
func testd(name, more string) string {
	return fmt.Sprintf("name = %q\nimage = %q\npull = \"never\"\nnetwork = \"none\"\n%s\n", name, lab.TestImageRef, more)
}

// ring is a world whose machines form a ring, as one test sees it.
type ring struct {
	*World
	*testing.T
	ctx context.Context
}

// on is the same ring for a subtest.
func (r ring) on(t *testing.T) ring {
	t.Helper()
	r.T, r.ctx = t, t.Context()
	return r
}

// story runs a part of a test that shares its machines; after a failure the
// next is not tried, because it would start from a ring that nobody knows.
func (r ring) story(name string, f func(ring)) {
	r.Helper()
	if !r.Run(name, func(t *testing.T) { f(r.on(t)) }) {
		r.FailNow()
	}
}

// newWorld is a network without machines.
func newWorld(t *testing.T) ring {
	t.Helper()
	if !Asked() {
		t.Skipf("boots machines: make e2e, or %s=nspawn", lab.EnvRequire)
	}
	lab.Require(t, "root", "nspawn", "exporter")
	t.Parallel()
	w, err := NewWorld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("take the world down: %v", err)
		}
	})
	r := ring{World: w}.on(t)
	t.Cleanup(r.tell)
	return r
}

// newRing is a ring of machines, which were all set up as a manual says, and
// on which the exporter runs.
func newRing(t *testing.T, names ...string) (ring, map[string]lab.Container) {
	t.Helper()
	r := newWorld(t)
	for _, name := range names {
		r.boot(name)
	}
	r.form(names...)
	return r, r.everywhere(exporter, names...)
}

// boot adds a machine with the package.
func (r ring) boot(name string) *Machine {
	r.Helper()
	m, err := r.Add(r.ctx, name)
	r.must(err)
	r.install(m, versionA)
	return m
}

// install installs the package of a version, and the images, which no registry has.
func (r ring) install(m *Machine, version string) string {
	r.Helper()
	dir, err := Packages(r.ctx, version)
	r.must(err)
	said, err := m.Install(r.ctx, dir)
	r.must(err)
	r.images(m)
	return said
}

// images gives the machine's containerd the images of the exporter and of testd.
func (r ring) images(m *Machine) {
	r.Helper()
	for name, pack := range map[string]func(ctx context.Context, path string) error{
		"exporter.tar": func(ctx context.Context, path string) error {
			_, err := lab.NodeExporterImage(ctx, path)
			return err
		},
		"testd.tar": func(ctx context.Context, path string) error {
			_, err := lab.TestImage(ctx, path)
			return err
		},
	} {
		archive, err := Made(r.ctx, name, pack)
		r.must(err)
		r.must(m.Containerd().Import(r.ctx, Namespace, archive))
	}
}

// form makes a ring of the machines, the first by init, and applies the exporter.
func (r ring) form(names ...string) {
	r.Helper()
	first := r.Machine(names[0])
	advertise := first.Address
	if r.Net.IPv6 {
		advertise = "[" + advertise + "]"
	}
	_, err := first.Must(r.ctx, "agentctl", "init", "--ring", "e2e", "--advertise", advertise)
	r.must(err)
	for _, name := range names[1:] {
		_, err := r.Machine(name).Join(r.ctx, first)
		r.must(err)
	}
	r.must(first.Apply(r.ctx, exporterToml("")))
	r.agree(names...)
}

func (r ring) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r ring) eventually(what string, cond func(ctx context.Context) error) {
	r.Helper()
	if err := lab.Within(r.ctx, settle, cond); err != nil {
		r.Fatalf("%s: %v", what, err)
	}
}

// pause lets real time pass, for what must not happen meanwhile.
func (r ring) pause(d time.Duration) {
	r.Helper()
	r.must(lab.Pause(r.ctx, d))
}

// run runs a command on a machine, which has to end with 0, and returns all
// that it said.
func (r ring) run(m *Machine, argv ...string) string {
	r.Helper()
	res, err := m.Exec(r.ctx, argv...)
	r.must(err)
	if res.Code != 0 {
		r.Fatalf("%q on %s exits %d: %s", strings.Join(argv, " "), m.Name, res.Code, res.Output())
	}
	return res.Output()
}

// one waits until exactly one container of the daemon runs and returns it.
func (r ring) one(m *Machine, daemon string) lab.Container {
	r.Helper()
	var c lab.Container
	r.eventually(daemon+" on "+m.Name, func(ctx context.Context) (err error) {
		c, err = m.Containerd().Container(ctx, Namespace, daemon)
		if err == nil && !c.Running() {
			err = fmt.Errorf("containerd tells %+v", c)
		}
		return err
	})
	return c
}

// none waits until no container of the daemon is there.
func (r ring) none(m *Machine, daemon string) {
	r.Helper()
	r.eventually("no "+daemon+" on "+m.Name, func(ctx context.Context) error {
		c, err := m.Containerd().Container(ctx, Namespace, daemon)
		if err == nil && c.Status != "" {
			err = fmt.Errorf("containerd tells %+v", c)
		}
		return err
	})
}

// everywhere waits for one container of the daemon on each machine.
func (r ring) everywhere(daemon string, names ...string) map[string]lab.Container {
	r.Helper()
	all := map[string]lab.Container{}
	for _, name := range names {
		all[name] = r.one(r.Machine(name), daemon)
		if daemon == exporter {
			r.serves(r.Machine(name))
		}
	}
	return all
}

// serves waits until the exporter answers by HTTP.
func (r ring) serves(m *Machine) {
	r.Helper()
	r.eventually("metrics of "+m.Name, func(ctx context.Context) error {
		page, err := m.Get(ctx, "http://127.0.0.1:9100/metrics")
		if err == nil && !strings.Contains(page, "node_load1 ") {
			err = fmt.Errorf("node_load1 is not among %d bytes", len(page))
		}
		return err
	})
}

// same fails when a container is not the process that was seen before.
func (r ring) same(seen map[string]lab.Container, names ...string) {
	r.Helper()
	for _, name := range names {
		now, err := r.Machine(name).Containerd().Container(r.ctx, Namespace, seen[name].ID)
		r.must(err)
		if !now.Running() || !now.Same(seen[name]) {
			r.Errorf("%s on %s was %+v, and is %+v", seen[name].ID, name, seen[name], now)
		}
	}
}

// agree waits until the agents of these machines, and no others, hold the same
// records, and all that is placed on them is ready.
func (r ring) agree(names ...string) {
	r.Helper()
	for _, name := range names {
		r.eventually("status on "+name, func(ctx context.Context) error {
			st, err := r.Machine(name).Status(ctx)
			if err == nil && (st.Ring.Nodes.Alive != len(names) || !st.Ring.InSync) {
				err = fmt.Errorf("%+v", st.Ring)
			}
			return err
		})
	}
}

// daemon waits until the machine's own status of a daemon is as wanted.
func (r ring) daemon(m *Machine, daemon string, wanted func(api.NodeDaemon) bool) api.NodeDaemon {
	r.Helper()
	var got api.NodeDaemon
	r.eventually(daemon+" in the status of "+m.Name, func(ctx context.Context) error {
		st, err := m.Status(ctx)
		if err != nil {
			return err
		}
		for _, d := range st.Daemons {
			for _, n := range d.Nodes {
				if d.Name == daemon && n.Node == m.Name {
					if got = n; wanted(n) {
						return nil
					}
				}
			}
		}
		return fmt.Errorf("it is %+v", got)
	})
	return got
}

// agent waits until agentd.service is up with another main process than old,
// and returns the new one.
func (r ring) agent(m *Machine, old string) string {
	r.Helper()
	var pid string
	r.eventually("agentd.service on "+m.Name, func(ctx context.Context) error {
		state, err := m.Unit(ctx, "agentd", "ActiveState")
		if err != nil {
			return err
		}
		if pid, err = m.Unit(ctx, "agentd", "MainPID"); err != nil {
			return err
		}
		if state != "active" || pid == "0" || pid == old {
			return fmt.Errorf("it is %s with process %s", state, pid)
		}
		_, err = m.Status(ctx)
		return err
	})
	return pid
}

// tell prints what the agents of a failed test's machines logged.
func (r ring) tell() {
	if !r.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, m := range r.Machines {
		if m.nspawn != nil {
			r.Logf("journal of agentd on %s:\n%s", m.Name, m.Journal(ctx, "agentd", 60))
		}
	}
}
