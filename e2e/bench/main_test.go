package main

import (
	"strings"
	"testing"
	"time"
)

// A ratio is compared with its limit, a number without a floor by itself, and
// what has no limit can't fail.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		what    string
		r       result
		verdict string
		fails   bool
	}{
		{"within its ratio", result{"a", 120, 100, 1.2, "ms"}, "ok", false},
		{"over it, as a busy machine may be", result{"a", 150, 100, 1.2, "ms"}, "over", false},
		{"far over it", result{"a", 200, 100, 1.2, "ms"}, "FAILED", true},
		{"a number within its limit", result{"a", 39, 0, 40, "MB"}, "ok", false},
		{"a number far over it", result{"a", 90, 0, 40, "MB"}, "FAILED", true},
		{"for information", result{"a", 900, 100, 0, "ms"}, "-", false},
	} {
		if got := c.r.verdict(); got != c.verdict {
			t.Errorf("%s: %s, want %s", c.what, got, c.verdict)
		}
		if err := judge([]result{c.r}, plan{limits: true}); (err != nil) != c.fails {
			t.Errorf("%s: judged %v, want an error: %t", c.what, err, c.fails)
		}
		if err := judge([]result{c.r}, plan{}); err != nil {
			t.Errorf("%s: judged %v without limits", c.what, err)
		}
	}
}

// What is only for information has no limit in the table, and the floors are
// explained below it.
func TestTable(t *testing.T) {
	var out strings.Builder
	if err := printTable(&out, []result{{"one", 150, 100, 1.2, "ms"}, {"two", 3, 0, 40, "MB"}, {"three", 2, 1, 0, "s"}}); err != nil {
		t.Fatal(err)
	}
	want := `NAME   MEASURED  FLOOR  RATIO  LIMIT  RESULT
one    150ms     100ms  1.50   1.20x  over
two    3MB       -      -      40MB   ok
three  2s        1s     2.00   -      -
#`
	if !strings.HasPrefix(out.String(), want) {
		t.Errorf("the table is\n%s\nwant a beginning of\n%s", out.String(), want)
	}
}

func TestMedian(t *testing.T) {
	if got := ms([]time.Duration{9 * time.Second, time.Millisecond, 2 * time.Millisecond}); got != 2 {
		t.Errorf("the median is %v ms, want 2", got)
	}
}
