package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// story is one run of the demo.
type story struct {
	*teller
	lab     *lab.Lab
	dir     string // $D
	shown   bool   // how a machine is made
	archive string
	// seen holds each node's container as containerd last told, to notice
	// when another process took its place.
	seen map[string]lab.Container
}

// daemonName is the daemon that the story is about.
const daemonName = "node-exporter"

// daemonFile is what the reader would write.
const daemonFile = `name  = "node-exporter"
image = "` + lab.NodeExporterRef + `"
args  = ["--path.rootfs=/host", "--web.listen-address=:9100"]

[[mounts]]
source  = "/"
target  = "/host"
options = ["ro", "rslave"]

[resources]
memory = "200MiB"
`

// tell runs the story, cleans up whatever happened, and looks whether anything
// is left. Not nil means that not everything held.
func tell(ctx context.Context, stdout io.Writer, once bool) (err error) {
	if left, err := leftFolders(); err != nil {
		return err
	} else if len(left) > 0 {
		return fmt.Errorf("an earlier demo was interrupted and left %s; remove it with: make demo-down", strings.Join(left, ", "))
	}
	before, err := lab.TakeSnapshot()
	if err != nil {
		return err
	}
	dir, err := lab.TempDir(demoID + ".")
	if err != nil {
		return err
	}
	t := &teller{out: stdout, env: []string{"D=" + dir, "AGENTCTL_KEY=" + dir + "/operator.key"}}
	began := time.Now()
	err = live(ctx, t, dir, once)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted before the end")
	}

	fmt.Fprintf(t.out, "\n--- Cleaning up\n")
	if sweepErr := lab.Sweep(demoID, dir); sweepErr != nil {
		return errors.Join(err, sweepErr)
	}
	lab.SweepRun()
	// A second look: the last processes may just be ending, and what somebody
	// else's containers leave for a moment is none of ours.
	leftErr := lab.Within(context.Background(), 5*time.Second, func(context.Context) error {
		after, err := lab.TakeSnapshot()
		if left := leftBehind(before, after, dir); err == nil && len(left) > 0 {
			err = fmt.Errorf("this was left behind:\n%s", strings.Join(left, "\n"))
		}
		return err
	})
	if leftErr == nil {
		t.observed("nothing is left: no process, mount, network namespace, cgroup or file")
	}
	err = errors.Join(err, leftErr)
	if err == nil {
		t.say("Done in %v: %d observations, all true.", time.Since(began).Round(time.Second), t.checks)
	}
	return err
}

// live is the part with the lab up.
func live(ctx context.Context, t *teller, dir string, once bool) error {
	s := &story{teller: t, dir: dir, seen: map[string]lab.Container{}}
	steps := []func(context.Context) error{
		s.machines, s.ring, s.apply, s.status, s.metrics, s.join,
		s.leave, s.kill, s.agentDies, s.revise, s.remove, s.again,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			if ctx.Err() == nil {
				s.evidence()
			}
			return err
		}
	}
	if once {
		return nil
	}
	s.heading("Your turn")
	s.say(`Everything stays up until you press Ctrl-C here. In another terminal, as
root and in this folder:`)
	s.show("export " + strings.Join(s.env, " "))
	s.show(s.ctl("web-1", "status"))
	s.show(s.ctl("web-1", "why "+daemonName))
	s.show(s.ctl("web-1", "logs "+daemonName+" -f"))
	s.show(s.ctl("web-1", "events -f"))
	s.show("tail -f $D/web-1/agentd.log")
	<-ctx.Done()
	return nil
}

// ctl is an agentctl command line as the reader would type it.
func (s *story) ctl(node, args string) string {
	return fmt.Sprintf("bin/agentctl --socket $D/%s/agentd.sock %s", node, args)
}

// ctr is a ctr command line as the reader would type it.
func (s *story) ctr(node, args string) string {
	return fmt.Sprintf("ctr --address $D/%s/c/c.sock --namespace %s %s", node, s.lab.Node(node).Namespace, args)
}

// machines makes the image and three nodes.
func (s *story) machines(ctx context.Context) error {
	fmt.Fprintln(s.out, "# agentd keeps one container of each daemon running on every machine of a ring,")
	fmt.Fprintln(s.out, "# without a controller and without Kubernetes. Here is how that looks, with real")
	fmt.Fprintln(s.out, "# parts on this one machine. Lines with $ are the commands that are run; to type")
	fmt.Fprintln(s.out, "# some yourself in another terminal:")
	s.show("export " + strings.Join(s.env, " "))

	s.heading("Three machines, and a daemon worth running everywhere")
	s.say(`The Prometheus node exporter comes out of Debian's own package; an image is
made of it on the spot, so that no registry is needed.`)
	s.archive = filepath.Join(s.dir, "node-exporter.tar")
	img, err := lab.NodeExporterImage(ctx, s.archive)
	if err != nil {
		return err
	}
	s.observed("image %s", img)
	s.say(`A machine is a network namespace on a common switch, and a containerd of its
own in it that has the image. The first one is made like this, the others alike.`)
	if s.lab, err = lab.New(ctx, lab.Config{ID: demoID, Dir: s.dir, Archives: []string{s.archive}, Trace: s.made}); err != nil {
		return err
	}
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		if err := s.machine(ctx, name); err != nil {
			return err
		}
	}
	_, err = s.sh(ctx, s.ctr("web-1", "images ls -q"))
	return err
}

// made shows the commands that make the switch and the first machine.
func (s *story) made(argv []string) {
	if s.shown {
		return
	}
	line := strings.ReplaceAll(strings.Join(argv, " "), s.dir, "$D")
	if strings.Contains(line, "containerd --config") {
		line += " &"
	}
	s.show(line)
}

// machine makes one node, without agentd.
func (s *story) machine(ctx context.Context, name string) error {
	n, err := s.lab.AddNode(ctx, name)
	if err != nil {
		return err
	}
	s.shown = true
	s.observed("%s: address %s, network namespace %s, containerd at $D/%s/c/c.sock", name, n.Address, n.NetNS, name)
	return nil
}

// ring turns the machines into a ring.
func (s *story) ring(ctx context.Context) error {
	s.heading("A ring")
	s.say(`The first machine draws the ring's key and yours, the operator's: only what
that key has signed will ever run.`)
	if _, err := s.sh(ctx, "bin/agentctl init --ring demo --name web-1 --advertise 10.99.0.1 --config-dir $D/web-1 --no-start"); err != nil {
		return err
	}
	s.say(`One file more, because these machines are only one: it says which containerd is
whose. On real machines the default does.`)
	first := s.lab.Node("web-1")
	if err := first.Configure(); err != nil {
		return err
	}
	if _, err := s.sh(ctx, "cat $D/web-1/agentd.d/50-node.toml"); err != nil {
		return err
	}
	if err := s.start(ctx, first); err != nil {
		return err
	}
	s.say("The other two join with a token: ring key, operator's public key, address.")
	if _, err := s.sh(ctx, "bin/agentctl token --config-dir $D/web-1 > $D/token"); err != nil {
		return err
	}
	for _, name := range []string{"web-2", "web-3"} {
		if err := s.joinRing(ctx, name); err != nil {
			return err
		}
	}
	if err := s.members(ctx, 3); err != nil {
		return err
	}
	_, err := s.sh(ctx, s.ctl("web-1", "nodes"))
	return err
}

// joinRing makes a machine a node and starts its agent.
func (s *story) joinRing(ctx context.Context, name string) error {
	n := s.lab.Node(name)
	if _, err := s.sh(ctx, fmt.Sprintf("bin/agentctl join - --name %[1]s --config-dir $D/%[1]s --no-start < $D/token", name)); err != nil {
		return err
	}
	if err := n.Configure(); err != nil {
		return err
	}
	return s.start(ctx, n)
}

// start runs a node's agent.
func (s *story) start(ctx context.Context, n *lab.Node) error {
	s.show(fmt.Sprintf("nsenter --net=/run/netns/%s bin/agentd --config $D/%s/agentd.toml >> $D/%s/agentd.log 2>&1 &", n.NetNS, n.Name, n.Name))
	return n.StartAgent(ctx)
}

// members waits until every running agent counts so many alive.
func (s *story) members(ctx context.Context, want int) error {
	return lab.Within(ctx, 30*time.Second, func(ctx context.Context) error {
		for _, n := range s.lab.Nodes {
			if n.Agent == nil || !n.Agent.Running() {
				continue
			}
			st, err := n.Status(ctx)
			if err != nil {
				return err
			}
			if st.Ring.Nodes.Alive != want && !st.Ring.Left {
				return fmt.Errorf("%s sees %d nodes alive, not %d", n.Name, st.Ring.Nodes.Alive, want)
			}
		}
		return nil
	})
}

// evidence shows the agents' logs when a step did not hold.
func (s *story) evidence() {
	if s.lab == nil {
		return
	}
	fmt.Fprintf(s.out, "\n--- That did not hold. What the agents say of it:\n")
	for _, n := range s.lab.Nodes {
		fmt.Fprintf(s.out, "# %s\n", n.AgentLog())
		if b, err := os.ReadFile(n.AgentLog()); err == nil {
			lines := strings.Split(strings.TrimSpace(string(b)), "\n")
			s.indent(strings.Join(lines[max(0, len(lines)-30):], "\n") + "\n")
		}
	}
}
