package strict

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Quote returns s as a TOML basic string on one line. Bytes that are not UTF-8
// become U+FFFD, for TOML has no way to write them.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	escapeInto(&b, s, false)
	b.WriteByte('"')
	return b.String()
}

// QuoteText returns s as TOML: over several lines when it has several.
func QuoteText(s string) string {
	if !strings.Contains(strings.TrimSuffix(s, "\n"), "\n") {
		return Quote(s)
	}
	var b strings.Builder
	b.WriteString("\"\"\"\n") // the first line end belongs to the quotes
	escapeInto(&b, s, true)
	b.WriteString(`"""`)
	return b.String()
}

// QuoteStrings returns list as a TOML array on one line.
func QuoteStrings(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// QuoteFloat returns f as a TOML number that is read back as the same value.
func QuoteFloat(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".enia") {
		s += ".0"
	}
	return s
}

func escapeInto(b *strings.Builder, s string, lines bool) {
	for _, r := range s {
		switch {
		case r == '"':
			b.WriteString(`\"`)
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n' && lines:
			b.WriteByte('\n')
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(b, `\u%04X`, r)
		case r == utf8.RuneError:
			b.WriteRune('\uFFFD')
		default:
			b.WriteRune(r)
		}
	}
}

func quoteKey(key string) string {
	if key == "" {
		return `""`
	}
	for _, r := range key {
		bare := r == '-' || r == '_' ||
			'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !bare {
			return Quote(key)
		}
	}
	return key
}

// QuoteKey returns key as TOML: bare when it can be.
func QuoteKey(key string) string { return quoteKey(key) }
