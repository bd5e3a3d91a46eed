package spec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agentd/agentd/spec/strict"
)

// Duration is a Go duration written as text ("500ms").
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String returns the shortest text that ParseDuration takes back: "1m", not
// "1m0s". It is part of the canonical form, so it must never change.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// UnmarshalTOML takes a Go duration as text. A bare number is refused: nobody
// can tell its unit.
func (d *Duration) UnmarshalTOML(v any) error {
	s, ok := v.(string)
	if !ok {
		if n, isInt := v.(int64); isInt {
			return fmt.Errorf(`needs a duration with its unit, such as "%ds"`, n)
		}
		return errors.New(`needs a duration such as "500ms", "30s" or "1h"`)
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf(`%s is not a duration such as "500ms", "30s" or "1h"`, strict.Quote(s))
	}
	*d = Duration(parsed)
	return nil
}

// Size is a number of bytes, written plain or as KiB, MiB or GiB.
type Size int64

// Units of a Size, largest first.
var sizeUnits = [...]struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// String returns s in the largest unit that divides it, "200MiB", or plain.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalTOML takes a number of bytes, a text such as "64MiB", or "" for none.
func (s *Size) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case int64:
		if v < 0 {
			return fmt.Errorf("%d is negative", v)
		}
		*s = Size(v)
		return nil
	case string:
		n, err := ParseSize(v)
		if err != nil {
			return err
		}
		*s = n
		return nil
	}
	return errors.New(`needs a size such as "64MiB", or a number of bytes`)
}

// ParseSize reads "64MiB", "1GiB" or a plain number of bytes; "" is 0.
func ParseSize(text string) (Size, error) {
	if text == "" {
		return 0, nil
	}
	digits, unit := text, int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			digits, unit = strings.TrimSuffix(rest, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && n > (1<<63-1)/unit:
		return 0, fmt.Errorf("%s is too large", strict.Quote(text))
	case err != nil || digits[0] == '+':
		return 0, fmt.Errorf(`%s is not a size: write whole KiB, MiB, GiB or TiB, such as "64MiB", or bytes`, strict.Quote(text))
	case n < 0:
		return 0, fmt.Errorf("%s is negative", strict.Quote(text))
	}
	return Size(n * unit), nil
}
