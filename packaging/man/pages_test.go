package man

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the pages into docs/man")

// docs/man is what the documents say; agentctl(1) is checked by cmd/agentctl.
func TestPagesAreFresh(t *testing.T) {
	root := filepath.Join("..", "..")
	read := func(elem ...string) string {
		b, err := os.ReadFile(filepath.Join(append([]string{root}, elem...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	agentd := New("agentd", 8, "keep one container of each daemon of a ring running on this machine")
	agentd.Section("Synopsis")
	agentd.Paragraph("`agentd` [`-config` FILE] [`-check` | `-version`]")
	agentd.Markdown(read("packaging", "man", "agentd.md"))

	config := New("agentd.toml", 5, "configuration of agentd")
	config.Section("Synopsis")
	config.Paragraph("`/etc/agentd/agentd.toml`, `/etc/agentd/agentd.d/*.toml`")
	config.TOML(read("configs", "agentd.toml"))
	config.Section("See also")
	config.Paragraph("**agentd**(8), **agentctl**(1)")

	spec := New("agentd.spec", 5, "what a daemon's file may say")
	spec.Section("Synopsis")
	spec.Paragraph("`agentctl apply -f` FILE.toml")
	spec.Markdown(read("docs", "daemon.md"))
	spec.Section("See also")
	spec.Paragraph("**agentctl**(1), **agentd.toml**(5)")

	for name, page := range map[string]*Page{"agentd.8": agentd, "agentd.toml.5": config, "agentd.spec.5": spec} {
		Golden(t, filepath.Join(root, "docs", "man", name), page, *update)
	}
}

// Every flag of agentd has its line in agentd(8).
func TestEveryFlagOfAgentd(t *testing.T) {
	src, err := os.ReadFile(filepath.Join("..", "..", "cmd", "agentd", "run.go"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("agentd.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, part := range strings.Split(string(src), "flags.")[1:] {
		kind, rest, ok := strings.Cut(part, `("`)
		if !ok || kind != "String" && kind != "Bool" && kind != "Duration" && kind != "Int" {
			continue
		}
		name, _, _ := strings.Cut(rest, `"`)
		found++
		if !strings.Contains(string(doc), "| `-"+name) {
			t.Errorf("agentd.md does not explain -%s", name)
		}
	}
	if found < 3 {
		t.Errorf("found %d flags in cmd/agentd/run.go, want at least 3", found)
	}
}
