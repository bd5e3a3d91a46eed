package logger

import (
	"bytes"
	"time"
)

// Stream is where a line came from.
type Stream byte

// The two streams of a container.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// Line is one line of output, or a piece of a long one.
type Line struct {
	Time    time.Time
	Stream  Stream
	Partial bool   // the line goes on in the next piece of the same stream
	Text    []byte // without the newline
}

// timeForm is RFC 3339 with all digits, in UTC: lines sort by their text.
const timeForm = "2006-01-02T15:04:05.000000000Z"

// AppendLine appends l in the form that the Container Runtime Interface gave to
// log files, which every log shipper reads: time, stream, P or F for a piece or
// the (rest of the) full line, and the text:
//
//	2026-01-02T03:04:05.000000006Z stdout F hello
func AppendLine(b []byte, l Line) []byte {
	b = l.Time.UTC().AppendFormat(b, timeForm)
	b = append(b, ' ')
	b = append(b, l.Stream.String()...)
	if l.Partial {
		b = append(b, " P "...)
	} else {
		b = append(b, " F "...)
	}
	b = append(b, l.Text...)
	return append(b, '\n')
}

// ParseLine reads one line of a file, without its newline. Text points into b.
// False means that b has another form: it was appended by containerd itself
// (file://), or was torn.
func ParseLine(b []byte) (Line, bool) {
	stamp, rest, ok := bytes.Cut(b, []byte{' '})
	// Longer ones may come from others; none is longer than this.
	if !ok || len(stamp) > len("2006-01-02T15:04:05.000000000+00:00") {
		return Line{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{}, false
	}
	stream, rest, _ := bytes.Cut(rest, []byte{' '})
	tag, text, ok := bytes.Cut(rest, []byte{' '})
	l := Line{Time: t, Text: text}
	switch string(stream) {
	case "stdout":
		l.Stream = Stdout
	case "stderr":
		l.Stream = Stderr
	default:
		return Line{}, false
	}
	switch string(tag) {
	case "F":
	case "P":
		l.Partial = true
	default:
		return Line{}, false
	}
	return l, ok
}
