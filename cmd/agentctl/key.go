package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", GroupID: groupMore, Short: "Make and list operator keys",
		Long: `Makes and lists operator keys. An operator key signs what the ring is to run; a
node believes the keys whose public halves are in its trust.d.`,
		Example: "  agentctl key new\n  agentctl key list", RunE: groupHelp, Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(a.keyNewCommand(), a.keyListCommand(), later{
		use: "rotate", short: "Change the ring's encryption key",
		long:    "Brings a new encryption key to every node of the ring, then drops the old one.",
		example: "  sudo agentctl key rotate",
	}.command())
	return cmd
}

func (a *app) keyNewCommand() *cobra.Command {
	comment := ""
	cmd := &cobra.Command{
		Use: "new [FILE]", Short: "Make an operator key",
		Long: `Makes an operator key in FILE, or where --key and AGENTCTL_KEY say, or in
~/.config/agentd/operator.key, and prints its public half. It never overwrites a
file. Nodes believe the key once the public half is in their trust.d.`,
		Example: `  agentctl key new > alice.pub
  scp alice.pub web-1:/etc/agentd/trust.d/`,
		Args: between(0, 1, ""),
		RunE: func(_ *cobra.Command, args []string) error {
			return cannot("make a key", a.newKey(args, comment))
		},
	}
	cmd.Flags().StringVar(&comment, "comment", "", "whose key it is (default USER@HOST)")
	return cmd
}

func (a *app) newKey(args []string, comment string) error {
	path, _, err := a.keyPath()
	if len(args) > 0 {
		path, err = args[0], nil
	}
	if err != nil {
		return err
	}
	if comment == "" {
		comment = a.whoami()
	}
	key, err := record.GenerateKey(comment)
	if err != nil {
		return err
	}
	if _, err := writeNew([]newFile{{path: path, data: key.Marshal(), mode: 0o600}}); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return withHint(fmt.Errorf("%s exists already, and nothing is overwritten", path), "name another file: agentctl key new FILE")
		}
		return err
	}
	a.notef("wrote %s; keep it secret and keep a copy", path)
	a.notef("nodes believe it once the line below is in their trust.d (a file NAME.pub) and agentd was restarted")
	_, err = a.stdout.Write(key.Public().Marshal())
	return err
}

// keyEntry is one key of key list.
type keyEntry struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"` // operator | trusted
	Comment string `json:"comment"`
	File    string `json:"file"`
}

func (a *app) keyListCommand() *cobra.Command {
	dir := defaultDir
	cmd := &cobra.Command{
		Use: "list", Short: "List your operator key and those that this node trusts",
		Long:    "Lists your operator key, and the keys in trust.d whose signatures this node\nbelieves.",
		Example: "  agentctl key list", Args: noArgs, Annotations: formats("json", "name"),
		RunE: func(*cobra.Command, []string) error { return a.listKeys(dir) },
	}
	cmd.Flags().StringVar(&dir, "config-dir", defaultDir, "folder of trust.d")
	return cmd
}

func (a *app) listKeys(dir string) error {
	keys := []keyEntry{}
	path, named, err := a.keyPath()
	if err == nil {
		key, err := readKey(path)
		switch {
		case err == nil:
			pub := key.Public()
			keys = append(keys, keyEntry{pub.ID(), "operator", pub.Comment, path})
		case !errors.Is(err, fs.ErrNotExist) || named:
			return cannot("list keys", err)
		}
	}
	trusted, err := readTrust(filepath.Join(dir, "trust.d"))
	if err != nil {
		return cannot("list keys", err)
	}
	keys = append(keys, trusted...)
	switch a.output {
	case "json":
		return printJSON(a.stdout, struct {
			Schema int        `json:"schema"`
			Keys   []keyEntry `json:"keys"`
		}{api.Schema, keys})
	case "name":
		for _, k := range keys {
			fmt.Fprintln(a.stdout, k.ID)
		}
		return nil
	}
	t := newTable("ID", "KIND", "COMMENT", "FILE")
	for _, k := range keys {
		t.add(k.ID, k.Kind, k.Comment, k.File)
	}
	a.print(t)
	if i := slices.IndexFunc(keys, func(k keyEntry) bool { return k.Kind == "operator" }); i < 0 {
		a.note("no operator key at %s; to make one: agentctl key new", path)
	} else if len(trusted) > 0 && !slices.ContainsFunc(trusted, func(k keyEntry) bool { return k.ID == keys[i].ID }) {
		a.note("this node does not trust your key; its public half belongs into %s", filepath.Join(dir, "trust.d"))
	}
	return nil
}

// readTrust lists the public keys of a folder, with their files.
func readTrust(dir string) ([]keyEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys []keyEntry
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".pub") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		pub, err := record.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		keys = append(keys, keyEntry{pub.ID(), "trusted", pub.Comment, path})
	}
	return keys, nil
}
