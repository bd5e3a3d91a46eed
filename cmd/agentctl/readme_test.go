package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/agentd/agentd/spec"
)

// pages that tell people what to type.
var pages = []string{"README.md", "docs/operations.md", "docs/daemon.md"}

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every agentctl command of the pages exists, takes the flags that it is shown
// with, and is not one that is still to come.
func TestPagesShowCommandsThatExist(t *testing.T) {
	typed := regexp.MustCompile(`(?m)^(?:\$ |    )(?:sudo )?agentctl ([^|>#\n]*)`)
	for _, name := range pages {
		found := typed.FindAllStringSubmatch(page(t, name), -1)
		if len(found) == 0 && name != "docs/daemon.md" {
			t.Errorf("%s shows no command: is the pattern right?", name)
		}
		for _, m := range found {
			args := strings.Fields(m[1])
			root := (&app{stdout: io.Discard, stderr: io.Discard}).rootCommand()
			cmd, rest, err := root.Find(args)
			if err != nil || cmd == root {
				t.Errorf("%s: agentctl %s: no such command (%v)", name, m[1], err)
				continue
			}
			// A label that is removed looks like "old-", never like a flag.
			if err := cmd.ParseFlags(rest); err != nil {
				t.Errorf("%s: agentctl %s: %v", name, m[1], err)
				continue
			}
			if cmd.Args != nil {
				if err := cmd.Args(cmd, cmd.Flags().Args()); err != nil {
					t.Errorf("%s: agentctl %s: %v", name, m[1], err)
				}
			}
			if strings.Contains(cmd.Long, "not supported yet") {
				t.Errorf("%s: agentctl %s is still to come", name, m[1])
			}
		}
	}
}

// The README's daemon is one that apply takes, as short as it claims.
func TestReadmeDaemonIsValid(t *testing.T) {
	m := regexp.MustCompile("(?s)## A daemon in 8 lines\n+```toml\n(.*?)```").FindStringSubmatch(page(t, "README.md"))
	if m == nil {
		t.Fatal("the README has no daemon")
	}
	if _, err := spec.Parse([]byte(m[1]), "README.md"); err != nil {
		t.Error(err)
	}
	if lines := strings.Count(m[1], "\n"); lines != 8 {
		t.Errorf("the daemon in 8 lines has %d", lines)
	}
}

// Links between the pages lead somewhere.
func TestPagesLinkToWhatIsThere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\[]+)(?:#[^)]*)?\)`)
	names := append([]string{"CONTRIBUTING.md", "docs/architecture.md", "docs/api.md", "docs/conformance.md"}, pages...)
	for _, name := range names {
		for _, m := range link.FindAllStringSubmatch(page(t, name), -1) {
			if _, err := os.Stat(filepath.Join("..", "..", filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
}
