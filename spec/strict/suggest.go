package strict

import (
	"slices"
	"strings"
)

// Suggest returns the candidate that word was probably meant to be, or "".
// Letter case and the choice of - or _ do not count as differences.
func Suggest(word string, candidates []string) string {
	fold := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
	}
	w := fold(word)
	if w == "" {
		return ""
	}
	sorted := slices.Sorted(slices.Values(candidates))
	best, bestDistance := "", 0
	for _, c := range sorted {
		f := fold(c)
		d := distance(w, f)
		// A third of the letters may differ, and an abbreviation of at
		// least three letters counts as near.
		near := d <= max(1, min(len(w), len(f))/3)
		if len(w) >= 3 && strings.HasPrefix(f, w) {
			near, d = true, min(d, 2)
		}
		if d > 0 && len(w) < 3 && len(f) < 3 {
			near = false // of two letters each, any two are alike
		}
		if near && (best == "" || d < bestDistance) {
			best, bestDistance = c, d
		}
	}
	return best
}

// didYouMean words a suggestion as a hint, "" for none.
func didYouMean(word string, candidates []string) string {
	if s := Suggest(word, candidates); s != "" {
		return "did you mean " + s + "?"
	}
	return ""
}

// OneOf words a refusal of a value outside a vocabulary: the message, and a
// hint when the value is near one of the words.
func OneOf(value string, words ...string) (msg, hint string) {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Quote(w)
	}
	list := strings.Join(quoted, ", ")
	if n := len(quoted); n > 1 {
		list = strings.Join(quoted[:n-1], ", ") + " or " + quoted[n-1]
	}
	if s := Suggest(value, words); s != "" {
		hint = "did you mean " + Quote(s) + "?"
	}
	return Quote(value) + " is not " + list, hint
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}
