package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

type execOptions struct {
	noTTY   bool
	noStdin bool
	env     []string
	user    string
	dir     string
}

func (a *app) execCommand() *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use: "exec NAME -- CMD…", GroupID: groupDaemons, Short: "Run a command in a daemon's container",
		Long: `Runs a command in a daemon's container on this node, with its environment, user
and working directory unless flags say otherwise. With terminals at both ends
the command gets one too; otherwise its streams are agentctl's, for pipes. Its
exit code becomes agentctl's. Interrupting agentctl ends the command. Needs
root.`,
		Example: `  sudo agentctl exec node-exporter -- /bin/sh
  sudo agentctl exec postgres -- pg_dump app > app.sql`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return usagef("use: "+cmd.UseLine(), "exec needs a command after the name of the daemon")
			}
			return atLeast(1, "the name of a daemon and a command")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.exec(cmd.Context(), args[0], args[1:], o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.noTTY, "no-tty", "T", false, "give the command no terminal")
	f.BoolVarP(&o.noStdin, "no-stdin", "n", false, "give the command no input")
	f.StringArrayVarP(&o.env, "env", "e", nil, "set `KEY=VALUE` for the command; may be repeated")
	f.StringVarP(&o.user, "user", "u", "", "run as `UID[:GID]`")
	f.StringVarP(&o.dir, "workdir", "w", "", "run in this `DIR` of the container")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("the command's own flags come after --: "+cmd.UseLine(), "exec: %v", err)
	})
	return cmd
}

func (a *app) exec(ctx context.Context, name string, argv []string, o execOptions) error {
	c := a.client()
	defer c.Close()
	code, err := a.execStreams(ctx, c, name, api.ExecRequest{Argv: argv, Env: o.env, Cwd: o.dir, User: o.user}, o)
	if err != nil {
		return a.orMissing(ctx, c, name, cannot("run a command in "+name, err))
	}
	if code != exitOK {
		return &exitError{code: code}
	}
	return nil
}

// execStreams connects the command to agentctl's streams. The terminal is as
// before when it returns.
func (a *app) execStreams(ctx context.Context, c *api.Client, name string, req api.ExecRequest, o execOptions) (code int, err error) {
	streams := api.ExecStreams{Stdout: a.stdout, Stderr: a.stderr}
	if !o.noStdin {
		streams.Stdin = a.stdin
	}
	if o.noTTY || o.noStdin || !isTerminal(a.stdin) || !isTerminal(a.stdout) {
		return c.Exec(ctx, name, req, streams)
	}
	term, err := openTerminal(a.stdin, a.stdout)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, term.close()) }()
	req.TTY, req.Size, streams.Resize = true, term.size(), term.sizes
	if t := a.env("TERM"); t != "" && !slices.ContainsFunc(req.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		req.Env = append(req.Env, "TERM="+t)
	}
	return c.Exec(ctx, name, req, streams)
}

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restart NAME", GroupID: groupDaemons, Short: "Restart a daemon's container on this node",
		Long: `Stops a daemon's container on this node, with its stop signal and grace period,
and has it started again. Other nodes are not touched, and no turn is waited
for. Needs root.`,
		Example: "  sudo agentctl restart node-exporter", Annotations: formats("json", "name"),
		Args: between(1, 1, "the name of a daemon"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.restart(cmd.Context(), args[0]) },
	}
}

func (a *app) restart(ctx context.Context, name string) error {
	c := a.client()
	defer c.Close()
	r, err := c.Restart(ctx, name)
	if err != nil {
		return a.orMissing(ctx, c, name, cannot("restart "+name, err))
	}
	switch a.output {
	case "json":
		return printJSON(a.stdout, r)
	case "name":
		fmt.Fprintf(a.stdout, "daemon/%s\n", clean(r.Daemon))
	default:
		fmt.Fprintf(a.stdout, "daemon/%s restarted on %s\n", clean(r.Daemon), clean(r.Node))
	}
	return nil
}

// orMissing makes a 404 about a name that is mistyped say so.
func (a *app) orMissing(ctx context.Context, c *api.Client, name string, err error) error {
	var problem *api.Problem
	if !errors.As(err, &problem) || problem.Status != 404 {
		return err
	}
	if missing := a.missing(ctx, c, []string{name}, a.daemonsOf(ctx, c)); len(missing) > 0 {
		return missing[0]
	}
	return err
}
