package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// later is a command that is named in the contract and not built yet: it is
// listed, completed and explained, and says so when it is called.
type later struct {
	use, short, long, example string
	group                     string
	sub                       []later
}

// laterCommands lists what is still to come.
func (a *app) laterCommands() []*cobra.Command {
	list := []later{
		{use: "convert -f FILE", group: groupDaemons, short: "Make a daemon of a DaemonSet, Compose service or Quadlet",
			long:    "Turns a Kubernetes DaemonSet, a Compose service with mode: global or a Quadlet\n.container file into a daemon, and names every field that it can't carry.",
			example: "  agentctl convert -f daemonset.yaml > daemon.toml"},
		{use: "image", group: groupMore, short: "Images of this node", long: "Manages the images of this node.", example: "  agentctl image list",
			sub: []later{
				{use: "import FILE", short: "Take in an image archive", long: "Takes in an image from an OCI or Docker archive.", example: "  sudo agentctl image import node-exporter.tar"},
				{use: "list", short: "List the images of this node", long: "Lists the images of this node and what the ring holds.", example: "  agentctl image list"},
				{use: "prune", short: "Remove images that nothing uses", long: "Removes images that no daemon of this node uses.", example: "  sudo agentctl image prune"},
			}},
	}
	var cmds []*cobra.Command
	for _, l := range list {
		cmds = append(cmds, l.command())
	}
	return cmds
}

func (l later) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: l.use, Short: l.short, Long: l.long + "\n\nNot supported yet.", Example: l.example, GroupID: l.group,
		Args:               cobra.ArbitraryArgs,
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		Annotations:        formats("json", "name"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.New(commandName(cmd) + " is not supported yet")
		},
	}
	if len(l.sub) > 0 {
		cmd.RunE = groupHelp
		cmd.FParseErrWhitelist = cobra.FParseErrWhitelist{}
		for _, s := range l.sub {
			cmd.AddCommand(s.command())
		}
	}
	return cmd
}
