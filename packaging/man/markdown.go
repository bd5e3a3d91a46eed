package man

import (
	"strings"
)

// Markdown writes a document: its ## headings become sections and its ###
// headings subsections; the title is left out, and what stands before the first
// heading becomes the section "Description".
func (p *Page) Markdown(src string) {
	p.Section("Description")
	all := strings.Split(src, "\n")
	for i := 0; i < len(all); {
		line := all[i]
		switch {
		case strings.TrimSpace(line) == "", strings.HasPrefix(line, "# "):
			i++
		case strings.HasPrefix(line, "### "):
			p.Subsection(strings.TrimPrefix(line, "### "))
			i++
		case strings.HasPrefix(line, "## "):
			p.Section(strings.TrimPrefix(line, "## "))
			i++
		case strings.HasPrefix(line, "```"):
			n := until(all[i+1:], func(l string) bool { return strings.HasPrefix(l, "```") })
			p.Code(strings.Join(all[i+1:i+1+n], "\n"))
			i += n + 2
		case strings.HasPrefix(line, "    "):
			n := until(all[i:], func(l string) bool { return !strings.HasPrefix(l, "    ") })
			p.Code(strings.ReplaceAll("\n"+strings.Join(all[i:i+n], "\n"), "\n    ", "\n"))
			i += n
		case strings.HasPrefix(line, "|"):
			n := until(all[i:], func(l string) bool { return !strings.HasPrefix(l, "|") })
			p.table(all[i : i+n])
			i += n
		case strings.HasPrefix(line, "- "):
			n := 1 + until(all[i+1:], func(l string) bool { return !strings.HasPrefix(l, "  ") })
			p.Bullet(joined(all[i:i+n], "- "))
			i += n
		default:
			n := 1 + until(all[i+1:], func(l string) bool {
				return strings.TrimSpace(l) == "" || strings.HasPrefix(l, "|") || strings.HasPrefix(l, "- ") || strings.HasPrefix(l, "```")
			})
			p.Paragraph(joined(all[i:i+n], ""))
			i += n
		}
	}
}

// table writes rows as items named after their first cells; what the header
// calls the cells between it and the last is put before their values.
func (p *Page) table(rows []string) {
	header := cells(rows[0])
	for _, row := range rows[min(2, len(rows)):] {
		c := cells(row)
		last := len(c) - 1
		var body []string
		for i := 1; i < last; i++ {
			switch {
			case c[i] == "" || i >= len(header):
			case c[i] == "required":
				body = append(body, "Required.")
			default:
				body = append(body, sentence(header[i])+": "+c[i]+".")
			}
		}
		if last > 0 && c[last] != "" {
			body = append(body, sentence(c[last])+".")
		}
		p.Item(strings.Join(body, " "), strings.ReplaceAll(c[0], "`", ""))
	}
}

// sentence begins with a capital, unless it begins with code.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// cells splits a row of a table; a | in code is not escaped in ours.
func cells(row string) []string {
	list := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), " |")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// until counts the lines before the first that ends something.
func until(all []string, ends func(string) bool) int {
	for i, l := range all {
		if ends(l) {
			return i
		}
	}
	return len(all)
}

func joined(all []string, prefix string) string {
	for i, l := range all {
		all[i] = strings.TrimSpace(strings.TrimPrefix(l, prefix))
	}
	return strings.Join(all, "\n")
}
