package main

import (
	"context"
	"path"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentd/agentd/api"
)

func (a *app) rolloutHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history NAME", Short: "List the revisions of a daemon, and who signed them",
		Long: `Lists the revisions that are kept, newest first: when each was made (UTC), BY
whom as the record says, who SIGNED it, and what came of it: finished,
under-way, paused, failed (too many nodes), rolled-back, or superseded (a newer
one came before it was finished). rollout undo goes back to one of them.

Exit code: 0; 4 when there is no such daemon.`,
		Example:     "  agentctl rollout history node-exporter",
		Annotations: formats("json"), Args: oneDaemon,
		RunE: func(cmd *cobra.Command, args []string) error { return a.history(cmd.Context(), args[0]) },
	}
}

func (a *app) history(ctx context.Context, name string) error {
	c := a.client()
	defer c.Close()
	h, err := c.History(ctx, name)
	if isNotFound(err) {
		if missing := a.missing(ctx, c, []string{name}, a.daemonsOf(ctx, c)); len(missing) > 0 {
			return &exitError{code: exitUnknown, err: missing[0]}
		}
	}
	if err != nil {
		return cannot("list the revisions of "+name, err)
	}
	if a.output == "json" {
		return printJSON(a.stdout, h)
	}
	a.printHistory(h)
	return nil
}

func (a *app) printHistory(h api.History) {
	t := newTable("REV", "GENERATION", "DATE", "BY", "SIGNED", "OUTCOME", "IMAGE")
	t.colors = map[int]bool{5: true}
	wide := a.output == "wide"
	if wide {
		t.header = append(t.header, "DIGEST", "RECORD")
	}
	older := 0
	for _, r := range h.Revisions {
		image := r.Image
		if !wide {
			image = shortImage(image)
		}
		row := []string{strconv.Itoa(r.Revision), strconv.FormatUint(r.Generation, 10), r.Created.UTC().Format("2006-01-02T15:04Z"),
			r.Author, signedBy(r.Signers), r.Outcome, image}
		if r.Revision == 0 {
			row[0] = ""
		}
		if wide {
			row = append(row, short(r.Digest), short(r.Record))
		}
		t.add(row...)
		if !r.Current && !r.Delete {
			older++
		}
	}
	a.print(t)
	for _, r := range h.Revisions {
		if r.Reason != "" {
			a.note("revision %d %s: %s", r.Revision, r.Outcome, r.Reason)
		}
	}
	if older > 0 {
		a.note("to go back: agentctl rollout undo %s", h.Daemon)
	}
}

// signedBy names the keys whose signatures a record has.
func signedBy(signers []api.Signer) string {
	var names []string
	for _, s := range signers {
		if s.Name != "" {
			names = append(names, s.Name)
		} else {
			names = append(names, short(s.ID))
		}
	}
	return strings.Join(names, ",")
}

// shortImage leaves out the registry and the folders: "node-exporter:v1.9.1".
func shortImage(image string) string {
	if image == "" {
		return ""
	}
	name, digest, pinned := strings.Cut(image, "@")
	name = path.Base(name)
	if pinned {
		name += "@" + short(digest)
	}
	return name
}
