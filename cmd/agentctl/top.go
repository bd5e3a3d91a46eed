package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

// topEvery lies between the two looks from which top makes rates.
const topEvery = time.Second

func (a *app) topCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use: "top [NAME…]", GroupID: groupDaemons, Short: "Show what the containers of this node use",
		Long: `Shows what the containers of this node use: CPU% of one core over a second,
memory in use and its limit, processes, restarts. -o wide adds what the kernel
killed for want of memory, and the process id.`,
		Example: `  agentctl top
  agentctl top -o json | jq '.daemons[] | select(.cpu_percent > 50) | .name'`,
		Annotations: formats("json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if every <= 0 {
				return usagef("use a duration: --interval 5s", "--interval is not positive")
			}
			return a.top(cmd.Context(), unique(args), every)
		},
	}
	cmd.Flags().DurationVar(&every, "interval", topEvery, "measure CPU% over this long")
	return cmd
}

// usage is one container between two looks.
type usage struct {
	api.TopDaemon
	CPUPercent *float64 `json:"cpu_percent"` // of one core; null when it can't be told
}

// usageJSON is the document of agentctl top.
type usageJSON struct {
	Schema  int     `json:"schema"`
	Node    string  `json:"node"`
	Daemons []usage `json:"daemons"`
}

func (a *app) top(ctx context.Context, names []string, every time.Duration) error {
	c := a.client()
	defer c.Close()
	first, err := c.Top(ctx)
	if err != nil {
		return cannot("show what containers use", err)
	}
	if !wait(ctx, every) {
		return ctx.Err()
	}
	second, err := c.Top(ctx)
	if err != nil {
		return cannot("show what containers use", err)
	}
	list := usages(first, second)
	var missing errorList
	if len(names) > 0 {
		list = slices.DeleteFunc(list, func(u usage) bool { return !slices.Contains(names, u.Name) })
		for _, name := range names {
			if slices.ContainsFunc(list, func(u usage) bool { return u.Name == name }) {
				continue
			}
			missing = append(missing, withHint(fmt.Errorf("daemon %q has no container on %s", name, second.Node), "see: agentctl why %s %s", name, second.Node))
		}
	}
	if err := a.printTop(second.Node, list); err != nil {
		return err
	}
	if len(missing) > 0 {
		return missing
	}
	return nil
}

// usages makes rates of two looks at the same containers.
func usages(first, second api.Top) []usage {
	list := []usage{}
	for _, now := range second.Daemons {
		u := usage{TopDaemon: now}
		i := slices.IndexFunc(first.Daemons, func(d api.TopDaemon) bool { return d.Name == now.Name && d.PID == now.PID })
		if i >= 0 && first.Daemons[i].At != nil && now.At != nil {
			took := now.At.Sub(*first.Daemons[i].At).Seconds()
			used := now.CPUSeconds - first.Daemons[i].CPUSeconds
			if took > 0 && used >= 0 {
				percent := 100 * used / took
				u.CPUPercent = &percent
			}
		}
		list = append(list, u)
	}
	return list
}

func (a *app) printTop(node string, list []usage) error {
	if a.output == "json" {
		return printJSON(a.stdout, usageJSON{Schema: api.Schema, Node: node, Daemons: list})
	}
	t := newTable("NAME", "CPU%", "MEMORY", "LIMIT", "PIDS", "RESTARTS", "AGE")
	wide := a.output == "wide"
	if wide {
		t.header = append(t.header, "OOM-KILLS", "PID")
	}
	for _, u := range list {
		cpu, memory, limit, pids, oom := "-", "-", "-", "-", "-"
		if u.CPUPercent != nil {
			cpu = strconv.FormatFloat(*u.CPUPercent, 'f', 1, 64)
		}
		if u.At != nil {
			memory, pids, oom = bytesWord(u.Memory), strconv.FormatUint(u.PIDs, 10), strconv.FormatUint(u.OOMKills, 10)
			if u.MemoryLimit > 0 {
				limit = bytesWord(u.MemoryLimit)
			}
		}
		row := []string{u.Name, cpu, memory, limit, pids, strconv.Itoa(u.Restarts), a.ageOf(u.StartedAt)}
		if wide {
			row = append(row, oom, pid(u.PID))
		}
		t.add(row...)
	}
	a.print(t)
	for _, u := range list {
		if u.Error != "" {
			a.note("%s: %s", u.Name, u.Error)
		}
	}
	if len(list) == 0 {
		a.note("no daemon has a container on %s", node)
	}
	return nil
}

// bytesWord is a size as daemon files have them: 512B, 1.5KiB, 200MiB.
func bytesWord(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.95 && unit < len(units)-1 { // what would be rounded to 1024
		v /= 1024
		unit++
	}
	text := strconv.FormatFloat(v, 'f', 1, 64)
	if len(text) > 1 && text[len(text)-2:] == ".0" {
		text = text[:len(text)-2]
	}
	return fmt.Sprintf("%s%ciB", text, units[unit])
}
