package man

import (
	"strings"
	"testing"
)

func TestMarkdown(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"a line that roff would take for a request", "see\n.hidden and `a-b`", ".PP\nsee\n\\&.hidden and \\fBa\\-b\\fR\n"},
		{"a backslash", `a\b`, ".PP\na\\eb\n"},
		{"a heading in code", "### `[[mounts]]`", ".SS \"\\fB[[mounts]]\\fR\"\n"},
		{"a table is a list", "| key | default | |\n|---|---|---|\n| `pull` | `\"missing\"` | or else |", ".TP\n\\fBpull\\fR\nDefault: \\fB\"missing\"\\fR. Or else.\n"},
		{"code keeps its lines", "```toml\na = 1\n\n.b\n```\nafter", ".nf\na = 1\n\n\\&.b\n.fi\n.RE\n.PP\nafter\n"},
		{"a bullet with a second line", "- one\n  two\n- three", ".IP \\(bu 2\none\ntwo\n.IP \\(bu 2\nthree\n"},
		{"links keep addresses, not places", "[x](#y) [z](https://e-x.org)", ".PP\nx z (https://e\\-x.org)\n"},
	} {
		p := &Page{}
		p.Markdown(c.in)
		if !strings.HasSuffix(p.String(), c.want) {
			t.Errorf("%s:\n%q\nwant at the end\n%q", c.name, p.String(), c.want)
		}
	}
}

func TestTOML(t *testing.T) {
	p := &Page{}
	p.TOML("# All of it.\n\n[log]\n# How much.\n#level = \"info\"\n#format = \"text\"\n")
	want := ".SH \"DESCRIPTION\"\n.PP\nAll of it.\n.SH \"[log]\"\n.TP\n\\fBlevel = \"info\"\\fR\n.TQ\n\\fBformat = \"text\"\\fR\nHow much.\n"
	if p.String() != want {
		t.Errorf("got\n%q\nwant\n%q", p.String(), want)
	}
}
