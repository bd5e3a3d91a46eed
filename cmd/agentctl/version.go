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

// versions is the JSON of agentctl version.
type versions struct {
	Schema   int                `json:"schema"`
	Agentctl build              `json:"agentctl"`
	Agentd   *api.Info          `json:"agentd"` // null when it does not answer
	Ring     []api.VersionNodes `json:"ring"`   // of the nodes that are alive, the newest first
	Skew     string             `json:"skew"`   // what to know about different versions; "" when all are the same
}

type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", GroupID: groupMore, Short: "Show the versions of agentctl, agentd and the ring's nodes",
		Long: `Shows the version of agentctl and, when this machine's agentd answers, its own
and those of the ring's nodes, with a note where they differ.`,
		Example: "  agentctl version -o json", Args: noArgs, Annotations: formats("json"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Schema: api.Schema, Agentctl: ownBuild(), Ring: []api.VersionNodes{}}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			c := a.client()
			info, err := c.Info(ctx)
			if err == nil {
				v.Agentd = &info
				// Without the list, the versions of this machine still tell something.
				if nodes, err := c.Nodes(ctx); err == nil {
					v.Ring, v.Skew = api.Versions(nodes.Nodes), api.Skew(nodes.Nodes)
				}
			}
			if a.output == "json" {
				return printJSON(a.stdout, v)
			}
			a.printVersions(v)
			if err != nil {
				a.notef("%v", err)
			}
			return nil
		},
	}
}

func (a *app) printVersions(v versions) {
	fmt.Fprintf(a.stdout, "agentctl %s\n", v.Agentctl)
	if v.Agentd == nil {
		return
	}
	info := *v.Agentd
	fmt.Fprintf(a.stdout, "agentd   %s on node %s of ring %s\n",
		build{Version: clean(info.Version), Commit: clean(info.Commit), Go: clean(info.Go)}, clean(info.Node), clean(info.RingName))
	for _, r := range v.Ring {
		fmt.Fprintf(a.stdout, "ring     %s on %s\n", clean(r.Version), clean(someOf(r.Nodes)))
	}
	if v.Agentctl.Version != info.Version {
		a.note("agentctl and this machine's agentd differ; after an upgrade: sudo systemctl restart agentd")
	}
	if v.Skew != "" {
		a.note("%s", v.Skew)
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
