package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
)

// tokenPrefix starts every token.
const tokenPrefix = "agentd1-"

// maxToken bounds what is read as a token; a floor of 1,000 daemons takes
// about 100 KB.
const maxToken = 4 << 20

func (a *app) joinCommand() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use: "join TOKEN|- [ADDRESS…]", GroupID: groupRing, Short: "Join this machine to a ring",
		Long: `Writes the files of a node that joins a ring, from the token that agentctl token
printed on a node of it: agentd.toml, ring.key, trust.d and the versions below
which nothing is started. It never overwrites a file. ADDRESSes are tried
besides those in the token.

The token is a secret. Pass it on stdin (-), with --token-file or in
AGENTCTL_TOKEN; typed as an argument, it stays in the shell's history.

In /etc/agentd, with systemd running, it then enables and starts agentd and
waits for the ring. On a node that left, it asks agentd to go back.`,
		Example: `  ssh web-1 sudo agentctl token | ssh web-2 sudo agentctl join -
  sudo agentctl join --token-file ring.token 10.0.0.11`,
		RunE: func(cmd *cobra.Command, args []string) error {
			token, addrs, err := a.readToken(o.tokenFile, args)
			if err != nil {
				return cannot("join", err)
			}
			return cannot("join", a.join(cmd.Context(), o, token, addrs))
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.tokenFile, "token-file", "", "`FILE` with the token")
	return cmd
}

// readToken finds the token: the first argument, the file or the environment.
// It returns nil when there is none, which is enough on a node that left.
func (a *app) readToken(file string, args []string) (*config.Token, []string, error) {
	text, given := "", true
	switch {
	case len(args) > 0 && (args[0] == "-" || strings.HasPrefix(args[0], tokenPrefix)):
		if file != "" {
			return nil, nil, usagef("give one of them", "join got a token and --token-file")
		}
		text, args = args[0], args[1:]
		if text != "-" {
			a.warnf("a token on the command line stays in the shell's history and shows in ps; better: agentctl join - < FILE")
			break
		}
		b, err := readAll(a.stdin, maxToken)
		if err != nil {
			return nil, nil, fmt.Errorf("read the token from stdin: %w", err)
		}
		text = string(b)
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return nil, nil, fmt.Errorf("read the token: %w", err)
		}
		defer f.Close()
		b, err := readAll(f, maxToken)
		if err != nil {
			return nil, nil, fmt.Errorf("read the token from %s: %w", file, err)
		}
		text = string(b)
	case a.env("AGENTCTL_TOKEN") != "":
		text = a.env("AGENTCTL_TOKEN")
	case len(args) > 0:
		text, args = args[0], args[1:]
	default:
		given = false
	}
	if !given {
		return nil, args, nil
	}
	token, err := config.ParseToken(strings.TrimSpace(text))
	if err != nil {
		return nil, nil, withHint(err, "run sudo agentctl token on a node of the ring, and pass on the whole line")
	}
	return &token, args, nil
}

func (a *app) join(ctx context.Context, o setupOptions, token *config.Token, addrs []string) error {
	loaded, set, err := configured(o.dir)
	if err != nil {
		return err
	}
	if set {
		return a.rejoin(ctx, o, loaded, token, addrs)
	}
	if token == nil {
		return usagef("use: agentctl join TOKEN|- [ADDRESS…]", "join needs a token, since this machine is in no ring yet")
	}
	n, err := newNode(o.dir, o.name)
	if err != nil {
		return err
	}
	n.ring, n.advertise, n.key, n.operators = token.RingName, o.advertise, token.Key, token.Operators
	n.floor = token.Floor
	n.join = unique(append(slices.Clone(addrs), token.Addresses...))
	if len(n.join) == 0 {
		return withHint(errors.New("the token names no address of the ring"), "add one: agentctl join - ADDRESS")
	}
	if err := a.write(n); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "node %s is set up for ring %s (%s)\n", clean(n.name), clean(n.ring), n.key.ID)
	return a.start(ctx, n, o.noStart, true)
}

// rejoin takes a node that has its files back into its ring.
func (a *app) rejoin(ctx context.Context, o setupOptions, loaded *config.Loaded, token *config.Token, addrs []string) error {
	key, err := config.ReadRingKey(loaded.Ring.KeyFile)
	if err != nil {
		return err
	}
	if token != nil {
		if token.Key.ID != key.ID {
			return withHint(fmt.Errorf("this machine belongs to ring %s (%s), and the token is for ring %s (%s)",
				loaded.Ring.Name, key.ID, token.RingName, token.Key.ID),
				"to move it: agentctl leave, stop agentd, move %s and %s away, and join again", o.dir, loaded.Node.DataDir)
		}
		addrs = unique(append(slices.Clone(addrs), token.Addresses...))
	}
	socket := a.socketFor(loaded)
	c := api.NewClient(socket)
	defer c.Close()
	info, err := c.Rejoin(ctx, addrs)
	var unreachable *api.UnreachableError
	if errors.As(err, &unreachable) && !o.noStart && a.hasUnit(ctx, o.dir) {
		if err := a.startUnit(ctx); err != nil {
			return err
		}
		if _, err := a.untilUp(ctx, c, false); err != nil {
			return err
		}
		info, err = c.Rejoin(ctx, addrs)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "node %s is in ring %s again\n", clean(info.Node), clean(info.RingName))
	return nil
}

// socketFor is the socket of a configuration, unless the command line or the
// environment names another.
func (a *app) socketFor(loaded *config.Loaded) string {
	if a.socket != "" || a.env("AGENTCTL_SOCKET") != "" {
		return a.socketPath()
	}
	return loaded.API.Socket
}

// unique keeps the first of equal strings.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
