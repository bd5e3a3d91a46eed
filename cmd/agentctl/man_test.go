package main

import (
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentd/agentd/packaging/man"
)

var updateMan = flag.Bool("update", false, "write agentctl(1) into docs/man")

// agentctl(1) says what the commands say.
func TestManIsFresh(t *testing.T) {
	root := (&app{stdout: io.Discard, stderr: io.Discard}).rootCommand()
	p := man.New("agentctl", 1, "say what a ring of machines runs, and see that it does")
	p.Section("Synopsis")
	p.Paragraph("`agentctl` COMMAND [OPTION…]")
	p.Section("Description")
	manText(p, root.Long)
	p.Code(root.Example)
	p.Section("Options")
	p.Paragraph("Every command takes:")
	manFlags(p, root.PersistentFlags())
	for _, g := range root.Groups() {
		p.Section(strings.TrimSuffix(g.Title, ":"))
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				manCommand(p, c)
			}
		}
	}
	p.Section("Environment")
	p.Item("agentd's socket, where `--socket` is not given.", "AGENTCTL_SOCKET")
	p.Item("The operator's key, where `--key` is not given.", "AGENTCTL_KEY")
	p.Item("The token for `join`, where none is given.", "AGENTCTL_TOKEN")
	p.Item("When it is set, nothing is coloured.", "NO_COLOR")
	p.Section("Exit status")
	for code, means := range []string{exitOK: "done", exitFailed: "failed", exitUsage: "called wrongly",
		exitNotReady: "`status NAME` and `why`: not ready everywhere it is placed", exitUnknown: "`status NAME` and `why`: no such daemon"} {
		p.Item(means+".", fmt.Sprint(code))
	}
	p.Section("Files")
	p.Item("The operator's key: it signs what the ring runs and never leaves agentctl.", "~/.config/agentd/operator.key")
	p.Item("What `init` and `join` write.", "/etc/agentd")
	p.Section("See also")
	p.Paragraph("**agentd**(8), **agentd.toml**(5), **agentd.spec**(5)")
	man.Golden(t, filepath.Join("..", "..", "docs", "man", "agentctl.1"), p, *updateMan)
}

func manCommand(p *man.Page, c *cobra.Command) {
	p.Subsection("`" + strings.TrimSuffix(c.UseLine(), " [flags]") + "`")
	manText(p, c.Long)
	manFlags(p, c.LocalNonPersistentFlags())
	if c.Example != "" {
		p.Code(c.Example)
	}
	for _, sub := range c.Commands() {
		manCommand(p, sub)
	}
}

func manText(p *man.Page, long string) {
	for _, para := range strings.Split(long, "\n\n") {
		if strings.HasPrefix(para, "  ") {
			p.Code(para)
		} else {
			p.Paragraph(para)
		}
	}
}

func manFlags(p *man.Page, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		term := "--" + f.Name
		if f.Shorthand != "" {
			term = "-" + f.Shorthand + ", " + term
		}
		if value != "" {
			term += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && !strings.Contains(usage, "default") {
			usage += " (default " + f.DefValue + ")"
		}
		p.Item(usage, term)
	})
}
