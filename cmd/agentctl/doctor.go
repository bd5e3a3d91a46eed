package main

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/agent/doctor"
	"github.com/agentd/agentd/api"
)

// diagnosis is the JSON of agentctl doctor.
type diagnosis struct {
	Schema int              `json:"schema"`
	Result doctor.Result    `json:"result"` // the gravest
	Checks []doctor.Finding `json:"checks"`
}

func (a *app) doctorCommand() *cobra.Command {
	dir := defaultDir
	cmd := &cobra.Command{
		Use: "doctor", GroupID: groupMore, Short: "Check this machine and say what to do",
		Long: `Checks what agentd needs on this machine: its configuration, keys and who may
read them, trusted operators, containerd and runc with their known holes,
cgroups, room on the disks, the clock, ports and the unit. When agentd runs, it
also tries the ways to other nodes, and has them try the way back, and compares
clocks and versions. It changes nothing.

Each line is ok, warn or fail; lines that begin with # say how to mend it. The
exit code is 1 when something failed. As root it sees more.`,
		Example: `  sudo agentctl doctor
  sudo agentctl doctor -o json | jq '.checks[] | select(.result != "ok")'`,
		Args: noArgs, Annotations: formats("json"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), dir) },
	}
	cmd.Flags().StringVar(&dir, "config-dir", defaultDir, "folder of agentd.toml")
	return cmd
}

func (a *app) doctor(ctx context.Context, dir string) error {
	d := diagnosis{Schema: api.Schema, Checks: a.diagnose(ctx, filepath.Join(dir, "agentd.toml"))}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	doctor.Sort(d.Checks)
	d.Result = doctor.Worst(d.Checks)
	if a.output == "json" {
		if err := printJSON(a.stdout, d); err != nil {
			return err
		}
	} else {
		a.printDiagnosis(d.Checks)
	}
	if d.Result == doctor.Fail {
		return &exitError{code: exitFailed}
	}
	return nil
}

// diagnose asks the machine and, where it answers, agentd.
func (a *app) diagnose(ctx context.Context, file string) []doctor.Finding {
	socket := a.socketPath()
	if loaded, err := config.Load(file); err == nil {
		socket = a.socketFor(loaded)
	}
	c := api.NewClient(socket)
	defer c.Close()
	answers, errAgent := askAgent(ctx, c)
	key, _, err := a.keyPath()
	if err != nil {
		key = "" // then there is none to check
	}
	list, loaded := doctor.Examine(ctx, a.machine(), doctor.Subject{File: file, OperatorKey: key, Runs: errAgent == nil})
	if errAgent != nil {
		fix := ""
		if hints := a.hints(errAgent); len(hints) > 0 {
			fix = hints[0]
		}
		return append(list, doctor.Down(errAgent, fix)...)
	}
	if loaded != nil {
		list = append(list, doctor.Socket(loaded.API)...)
	}
	answers.Own = ownBuild().Version
	return append(list, doctor.Ring(answers)...)
}

// askAgent gathers what agentd says. Only that it answers at all is asked for
// with little patience.
func askAgent(ctx context.Context, c *api.Client) (out doctor.Answers, err error) {
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if out.Info, err = c.Info(short); err != nil {
		return out, err
	}
	if out.Status, err = c.Status(ctx, api.StatusQuery{}); err != nil {
		return out, err
	}
	if out.Nodes, err = c.Nodes(ctx); err != nil {
		return out, err
	}
	reach, err := c.Reach(ctx)
	var old *api.Problem
	if errors.As(err, &old) && old.Status == http.StatusNotFound {
		return out, nil // an agentd of before
	}
	out.Reach = &reach
	return out, err
}

// printDiagnosis prints a line for each finding, and then what to do.
func (a *app) printDiagnosis(list []doctor.Finding) {
	t := newTable("CHECK", "RESULT", "DETAIL")
	t.colors = map[int]bool{1: true}
	for _, f := range list {
		t.add(f.Check, string(f.Result), f.Detail)
	}
	a.print(t)
	for _, f := range list {
		if f.Fix != "" {
			a.note("%s: %s", f.Check, f.Fix)
		}
	}
	bad, odd := doctor.Count(list, doctor.Fail), doctor.Count(list, doctor.Warn)
	if bad+odd == 0 {
		a.note("nothing to mend")
		return
	}
	a.note("%s failed, %s", plural(bad, "check"), plural(odd, "warning"))
}
