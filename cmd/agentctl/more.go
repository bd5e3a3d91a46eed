package main

import (
	"context"
	"fmt"
	goruntime "runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

// Set when a release is linked: -X main.version=1.2.3 -X main.commit=….
var version, commit string

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

// versions is the JSON of agentctl version.
type versions struct {
	Schema   int       `json:"schema"`
	Agentctl build     `json:"agentctl"`
	Agentd   *api.Info `json:"agentd"` // null when it does not answer
}

type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", GroupID: groupMore, Short: "Show the versions of agentctl and agentd",
		Long:    "Shows the version of agentctl and, when it answers, of this machine's agentd.",
		Example: "  agentctl version -o json", Args: noArgs, Annotations: formats("json"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Schema: api.Schema, Agentctl: ownBuild()}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			info, err := a.client().Info(ctx)
			if err == nil {
				v.Agentd = &info
			}
			if a.output == "json" {
				return printJSON(a.stdout, v)
			}
			fmt.Fprintf(a.stdout, "agentctl %s\n", v.Agentctl)
			if err != nil {
				a.notef("%v", err)
				return nil
			}
			fmt.Fprintf(a.stdout, "agentd   %s on node %s of ring %s\n",
				build{Version: clean(info.Version), Commit: clean(info.Commit), Go: clean(info.Go)}, clean(info.Node), clean(info.RingName))
			return nil
		},
	}
}

func (b build) String() string {
	s := b.Version
	if b.Commit != "" {
		s += " (" + short(b.Commit) + ", go" + b.Go + ")"
	}
	return s
}

// ownBuild reads what the linker and go build left in the binary.
func ownBuild() build {
	b := build{Version: version, Commit: commit, Go: strings.TrimPrefix(goruntime.Version(), "go")}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && b.Commit == "" {
				b.Commit = s.Value
			}
		}
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
	}
	if b.Version == "" {
		b.Version = "0.1.0-dev"
	}
	return b
}
