package man

import (
	"fmt"
	"regexp"
	"strings"
)

// Page is a manual page that is being written.
type Page struct {
	b strings.Builder
}

// New begins the page name(section), which does what summary says.
func New(name string, section int, summary string) *Page {
	p := &Page{}
	p.raw(`.\" Generated; do not edit. See packaging/man.`)
	p.raw(".TH %s %d \"\" agentd agentd", strings.ToUpper(name), section)
	p.raw(".nh\n.ad l")
	p.Section("Name")
	p.raw(`%s \- %s`, text(name), text(summary))
	return p
}

// String is the page so far.
func (p *Page) String() string { return p.b.String() }

// Section begins a section, and Subsection one inside it.
func (p *Page) Section(title string)    { p.raw(".SH %s", quoted(inline(strings.ToUpper(title)))) }
func (p *Page) Subsection(title string) { p.raw(".SS %s", quoted(inline(title))) }

// Paragraph writes one paragraph of Markdown.
func (p *Page) Paragraph(s string) { p.raw(".PP\n%s", lines(inline(s))) }

// Item writes what each term means; the terms are code, and body is Markdown.
func (p *Page) Item(body string, terms ...string) {
	for i, t := range terms {
		p.raw("%s\n%s", map[bool]string{true: ".TP", false: ".TQ"}[i == 0], bold(t))
	}
	for i, para := range strings.Split(strings.TrimSpace(body), "\n\n") {
		if i > 0 {
			p.raw(".IP")
		}
		p.raw("%s", lines(inline(para)))
	}
}

// Bullet writes an item of a list.
func (p *Page) Bullet(s string) { p.raw(".IP \\(bu 2\n%s", lines(inline(s))) }

// Code writes lines as they are.
func (p *Page) Code(s string) {
	p.raw(".PP\n.RS 4\n.nf\n%s\n.fi\n.RE", lines(code(strings.Trim(s, "\n"))))
}

func (p *Page) raw(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

// text escapes what roff would take for its own.
func text(s string) string { return strings.ReplaceAll(s, `\`, `\e`) }

// code is text in which a - is the character that one types.
func code(s string) string { return strings.ReplaceAll(text(s), "-", `\-`) }

func bold(s string) string { return `\fB` + code(s) + `\fR` }

func quoted(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\(dq`) + `"` }

// lines keeps roff from taking a line for a request.
func lines(s string) string {
	all := strings.Split(s, "\n")
	for i, l := range all {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			all[i] = `\&` + l
		}
	}
	return strings.Join(all, "\n")
}

// spans are, in this order: code, bold, and a link with its address.
var spans = regexp.MustCompile("`` ?(.+?) ?``|`([^`]+)`" + `|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)]+)\)`)

// inline turns Markdown within a paragraph into roff.
func inline(s string) string {
	var b strings.Builder
	at := 0
	for _, m := range spans.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(text(s[at:m[0]]))
		at = m[1]
		group := func(n int) string {
			if m[2*n] < 0 {
				return ""
			}
			return s[m[2*n]:m[2*n+1]]
		}
		switch {
		case group(1) != "" || group(2) != "":
			b.WriteString(bold(group(1) + group(2)))
		case group(3) != "":
			b.WriteString(`\fB` + text(group(3)) + `\fR`)
		case strings.Contains(group(5), "://"):
			b.WriteString(text(group(4)) + " (" + code(group(5)) + ")")
		default: // a place in the same documents
			b.WriteString(text(group(4)))
		}
	}
	b.WriteString(text(s[at:]))
	return b.String()
}
