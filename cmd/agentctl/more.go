package main

import "github.com/spf13/cobra"

func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Explain a command", Long: "Explains a command, with examples.",
		Example: "  agentctl help apply",
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, name := range args {
				next, rest, err := at.Find([]string{name})
				if err != nil || next == at || len(rest) > 0 {
					return unknownCommand(at, name)
				}
				at = next
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", GroupID: groupMore, Short: "Print a shell's completion script",
		Long: "Prints the script that makes a shell complete agentctl's commands and flags.",
		Example: `  source <(agentctl completion bash)
  agentctl completion fish > ~/.config/fish/completions/agentctl.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      between(1, 1, "the name of a shell: bash, zsh or fish"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.stdout)
			case "fish":
				return cmd.Root().GenFishCompletion(a.stdout, true)
			}
			return usagef("use bash, zsh or fish", "no completion for shell %q", args[0])
		},
	}
}
