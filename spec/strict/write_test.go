package strict

import (
	"testing"

	"github.com/BurntSushi/toml"
	"pgregory.net/rapid"
)

// Whatever text there is, TOML gives it back.
func TestQuoteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		for _, written := range []string{Quote(text), QuoteText(text)} {
			var got struct{ V string }
			if _, err := toml.Decode("V = "+written, &got); err != nil {
				t.Fatalf("%s: %v", written, err)
			}
			if got.V != text {
				t.Fatalf("%q came back as %q from %s", text, got.V, written)
			}
		}
		got := map[string]string{}
		if _, err := toml.Decode(QuoteKey(text)+" = 'v'", &got); err != nil || got[text] != "v" {
			t.Fatalf("key %q came back as %v, %v", text, got, err)
		}
		f := rapid.Float64Range(-1e300, 1e300).Draw(t, "float")
		var number struct{ V float64 }
		if _, err := toml.Decode("V = "+QuoteFloat(f), &number); err != nil || number.V != f {
			t.Fatalf("%v came back as %v, %v", f, number.V, err)
		}
	})
}
