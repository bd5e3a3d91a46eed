package record

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestKeysRoundTrip(t *testing.T) {
	key, err := GenerateKey("alice@laptop, main key")
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePrivateKey(key.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Marshal(), key.Marshal()) || again.Comment != key.Comment {
		t.Errorf("private key changed on the way: %q", again.Comment)
	}
	text := "# from the wiki\n\n" + strings.ReplaceAll(string(key.Public().Marshal()), "\n", "\r\n")
	pub, err := ParsePublicKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if pub != key.Public() {
		t.Errorf("public key changed on the way: %v, want %v", pub, key.Public())
	}
	if id := pub.ID(); len(id) != 16 {
		t.Errorf("ID() = %q, want 16 digits", id)
	}
}

func TestParseKeyErrors(t *testing.T) {
	key := testKey(1)
	private, public := string(key.Marshal()), string(key.Public().Marshal())
	tests := []struct {
		name, text, want string
		parse            func(string) error
	}{
		{"empty", "", "no key in it", parsePub},
		{"only comments", "# nothing\n", "no key in it", parsePub},
		{"two keys", public + public, "more than one key", parsePub},
		{"cut in the middle of the base64", public[:40], "damaged or cut short", parsePub},
		{"private key in the trust folder", private, "holds a private key", parsePub},
		{"public key given to sign with", public, "holds a public key", parsePriv},
		{"some other file", "ssh-ed25519 AAAA x", "does not begin with", parsePub},
		{"zero key", publicKeyTag + " AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "all zeros", parsePub},
		{"comment that moves the cursor", strings.TrimSpace(public) + "\x1b[2J", "printable", parsePub},
		{"huge", strings.Repeat("#", MaxKeyFile+1), "no key file", parsePriv},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.parse(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			if secret := strings.Fields(private)[1]; strings.Contains(err.Error(), secret[:12]) {
				t.Errorf("the error repeats the secret: %v", err)
			}
		})
	}
}

func parsePub(s string) error  { _, err := ParsePublicKey([]byte(s)); return err }
func parsePriv(s string) error { _, err := ParsePrivateKey([]byte(s)); return err }

func TestPrivateKeyIsNotPrinted(t *testing.T) {
	key := testKey(1)
	secret := strings.Fields(string(key.Marshal()))[1]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if out := fmt.Sprintf(verb, key); strings.Contains(out, secret) || !strings.Contains(out, key.Public().ID()) {
			t.Errorf("%s prints %q", verb, out)
		}
	}
}

func TestTrust(t *testing.T) {
	a, b := testKey(1).Public(), testKey(2).Public()
	b2 := b
	b2.Comment = "other words"
	trust := NewTrust(a, b, b2)
	if got := NewTrust(b2, a).ID(); got != trust.ID() {
		t.Errorf("order and comments change the id: %s, %s", got, trust.ID())
	}
	if NewTrust(a).ID() == trust.ID() {
		t.Error("another set of keys has the same id")
	}
	if len(trust.Keys()) != 2 {
		t.Errorf("Keys() = %v, want two", trust.Keys())
	}
	var none *Trust
	if _, ok := none.Lookup(a.ID()); ok || !none.Empty() || none.ID() != NewTrust().ID() {
		t.Error("the nil Trust trusts somebody")
	}
}
