package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentd/agentd/spec/strict"
)

// Groups of commands in the help.
const (
	groupRing    = "ring"
	groupDaemons = "daemons"
	groupNodes   = "nodes"
	groupMore    = "more"
)

// formatsKey annotates a command with the values of -o that it knows besides
// table and wide.
const formatsKey = "formats"

func formats(names ...string) map[string]string {
	return map[string]string{formatsKey: strings.Join(names, ",")}
}

// rootCommand makes agentctl with all of its commands.
func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "agentctl",
		Short: "Say what a ring of machines runs, and see that it does",
		Long: `agentctl says which daemons a ring of machines runs, and shows that they do.

Each machine runs agentd, which keeps one container of each daemon that is
meant for it. Operators write daemons as TOML files; agentctl checks and signs
them with the operator's key and hands them to the agentd of this machine, from
where they spread to all others. There is no controller: any machine will do.`,
		Example: `  sudo agentctl init --ring prod          # first machine
  sudo agentctl token                     # prints what others need to join
  sudo agentctl join - < token            # every other machine
  agentctl apply -f node-exporter.toml
  agentctl status`,
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: a.checkGlobal,
		RunE:              groupHelp,
	}
	root.AddGroup(
		&cobra.Group{ID: groupRing, Title: "The ring:"},
		&cobra.Group{ID: groupDaemons, Title: "Daemons:"},
		&cobra.Group{ID: groupNodes, Title: "Nodes:"},
		&cobra.Group{ID: groupMore, Title: "More:"},
	)
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "agentd's socket (default $AGENTCTL_SOCKET, else /run/agentd/agentd.sock)")
	f.StringVar(&a.keyFile, "key", "", "operator key `file` (default $AGENTCTL_KEY, else ~/.config/agentd/operator.key)")
	f.StringVarP(&a.output, "output", "o", "table", "table, wide, json or name")
	f.BoolVar(&a.noHeader, "no-header", false, "leave out the header line of tables")
	f.StringVar(&a.color, "color", "auto", "colour state words: auto, always or never")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(a.helpCommand())
	root.SetHelpCommandGroupID(groupMore)

	root.AddCommand(
		a.initCommand(), a.tokenCommand(), a.joinCommand(), a.leaveCommand(),
		a.applyCommand(), a.diffCommand(), a.exportCommand(), a.validateCommand(), a.deleteCommand(), a.rolloutCommand(),
		a.statusCommand(), a.whyCommand(), a.logsCommand(), a.execCommand(), a.restartCommand(), a.topCommand(),
		a.nodesCommand(), a.labelCommand(), a.taintCommand(), a.cordonCommand(), a.uncordonCommand(), a.drainCommand(),
		a.forgetCommand(), a.eventsCommand(), a.volumesCommand(), a.keyCommand(),
		a.doctorCommand(), a.reloadCommand(), a.waitReadyCommand(), a.completionCommand(), a.versionCommand(),
	)
	root.AddCommand(a.laterCommands()...)
	return root
}

// checkGlobal refuses global flags that a command can't follow.
func (a *app) checkGlobal(cmd *cobra.Command, _ []string) error {
	known := append([]string{"table", "wide"}, strings.Split(cmd.Annotations[formatsKey], ",")...)
	switch {
	case !slices.Contains([]string{"table", "wide", "json", "name"}, a.output):
		return usagef("use table, wide, json or name", "unknown output format %q", a.output)
	case !slices.Contains(known, a.output):
		return usagef("", "%s has no -o %s", commandName(cmd), a.output)
	case !slices.Contains([]string{"auto", "always", "never"}, a.color):
		return usagef("use auto, always or never", "unknown value %q of --color", a.color)
	}
	return nil
}

// groupHelp is what a command that only holds others does: it prints its help,
// or says that there is no such command.
func groupHelp(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return unknownCommand(cmd, args[0])
}

func unknownCommand(cmd *cobra.Command, name string) error {
	path := cmd.CommandPath()
	hint := "see: " + path + " --help"
	var known []string
	for _, sub := range cmd.Commands() {
		known = append(known, sub.Name())
	}
	if near := strict.Suggest(name, known); near != "" {
		hint = "did you mean: " + path + " " + near
	}
	return usagef(hint, "unknown command %q", strings.TrimPrefix(path+" "+name, "agentctl "))
}

// flagError makes misuse of a flag a usage error with a suggestion.
func flagError(cmd *cobra.Command, err error) error {
	hint := "see: " + cmd.CommandPath() + " --help"
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		if near := nearestFlag(cmd, name); near != "" {
			hint = "did you mean --" + near
		}
	}
	return usagef(hint, "%s: %v", commandName(cmd), err)
}

func nearestFlag(cmd *cobra.Command, name string) string {
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	return strict.Suggest(name, known)
}

// commandName is the command's path without "agentctl".
func commandName(cmd *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "agentctl"), " ")
}

// noArgs, exactly and atLeast check the number of arguments in our words.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("see: "+cmd.CommandPath()+" --help", "%s takes no argument, but got %q", commandName(cmd), args[0])
	}
	return nil
}

func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("use: "+cmd.UseLine(), "%s needs %s", commandName(cmd), what)
		}
		return nil
	}
}

func between(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > most {
			return usagef("use: "+cmd.UseLine(), "%s got more than it takes: %q", commandName(cmd), args[most])
		}
		return atLeast(least, what)(cmd, args)
	}
}
