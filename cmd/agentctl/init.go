package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/spec/record"
)

// setupOptions are the flags of init and join.
type setupOptions struct {
	dir       string
	name      string
	ring      string
	advertise string
	noStart   bool
	tokenFile string
}

func (o *setupOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "`NODE`'s name in the ring (default: the host name)")
	f.StringVar(&o.advertise, "advertise", "", "`ADDRESS` that other nodes reach this one at: HOST or HOST:PORT")
	f.StringVar(&o.dir, "config-dir", defaultDir, "folder for agentd.toml and keys")
	f.BoolVar(&o.noStart, "no-start", false, "only write files, do not start agentd")
}

func (a *app) initCommand() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use: "init", GroupID: groupRing, Short: "Make a ring, with this machine as its first node",
		Long: `Makes a new ring with this machine as its first node: draws the ring's id and
key, writes agentd.toml, ring.key and trust.d into the configuration folder, and
makes your operator key unless you have one. It never overwrites a file.

In /etc/agentd, with systemd running, it then enables and starts agentd. With
any other --config-dir, data and socket are put into that folder too, so that
several agents can live on one machine.`,
		Example: `  sudo agentctl init --ring prod
  sudo agentctl token`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cannot("make the ring", a.init(cmd.Context(), o))
		},
	}
	cmd.Flags().StringVar(&o.ring, "ring", "default", "`NAME` of the ring, for display")
	o.flags(cmd)
	return cmd
}

func (a *app) init(ctx context.Context, o setupOptions) error {
	n, err := newNode(o.dir, o.name)
	if err != nil {
		return err
	}
	n.ring, n.advertise, n.key = o.ring, o.advertise, config.NewRingKey()
	key, keyFile, err := a.ownOrNewKey()
	if err != nil {
		return err
	}
	n.operators = []record.PublicKey{key.Public()}
	var extra []newFile
	if keyFile != nil {
		extra = append(extra, *keyFile)
	}
	if err := a.write(n, extra...); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "ring %s (%s) has its first node, %s\n", clean(n.ring), n.key.ID, clean(n.name))
	if err := a.start(ctx, n, o.noStart, false); err != nil {
		return err
	}
	if n.dir == defaultDir {
		fmt.Fprintln(a.stdout, "next: run agentctl token, and agentctl join on other machines")
	} else {
		fmt.Fprintf(a.stdout, "next: run agentctl token --config-dir %s, and agentctl join on other machines\n", n.dir)
	}
	return nil
}

// ownOrNewKey returns the operator's key, or a new one with the file to write.
func (a *app) ownOrNewKey() (record.PrivateKey, *newFile, error) {
	path, _, err := a.keyPath()
	if err != nil {
		return record.PrivateKey{}, nil, err
	}
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, nil, err
	}
	if key, err = record.GenerateKey(a.whoami()); err != nil {
		return key, nil, err
	}
	return key, &newFile{path, key.Marshal(), 0o600, "secret: your operator key, signs what the ring runs; keep a copy"}, nil
}
