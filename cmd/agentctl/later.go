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
		{use: "rollout", group: groupDaemons, short: "See and steer rolling updates",
			long: "Shows, pauses, resumes and takes back rolling updates.", example: "  agentctl rollout status node-exporter",
			sub: []later{
				{use: "status NAME", short: "Show an update until it ends", long: "Shows how far the update of a daemon is, until it ends.", example: "  agentctl rollout status node-exporter"},
				{use: "history NAME", short: "List the revisions of a daemon", long: "Lists the revisions of a daemon that can be gone back to.", example: "  agentctl rollout history node-exporter"},
				{use: "undo NAME [--to N]", short: "Go back to an older revision", long: "Goes back to the newest older revision, or to revision N.", example: "  agentctl rollout undo node-exporter --to 3"},
				{use: "pause NAME", short: "Let no further node update", long: "Lets no further node update until resume.", example: "  agentctl rollout pause node-exporter"},
				{use: "resume NAME", short: "Go on with a paused update", long: "Goes on with a paused update and forgives its failures so far.", example: "  agentctl rollout resume node-exporter"},
				{use: "restart NAME", short: "Restart a daemon everywhere, in turns", long: "Restarts a daemon on every node, in turns.", example: "  agentctl rollout restart node-exporter"},
				{use: "skip NAME NODE", short: "Go on without a node", long: "Goes on with an update without waiting for a node that is down.", example: "  agentctl rollout skip node-exporter web-6"},
			}},
		{use: "image", group: groupMore, short: "Images of this node", long: "Manages the images of this node.", example: "  agentctl image list",
			sub: []later{
				{use: "import FILE", short: "Take in an image archive", long: "Takes in an image from an OCI or Docker archive.", example: "  sudo agentctl image import node-exporter.tar"},
				{use: "list", short: "List the images of this node", long: "Lists the images of this node and what the ring holds.", example: "  agentctl image list"},
				{use: "prune", short: "Remove images that nothing uses", long: "Removes images that no daemon of this node uses.", example: "  sudo agentctl image prune"},
			}},
		{use: "doctor", group: groupMore, short: "Check this machine and say what to do",
			long: "Checks containerd, cgroups, clock, ring, keys and file modes, and says what to\ndo.", example: "  sudo agentctl doctor"},
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
