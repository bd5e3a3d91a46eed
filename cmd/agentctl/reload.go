package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", GroupID: groupMore, Short: "Make this machine's agentd read its configuration again",
		Long: `Makes agentd read agentd.toml, its drop-ins and trust.d again, as systemctl
reload agentd does, and says what it made of them. Labels, taints, the join
list, the policy, trusted operators, the log's level and the limits of log files
are taken over; neither the ring nor a container notices. What takes a restart
is named. When something is wrong with a file, nothing is changed. Needs root.`,
		Example: "  sudo agentctl reload", Args: noArgs, Annotations: formats("json"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := a.client()
			defer c.Close()
			r, err := c.Reload(cmd.Context())
			if err != nil {
				return cannot("reload", err)
			}
			if a.output == "json" {
				return printJSON(a.stdout, r)
			}
			for _, key := range r.Changed {
				fmt.Fprintf(a.stdout, "%s changed\n", clean(key))
			}
			if len(r.Changed)+len(r.Restart) == 0 {
				fmt.Fprintln(a.stdout, "nothing changed")
			}
			if len(r.Restart) > 0 {
				a.warnf("not in effect before a restart: %s", strings.Join(r.Restart, ", "))
				a.hintf("containers run on meanwhile: sudo systemctl restart agentd")
			}
			return nil
		},
	}
}
