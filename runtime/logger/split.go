package logger

import (
	"bytes"
	"unicode/utf8"
)

// maxLine is where long lines are cut: as Docker and the Container Runtime
// Interface's shims do, and small enough for one datagram to journald.
const maxLine = 16 << 10

// splitter cuts a stream of bytes into lines. Its buffer never grows.
type splitter struct {
	buf [2 * maxLine]byte
	n   int // bytes in buf, all of one line that has not ended
}

// space is where the next bytes are to be read to; it is never empty.
func (s *splitter) space() []byte { return s.buf[s.n:] }

// take cuts the n bytes that were put into space. What emit gets is valid
// until it returns.
func (s *splitter) take(n int, emit func(text []byte, partial bool)) {
	fresh := s.n // no newline before this
	s.n += n
	rest := s.buf[:s.n]
	for {
		i := bytes.IndexByte(rest[fresh:], '\n')
		if i < 0 {
			break
		}
		line := rest[:fresh+i]
		for len(line) > maxLine {
			c := cut(line)
			emit(line[:c], true)
			line = line[c:]
		}
		emit(line, false)
		rest, fresh = rest[fresh+i+1:], 0
	}
	for len(rest) > maxLine {
		c := cut(rest)
		emit(rest[:c], true)
		rest = rest[c:]
	}
	s.n = copy(s.buf[:], rest)
}

// end emits what came after the last newline.
func (s *splitter) end(emit func(text []byte, partial bool)) {
	if s.n > 0 {
		emit(s.buf[:s.n], false)
		s.n = 0
	}
}

// cut is where to cut a piece off b, which is longer than maxLine: not within
// a character.
func cut(b []byte) int {
	for c := maxLine; c > maxLine-utf8.UTFMax; c-- {
		if utf8.RuneStart(b[c]) {
			return c
		}
	}
	return maxLine
}
