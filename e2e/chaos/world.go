package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// world is the machine that is injured: one containerd, the proxy before it,
// one agent, and somebody else's containers.
type world struct {
	dir, namespace, id string
	image              string // reference of the daemons' image
	program, logger    string // of the agent, and agentd-log
	server             *lab.Containerd
	proxy              *Proxy
	watcher            *Watcher
	daemons            []string
	revision           int
	foreign            lab.Container
	foreignInfo        string
	background         sync.WaitGroup

	mu        sync.Mutex   // guards what follows; server is used with it held
	agent     *lab.Process // nil while it is down
	serverUp  bool
	agentUp   bool
	troubled  error     // first error in the background
	disturbed time.Time // when the last fault, or its end, was
}

// wanted are the daemons, in what tells them apart for a supervisor: one that
// ends when told to, one that does not, one with files, a volume and limits,
// one whose processes would outlive their init, some with probes.
const wanted = `
[[daemon]]
name = "plain"
health.readiness = { exec = ["/testd", "--version"], interval = "300ms" }
[[daemon]]
name = "stubborn"
args = ["--alone=/alone/stubborn", "--ignore-term"]
stop.grace = "200ms"
[[daemon]]
name = "furnished"
mounts = [{ source = %[2]q, target = "/alone" }, { volume = "chaos", target = "/data" }, { tmpfs = true, target = "/scratch" }]
files = [{ target = "/etc/chaos.conf", content = "revision %[1]d" }]
resources = { memory = "256MiB", pids = 100 }
[[daemon]]
name = "hostpid"
pid = "host"
health.liveness = { exec = ["/testd", "--version"], interval = "500ms", timeout = "3s" }
[[daemon]]
name = "neighbour"
read_only = true
`

// backoffMax is the bound that the time to converge is stated for.
const backoffMax = "500ms"

var wantedNames = []string{"plain", "stubborn", "furnished", "hostpid", "neighbour"}

// wantedFile is what the agent reads.
func (w *world) wantedFile(remove bool) ([]byte, error) {
	toml := fmt.Sprintf(wanted, w.revision, w.alone())
	for _, name := range w.daemons {
		head := fmt.Sprintf("name = %q\n", name)
		common := fmt.Sprintf("image = %q\nenv = { %s = \"%s/%s/%d\" }\nrestart = { backoff = \"100ms\", backoff_max = %q }\n",
			w.image, MarkEnv, w.namespace, name, w.revision, backoffMax)
		if name != "stubborn" {
			common += fmt.Sprintf("args = [\"--alone=/alone/%s\"]\n", name)
		}
		if name != "furnished" {
			common += fmt.Sprintf("mounts = [{ source = %q, target = \"/alone\" }]\n", w.alone())
		}
		toml = strings.Replace(toml, head, head+common, 1)
	}
	return json.MarshalIndent(map[string]any{"Revision": w.revision, "Delete": remove, "Daemons": toml}, "", " ")
}

// want makes the present revision, or the removal of everything, wanted.
func (w *world) want(remove bool) error {
	b, err := w.wantedFile(remove)
	if err != nil {
		return err
	}
	part := filepath.Join(w.data(), "wanted.part")
	if err := os.WriteFile(part, b, 0o600); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(w.data(), "wanted.json"))
}

// alone is the folder of the locks that the programs take: a second witness,
// which does not blink. The kernel keeps two of them apart however short they
// live, and the loser says so.
func (w *world) alone() string { return filepath.Join(w.dir, "alone") }

// collided is what the losers said.
func (w *world) collided() []string {
	var all []string
	for _, name := range w.daemons {
		b, err := os.ReadFile(filepath.Join(w.alone(), name+".double"))
		if err != nil {
			continue // nobody lost
		}
		for line := range strings.Lines(string(b)) {
			all = append(all, name+" "+strings.TrimSpace(line))
		}
	}
	return all
}

func (w *world) data() string { return filepath.Join(w.dir, "data") }

// newWorld makes the machine, without an agent yet.
func newWorld(ctx context.Context, cfg Config) (*world, error) {
	w := &world{
		dir: cfg.Dir, namespace: lab.TestNamespace(), id: filepath.Base(cfg.Dir), image: lab.TestImageRef,
		daemons: wantedNames, revision: 1,
		program: filepath.Join(cfg.Dir, "agent"), logger: filepath.Join(cfg.Dir, "agentd-log"),
	}
	for _, dir := range []string{w.data(), w.alone()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for program, source := range map[string]string{w.program: "e2e/chaos/agent", w.logger: "cmd/agentd-log"} {
		if _, err := lab.Must(ctx, "go", "build", "-buildvcs=false", "-o", program, "github.com/agentd/agentd/"+source); err != nil {
			return nil, err
		}
	}
	archive := filepath.Join(w.dir, "images.tar")
	if _, err := lab.TestImage(ctx, archive); err != nil {
		return nil, err
	}
	var err error
	w.server, err = lab.StartContainerd(ctx, lab.ContainerdConfig{Dir: filepath.Join(w.dir, "c"), ID: w.id, Binary: cfg.Containerd})
	if err != nil {
		return nil, err
	}
	w.serverUp = true
	if err := w.server.Import(ctx, w.namespace, archive); err != nil {
		return w, err
	}
	w.proxy = NewProxy(filepath.Join(w.dir, "p.sock"), w.server.Address)
	w.watcher = NewWatcher(w.namespace)
	if err := w.proxy.Open(); err != nil {
		return w, err
	}
	return w, w.settleForeign(ctx)
}

const foreignID = "somebody-elses"

// settleForeign makes what belongs to others, in our namespace: a running
// container, one without a task that has the name of no daemon, and a lease.
func (w *world) settleForeign(ctx context.Context) error {
	if err := w.server.Run(ctx, w.namespace, w.image, foreignID); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"containers", "create", w.image, foreignID + "-idle"},
		{"leases", "create", "--id", foreignID},
	} {
		if _, err := w.server.Ctr(ctx, w.namespace, args...); err != nil {
			return err
		}
	}
	var err error
	w.foreign, w.foreignInfo, err = w.lookForeign(ctx)
	if err == nil && !w.foreign.Running() {
		err = fmt.Errorf("the foreign container does not run: %+v", w.foreign)
	}
	return err
}

func (w *world) lookForeign(ctx context.Context) (lab.Container, string, error) {
	now, err := w.server.Container(ctx, w.namespace, foreignID)
	if err != nil {
		return now, "", err
	}
	var info strings.Builder
	for _, args := range [][]string{
		{"containers", "info", foreignID}, {"containers", "info", foreignID + "-idle"}, {"leases", "ls"},
	} {
		out, err := w.server.Ctr(ctx, w.namespace, args...)
		if err != nil {
			return now, "", err
		}
		if args[0] == "leases" {
			lines := slices.DeleteFunc(strings.Split(out, "\n"), func(l string) bool { return !strings.HasPrefix(l, foreignID) })
			out = strings.Join(lines, "\n")
		}
		info.WriteString(out)
	}
	return now, info.String(), nil
}

// foreignTouched tells what happened to somebody else's things; "" is nothing.
func (w *world) foreignTouched(ctx context.Context) (string, error) {
	now, info, err := w.lookForeign(ctx)
	switch {
	case err != nil:
		return "", err
	case !now.Same(w.foreign) || !now.Running():
		return fmt.Sprintf("the foreign container was %+v and is %+v", w.foreign, now), nil
	case info != w.foreignInfo:
		return fmt.Sprintf("what containerd says of foreign things was\n%s\nand is\n%s", w.foreignInfo, info), nil
	}
	return "", nil
}

// startAgent starts the agent, or starts it again.
func (w *world) startAgent() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.startAgentLocked()
}

func (w *world) startAgentLocked() error {
	p, err := lab.StartProcess(lab.ProcessConfig{
		ID: w.id, Log: filepath.Join(w.dir, "agent.log"),
		Args: []string{w.program, "-address", filepath.Join(w.dir, "p.sock"), "-namespace", w.namespace,
			"-state", filepath.Join(w.server.Dir, "state"), "-data", w.data(), "-logger", w.logger},
	})
	if err != nil {
		return err
	}
	w.agent, w.agentUp = p, true
	return nil
}

// killAgent kills the agent and starts it again after down; false when it is
// down already.
func (w *world) killAgent(ctx context.Context, down time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.agentUp {
		return false
	}
	select {
	case <-w.agent.Done():
		w.troubleLocked(fmt.Errorf("the agent ended by itself, code %d:\n%s", w.agent.ExitCode(), w.agent.Tail()))
	default:
	}
	w.troubleLocked(w.agent.Kill())
	w.agentUp = false
	w.background.Go(func() {
		_ = lab.Pause(ctx, down)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.troubleLocked(w.startAgentLocked())
		w.disturbed = time.Now()
	})
	return true
}

// killServer does the same to containerd. The agent sees what it would see of
// the real socket.
func (w *world) killServer(ctx context.Context, down time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.serverUp {
		return false
	}
	w.troubleLocked(w.server.Kill())
	w.proxy.Close()
	w.serverUp = false
	w.background.Go(func() {
		_ = lab.Pause(ctx, down)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.troubleLocked(w.server.Start(context.WithoutCancel(ctx)))
		w.troubleLocked(w.proxy.Open())
		w.serverUp, w.disturbed = true, time.Now()
	})
	return true
}

func (w *world) troubleLocked(err error) {
	if w.troubled == nil {
		w.troubled = err
	}
}

// trouble is what went wrong with the test itself.
func (w *world) trouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.troubled
}

// calm waits until everything that a fault took down is up again, and returns
// when the last disturbance was.
func (w *world) calm() time.Time {
	w.proxy.Disarm()
	w.background.Wait()
	_, _, cut := w.proxy.Fired()
	w.mu.Lock()
	defer w.mu.Unlock()
	if cut.After(w.disturbed) {
		return cut
	}
	return w.disturbed
}

// close removes everything.
func (w *world) close() error {
	w.background.Wait()
	var errs []error
	w.mu.Lock()
	if w.agent != nil {
		errs = append(errs, w.agent.Kill())
	}
	w.mu.Unlock()
	if w.proxy != nil {
		w.proxy.Close()
	}
	if w.server != nil {
		errs = append(errs, w.server.Stop())
	}
	return errors.Join(errs...)
}
