package strict

import (
	"strconv"
	"strings"
)

// The TOML library keeps the lines of keys to itself. scan finds them again in
// a source that the library has accepted already; it therefore checks nothing
// and only has to know where keys, strings, arrays and tables begin and end.
// What it would miss costs a less exact line, never a wrong value.

// scan returns the line of every key and array element, by path.
func scan(src string) map[string]int {
	for _, bom := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if rest, ok := strings.CutPrefix(src, bom); ok {
			src = rest
			break
		}
	}
	s := &scanner{src: src, line: 1, lines: map[string]int{}, tables: map[string]int{}}
	current := ""
	for {
		s.blank()
		switch {
		case s.end():
			return s.lines
		case s.peek("[["):
			current = s.header(2)
		case s.peek("["):
			current = s.header(1)
		default:
			at := s.i
			s.pair(current)
			if s.i == at { // cannot happen in valid TOML; never loop
				return s.lines
			}
		}
	}
}

type scanner struct {
	src    string
	i      int
	line   int
	lines  map[string]int
	tables map[string]int // elements so far of each array of tables
}

func (s *scanner) end() bool             { return s.i >= len(s.src) }
func (s *scanner) peek(word string) bool { return strings.HasPrefix(s.src[s.i:], word) }

// advance moves over n bytes, counting lines.
func (s *scanner) advance(n int) {
	n = min(n, len(s.src)-s.i)
	s.line += strings.Count(s.src[s.i:s.i+n], "\n")
	s.i += n
}

// blank skips white space, line ends and comments.
func (s *scanner) blank() {
	for !s.end() {
		switch s.src[s.i] {
		case ' ', '\t', '\r', '\n':
			s.advance(1)
		case '#':
			n := strings.IndexByte(s.src[s.i:], '\n')
			if n < 0 {
				n = len(s.src) - s.i
			}
			s.advance(n)
		default:
			return
		}
	}
}

// header reads [a.b] (brackets = 1) or [[a.b]] (2) and returns the path of the
// table that follows.
func (s *scanner) header(brackets int) string {
	line := s.line
	s.advance(brackets)
	keys := s.keys()
	s.blank()
	s.advance(brackets)
	path := ""
	for n, key := range keys {
		path = Join(path, key)
		last := n == len(keys)-1
		if _, ok := s.lines[path]; !ok {
			s.lines[path] = line
		}
		if last && brackets == 2 {
			s.tables[path]++
		}
		if count := s.tables[path]; count > 0 {
			path = Index(path, count-1)
		}
		if last {
			s.lines[path] = line
		}
	}
	return path
}

// pair reads key = value inside the table at path.
func (s *scanner) pair(path string) {
	line := s.line
	for _, key := range s.keys() {
		path = Join(path, key)
		if _, ok := s.lines[path]; !ok {
			s.lines[path] = line
		}
	}
	s.blank()
	if s.peek("=") {
		s.advance(1)
	}
	s.value(path)
}

// keys reads a dotted key.
func (s *scanner) keys() []string {
	var keys []string
	for {
		s.blank()
		keys = append(keys, s.key())
		s.blank()
		if !s.peek(".") {
			return keys
		}
		s.advance(1)
	}
}

func (s *scanner) key() string {
	switch {
	case s.peek(`"`):
		return unescape(s.quoted(`"`))
	case s.peek(`'`):
		return s.quoted(`'`)
	}
	n := strings.IndexAny(s.src[s.i:], ".=]} \t\r\n#")
	if n < 0 {
		n = len(s.src) - s.i
	}
	key := s.src[s.i : s.i+n]
	s.advance(n)
	return key
}

// value moves over a value, noting the lines of what is inside.
func (s *scanner) value(path string) {
	s.blank()
	switch {
	case s.end():
	case s.peek(`"""`):
		s.multiline(`"""`)
	case s.peek(`'''`):
		s.multiline(`'''`)
	case s.peek(`"`):
		s.quoted(`"`)
	case s.peek(`'`):
		s.quoted(`'`)
	case s.peek("["):
		s.array(path)
	case s.peek("{"):
		s.inline(path)
	default:
		n := strings.IndexAny(s.src[s.i:], ",]}#\r\n")
		if n < 0 {
			n = len(s.src) - s.i
		}
		s.advance(n)
	}
}

func (s *scanner) array(path string) {
	s.advance(1)
	for i := 0; ; {
		s.blank()
		switch {
		case s.end():
			return
		case s.peek("]"):
			s.advance(1)
			return
		case s.peek(","):
			s.advance(1)
		default:
			at := s.i
			item := Index(path, i)
			s.lines[item] = s.line
			s.value(item)
			i++
			if s.i == at {
				s.advance(1)
			}
		}
	}
}

func (s *scanner) inline(path string) {
	s.advance(1)
	for {
		s.blank()
		switch {
		case s.end():
			return
		case s.peek("}"):
			s.advance(1)
			return
		case s.peek(","):
			s.advance(1)
		default:
			at := s.i
			s.pair(path)
			if s.i == at {
				s.advance(1)
			}
		}
	}
}

// quoted moves over a one-line string and returns what is between the quotes.
func (s *scanner) quoted(quote string) string {
	s.advance(1)
	start := s.i
	for !s.end() && !s.peek(quote) {
		if quote == `"` && s.peek(`\`) {
			s.advance(1)
		}
		s.advance(1)
	}
	text := s.src[start:s.i]
	s.advance(1)
	return text
}

// multiline moves over a multi-line string. Up to two quotes may stand right
// before the closing three.
func (s *scanner) multiline(quotes string) {
	s.advance(3)
	for !s.end() && !s.peek(quotes) {
		if quotes == `"""` && s.peek(`\`) {
			s.advance(1)
		}
		s.advance(1)
	}
	s.advance(3)
	for n := 0; n < 2 && s.peek(quotes[:1]); n++ {
		s.advance(1)
	}
}

// unescape resolves the escapes of a basic string, as TOML 1.1 has them.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		digits := 0
		switch text[i] {
		case 'b':
			b.WriteByte('\b')
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'f':
			b.WriteByte('\f')
		case 'r':
			b.WriteByte('\r')
		case 'e':
			b.WriteByte(0x1b)
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		default: // \" and \\
			b.WriteByte(text[i])
		}
		if digits > 0 && i+digits < len(text) {
			if r, err := strconv.ParseUint(text[i+1:i+1+digits], 16, 32); err == nil {
				b.WriteRune(rune(r))
			}
			i += digits
		}
	}
	return b.String()
}
