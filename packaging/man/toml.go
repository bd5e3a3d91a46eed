package man

import "strings"

// TOML writes a commented configuration file: what it begins with is the
// description, each [table] a section, and each run of "#key = value" lines
// items that the comment before it explains.
func (p *Page) TOML(src string) {
	p.Section("Description")
	var comment, keys []string
	flush := func() {
		body := strings.Join(comment, "\n")
		switch {
		case len(keys) > 0:
			p.Item(body, keys...)
		case body != "":
			for _, para := range strings.Split(body, "\n\n") {
				p.Paragraph(para)
			}
		}
		comment, keys = nil, nil
	}
	for line := range strings.Lines(src) {
		line = strings.TrimSpace(line)
		text, isComment := strings.CutPrefix(line, "#")
		switch {
		case line == "":
			flush()
		case strings.HasPrefix(line, "["):
			flush()
			p.b.WriteString(".SH " + quoted(code(line)) + "\n")
		case isComment && (text == "" || strings.HasPrefix(text, " ")):
			if len(keys) > 0 {
				flush()
			}
			comment = append(comment, strings.TrimSpace(text))
		default: // a key at its default, commented out or not
			keys = append(keys, text)
			if !isComment {
				keys[len(keys)-1] = line
			}
		}
	}
	flush()
}
