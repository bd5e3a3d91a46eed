package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// patience is how long a step may take before it counts as not having held;
// most take less than a second.
const patience = 30 * time.Second

// exporterProgram is the file name of the process in the container.
const exporterProgram = "prometheus-node-exporter"

// runs waits until containerd says that the node runs exactly one container of
// the daemon, and /proc that there is exactly one process of it.
func (s *story) runs(ctx context.Context, name string) (lab.Container, error) {
	var found lab.Container
	n := s.lab.Node(name)
	err := lab.Within(ctx, patience, func(ctx context.Context) error {
		all, err := n.Containers(ctx)
		if err != nil {
			return err
		}
		if len(all) != 1 || all[0].ID != daemonName || !all[0].Running() {
			return fmt.Errorf("containerd of %s has %d containers, not one that runs: %+v", name, len(all), all)
		}
		found = all[0]
		return s.processes(name, 1)
	})
	return found, err
}

// processes makes sure that /proc has so many processes of the daemon.
func (s *story) processes(name string, want int) error {
	count, err := s.lab.Node(name).Programs(exporterProgram)
	if err == nil && count != want {
		err = fmt.Errorf("/proc has %d processes of %s on %s, not %d", count, exporterProgram, name, want)
	}
	return err
}

// gone waits until containerd has no container of the node any more, and /proc
// no process.
func (s *story) gone(ctx context.Context, name string) error {
	n := s.lab.Node(name)
	err := lab.Within(ctx, patience, func(ctx context.Context) error {
		all, err := n.Containers(ctx)
		if err != nil {
			return err
		}
		if len(all) != 0 {
			return fmt.Errorf("containerd of %s still has %+v", name, all)
		}
		return s.processes(name, 0)
	})
	if err == nil {
		s.observed("containerd of %s has no container any more, /proc no process", name)
	}
	return err
}

// untouched makes sure that the nodes still run the very processes seen last.
func (s *story) untouched(ctx context.Context, names ...string) error {
	for _, name := range names {
		c, err := s.runs(ctx, name)
		if err != nil {
			return err
		}
		if !c.Same(s.seen[name]) {
			return fmt.Errorf("%s runs process %d, but it was %d: somebody restarted it", name, c.PID, s.seen[name].PID)
		}
	}
	s.observed("%s untouched: the same processes as before", strings.Join(names, ", "))
	return nil
}

// everywhere waits until all named nodes run it and remembers the processes.
func (s *story) everywhere(ctx context.Context, names ...string) error {
	for _, name := range names {
		c, err := s.runs(ctx, name)
		if err != nil {
			return err
		}
		s.seen[name] = c
	}
	return nil
}

// tasks shows what containerd says of the nodes.
func (s *story) tasks(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := s.sh(ctx, s.ctr(name, "tasks ls")); err != nil {
			return err
		}
		c := s.seen[name]
		s.observed("%s runs one: /proc/%d is %s", name, c.PID, strings.Fields(c.Command)[0])
	}
	return nil
}

func (s *story) apply(ctx context.Context) error {
	s.heading("One apply, one container on every machine")
	if err := s.file(s.lab.Dir+"/node-exporter.toml", "$D/node-exporter.toml", daemonFile); err != nil {
		return err
	}
	began := time.Now()
	if _, err := s.sh(ctx, s.ctl("web-1", "apply -f $D/node-exporter.toml")); err != nil {
		return err
	}
	if err := s.everywhere(ctx, "web-1", "web-2", "web-3"); err != nil {
		return err
	}
	s.observed("it took %v from typing to running on all three", time.Since(began).Round(10*time.Millisecond))
	s.say("agentd's word is not enough here: this is what each containerd says.")
	return s.tasks(ctx, "web-1", "web-2", "web-3")
}

// status compares what agentctl says with what was seen.
func (s *story) status(ctx context.Context) error {
	s.heading("What the ring says of itself")
	err := lab.Within(ctx, patience, func(ctx context.Context) error {
		st, err := s.lab.Node("web-2").Status(ctx)
		if err != nil {
			return err
		}
		if len(st.Daemons) != 1 || st.Daemons[0].Ready != 3 || st.Daemons[0].State != "ok" {
			return fmt.Errorf("status on web-2 tells %+v", st.Daemons)
		}
		for _, d := range st.Daemons[0].Nodes {
			if d.PID != s.seen[d.Node].PID {
				return fmt.Errorf("status tells pid %d on %s, containerd %d", d.PID, d.Node, s.seen[d.Node].PID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := s.sh(ctx, s.ctl("web-2", "status")); err != nil {
		return err
	}
	if _, err := s.sh(ctx, s.ctl("web-2", "status "+daemonName)); err != nil {
		return err
	}
	s.observed("any node answers for all, and with the process ids that containerd told")
	return nil
}

func (s *story) metrics(ctx context.Context) error {
	s.heading("It really is the exporter")
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		out, err := s.sh(ctx, s.curl(name))
		if err != nil {
			return err
		}
		if !strings.Contains(out, "node_uname_info{") {
			return fmt.Errorf("the metrics page of %s lacks node_uname_info", name)
		}
	}
	s.observed("each machine serves its metrics page")
	return nil
}

func (s *story) curl(name string) string {
	return fmt.Sprintf("nsenter --net=/run/netns/%s curl -s --retry 5 --retry-connrefused http://127.0.0.1:9100/metrics | grep '^node_uname_info'", s.lab.Node(name).NetNS)
}

func (s *story) join(ctx context.Context) error {
	s.heading("A fourth machine joins, and gets its daemon by itself")
	if err := s.machine(ctx, "web-4"); err != nil {
		return err
	}
	if err := s.joinRing(ctx, "web-4"); err != nil {
		return err
	}
	began := time.Now()
	if err := s.everywhere(ctx, "web-4"); err != nil {
		return err
	}
	s.observed("it runs there %v after its agent started", time.Since(began).Round(10*time.Millisecond))
	if err := s.tasks(ctx, "web-4"); err != nil {
		return err
	}
	if err := s.untouched(ctx, "web-1", "web-2", "web-3"); err != nil {
		return err
	}
	if err := s.members(ctx, 4); err != nil {
		return err
	}
	_, err := s.sh(ctx, s.ctl("web-4", "nodes"))
	return err
}

func (s *story) leave(ctx context.Context) error {
	s.heading("A machine leaves")
	s.say(`Only an operator's leave does this: an agent that stops, crashes or loses the
network leaves its containers running.`)
	if _, err := s.sh(ctx, s.ctl("web-2", "leave --yes")); err != nil {
		return err
	}
	if err := s.gone(ctx, "web-2"); err != nil {
		return err
	}
	if _, err := s.sh(ctx, s.ctr("web-2", "containers ls")); err != nil {
		return err
	}
	if err := s.untouched(ctx, "web-1", "web-3", "web-4"); err != nil {
		return err
	}
	if err := s.members(ctx, 3); err != nil {
		return err
	}
	_, err := s.sh(ctx, s.ctl("web-1", "nodes"))
	return err
}

func (s *story) kill(ctx context.Context) error {
	s.heading("A container is killed, and is back at once")
	old := s.seen["web-3"]
	began := time.Now()
	if _, err := s.sh(ctx, fmt.Sprintf("kill -9 %d", old.PID)); err != nil {
		return err
	}
	err := lab.Within(ctx, patience, func(ctx context.Context) error {
		c, err := s.lab.Node("web-3").Container(ctx, daemonName)
		if err != nil {
			return err
		}
		if !c.Running() || c.Same(old) {
			return fmt.Errorf("containerd of web-3 tells %+v", c)
		}
		return nil
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	if err := s.everywhere(ctx, "web-3"); err != nil {
		return err
	}
	s.observed("back after %v, as another process", took.Round(10*time.Millisecond))
	if err := s.tasks(ctx, "web-3"); err != nil {
		return err
	}
	if err := s.untouched(ctx, "web-1", "web-4"); err != nil {
		return err
	}
	_, err = s.sh(ctx, s.ctl("web-3", "why "+daemonName+" web-3"))
	return err
}

func (s *story) agentDies(ctx context.Context) error {
	s.heading("agentd itself is killed, and nobody notices")
	n := s.lab.Node("web-1")
	s.show(fmt.Sprintf("kill -9 %d   # agentd of web-1", n.Agent.PID))
	if err := n.Agent.Stop(syscall.SIGKILL, patience); err != nil {
		return err
	}
	if err := s.untouched(ctx, "web-1"); err != nil {
		return err
	}
	if err := s.start(ctx, n); err != nil {
		return err
	}
	err := lab.Within(ctx, patience, func(ctx context.Context) error {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		if len(st.Daemons) != 1 || st.Daemons[0].Ready != 3 {
			return fmt.Errorf("status on web-1 tells %+v", st.Daemons)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.untouched(ctx, "web-1", "web-3", "web-4")
}

// revise applies a changed file and waits until every node runs it.
func (s *story) revise(ctx context.Context) error {
	s.heading("A new revision, machine after machine")
	nodes := []string{"web-1", "web-3", "web-4"}
	if _, err := s.sh(ctx, "sed -i 's/--web/--no-collector.zfs\", \"--web/' $D/node-exporter.toml"); err != nil {
		return err
	}
	if _, err := s.sh(ctx, s.ctl("web-4", "apply --yes --wait -f $D/node-exporter.toml")); err != nil {
		return err
	}
	var starts []uint64
	for _, name := range nodes {
		old := s.seen[name]
		err := lab.Within(ctx, patience, func(ctx context.Context) error {
			c, err := s.lab.Node(name).Container(ctx, daemonName)
			if err != nil {
				return err
			}
			if !c.Running() || c.Same(old) || !strings.Contains(c.Command, "--no-collector.zfs") {
				return fmt.Errorf("containerd of %s tells %+v", name, c)
			}
			starts = append(starts, c.Start)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := s.everywhere(ctx, nodes...); err != nil {
		return err
	}
	s.observed("%s run new processes, /proc/PID/cmdline has the new argument", strings.Join(nodes, ", "))
	slices.Sort(starts)
	for i, at := range starts[1:] {
		if at-starts[i] < ticksPerSecond {
			return fmt.Errorf("two machines changed within %d ticks of the kernel's clock, a second is %d", at-starts[i], ticksPerSecond)
		}
	}
	s.observed("one after another: each started a second or more after the one before was up")
	err := lab.Within(ctx, patience, func(ctx context.Context) error {
		st, err := s.lab.Node("web-1").Status(ctx)
		if err != nil {
			return err
		}
		if len(st.Daemons) != 1 || st.Daemons[0].Revision != 2 || st.Daemons[0].Updated != 3 || st.Daemons[0].Ready != 3 {
			return fmt.Errorf("status on web-1 tells %+v", st.Daemons)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err = s.sh(ctx, s.ctl("web-1", "status")); err != nil {
		return err
	}
	_, err = s.sh(ctx, s.ctl("web-1", "rollout history node-exporter"))
	return err
}

// ticksPerSecond of start times in /proc (USER_HZ, the same on every Linux that
// Go runs on).
const ticksPerSecond = 100

func (s *story) remove(ctx context.Context) error {
	s.heading("Delete it, and it is gone everywhere")
	if _, err := s.sh(ctx, s.ctl("web-4", "delete --yes "+daemonName)); err != nil {
		return err
	}
	for _, name := range []string{"web-1", "web-3", "web-4"} {
		if err := s.gone(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) again(ctx context.Context) error {
	s.heading("And back with one apply")
	if _, err := s.sh(ctx, s.ctl("web-3", "apply -f $D/node-exporter.toml")); err != nil {
		return err
	}
	if err := s.everywhere(ctx, "web-1", "web-3", "web-4"); err != nil {
		return err
	}
	if err := s.tasks(ctx, "web-1", "web-3", "web-4"); err != nil {
		return err
	}
	s.say("Not on web-2: it left.")
	return s.gone(ctx, "web-2")
}
