package record

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func daemonKey() Key { return Key{KindDaemon, "web"} }

func TestPAE(t *testing.T) {
	// DSSE protocol.md: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body.
	want := fmt.Sprintf("DSSEv1 %d %s 11 hello world", len(PayloadType), PayloadType)
	if got := string(pae([]byte("hello world"))); got != want {
		t.Errorf("pae = %q, want %q", got, want)
	}
}

func TestSignVerify(t *testing.T) {
	key := testKey(1)
	h := Header{
		Ring: ringA(), Key: daemonKey(), Generation: 7, Parent: Digest{1},
		Ancestors: []Digest{{1}, {2}}, Author: "Zoë <z@example.com>", Created: epoch(),
	}
	body := bytes.Repeat([]byte{0, 255, '\n'}, 100)
	r := mustVerify(t, mustSign(t, h, body, key), trustOf(key))
	h.Schema = Schema
	if got, want := fmt.Sprintf("%+v", r.Header), fmt.Sprintf("%+v", h); got != want {
		t.Errorf("header\n%s, want\n%s", got, want)
	}
	if !bytes.Equal(r.Body, body) {
		t.Error("the body changed")
	}
	if len(r.Signers) != 1 || r.Signers[0] != key.Public().ID() {
		t.Errorf("signers %v", r.Signers)
	}
	again := mustVerify(t, r.Envelope, trustOf(key))
	if !bytes.Equal(again.Envelope, r.Envelope) || again.Digest != r.Digest {
		t.Error("the stored envelope does not verify to itself")
	}
}

// Every bit of the payload counts.
func TestVerifyRefusesEveryFlippedBit(t *testing.T) {
	key := testKey(1)
	env := mustSign(t, Header{Ring: ringA(), Key: daemonKey(), Generation: 1, Created: epoch()}, []byte("x"), key)
	e, err := parseEnvelope(env)
	if err != nil {
		t.Fatal(err)
	}
	for i := range e.payload {
		for bit := range 8 {
			e.payload[i] ^= 1 << bit
			if _, err := Verify(e.marshal(), ringA(), trustOf(key)); !errors.Is(err, ErrUnsigned) {
				t.Fatalf("byte %d bit %d: %v, want ErrUnsigned", i, bit, err)
			}
			e.payload[i] ^= 1 << bit
		}
	}
	for i := range e.signatures[0].Sig {
		e.signatures[0].Sig[i] ^= 1
		var refused *RefusedError
		if _, err := Verify(e.marshal(), ringA(), trustOf(key)); !errors.As(err, &refused) || !refused.Forged || refused.Trusted {
			t.Fatalf("signature byte %d: %v, want a forged signature", i, err)
		}
		e.signatures[0].Sig[i] ^= 1
	}
}

func TestVerifyKeepsOnlyVerifiedSignatures(t *testing.T) {
	a, b, stranger := testKey(1), testKey(2), testKey(3)
	h := Header{Ring: ringA(), Key: daemonKey(), Generation: 1, Created: epoch()}
	env := mustSign(t, h, []byte("x"), stranger, b, a)
	both := mustVerify(t, env, trustOf(a, b))
	if len(both.Signers) != 2 || bytes.Contains(both.Envelope, []byte(stranger.Public().ID())) {
		t.Errorf("signers %v in %s", both.Signers, both.Envelope)
	}
	// The same signatures in another order, and one of them twice: once wrong.
	e, err := parseEnvelope(env)
	if err != nil {
		t.Fatal(err)
	}
	wrong := signature{a.Public().ID(), bytes.Repeat([]byte{0xff}, 64)}
	e.signatures = []signature{wrong, e.signatures[2], e.signatures[1], e.signatures[0]}
	other, claim, err := VerifyClaim(e.marshal(), ringA(), trustOf(b, a))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(other.Envelope, both.Envelope) {
		t.Errorf("the order of signatures changes what is stored:\n%s\n%s", other.Envelope, both.Envelope)
	}
	if !claim.Forged {
		t.Error("a wrong signature under a trusted key went unnoticed")
	}
}

func TestAddSignature(t *testing.T) {
	a, b := testKey(1), testKey(2)
	h := Header{Ring: ringA(), Key: daemonKey(), Generation: 1, Created: epoch()}
	env := mustSign(t, h, []byte("x"), a)
	two, err := AddSignature(env, b)
	if err != nil {
		t.Fatal(err)
	}
	if want := mustSign(t, h, []byte("x"), b, a); !bytes.Equal(two, want) {
		t.Errorf("signing one after the other differs from signing at once:\n%s\n%s", two, want)
	}
	if again, err := AddSignature(two, a); err != nil || !bytes.Equal(again, two) {
		t.Errorf("signing twice with one key changed the envelope: %v", err)
	}
}

func TestVerifyRefusals(t *testing.T) {
	key, stranger := testKey(1), testKey(9)
	h := Header{Ring: ringA(), Key: daemonKey(), Generation: 1, Created: epoch()}
	good := mustSign(t, h, []byte("x"), key)
	other := h
	other.Ring = RingID{9}
	payload := func(edit string) []byte { return signRaw(edit, key) }
	const head = `{"schema":1,"ring":"a1b20000000000000000000000000000","kind":"daemon","name":"web","generation":1,"created":"2026-01-02T03:04:05Z"`
	tests := []struct {
		name  string
		env   []byte
		trust *Trust
		is    error
		words string
	}{
		{"signed by a key that is not trusted", mustSign(t, h, nil, stranger), trustOf(key), ErrUnsigned, stranger.Public().ID()},
		{"nobody is trusted", good, nil, ErrUnsigned, "trusts no operator"},
		{"another ring", mustSign(t, other, nil, key), trustOf(key), ErrRing, "ring 09"},
		{"no JSON", []byte("hello"), trustOf(key), ErrMalformed, "no JSON object"},
		{"nothing", nil, trustOf(key), ErrMalformed, ""},
		{"cut short", good[:len(good)-1], trustOf(key), ErrMalformed, ""},
		{"something follows", append(bytes.Clone(good), '{'), trustOf(key), ErrMalformed, "follows"},
		{"too large", bytes.Repeat([]byte(" "), MaxEnvelope+1), trustOf(key), ErrTooLarge, ""},
		{"no signatures", []byte(`{"payloadType":"` + PayloadType + `","payload":"e30=","signatures":[]}`), trustOf(key), ErrMalformed, "no signatures"},
		{"payload type of something else", bytes.Replace(good, []byte("record.v1"), []byte("logs.v1"), 1), trustOf(key), ErrMalformed, "payload type"},
		{"payload given twice", append([]byte(`{"payload":"e30=",`), good[1:]...), trustOf(key), ErrMalformed, "twice"},
		{"well formed", payload(head + `}`), trustOf(key), nil, ""},
		{"unknown key", payload(head + `,"extra":1}`), trustOf(key), ErrMalformed, `"extra"`},
		{"key in capitals", payload(head + `,"Delete":true}`), trustOf(key), ErrMalformed, `"Delete"`},
		{"key given twice", payload(head + `,"name":"db"}`), trustOf(key), ErrMalformed, "twice"},
		{"null", payload(head + `,"author":null}`), trustOf(key), ErrMalformed, "author"},
		{"delete that is no boolean", payload(head + `,"delete":1}`), trustOf(key), ErrMalformed, "delete"},
		{"delete with a body", payload(head + `,"delete":true,"body":"eA=="}`), trustOf(key), ErrMalformed, "no body"},
		{"parent without ancestors", payload(head + `,"parent":"` + strings.Repeat("11", 32) + `"}`), trustOf(key), ErrMalformed, "ancestor"},
		{"author with an escape sequence", payload(head + `,"author":"\u001b[2J"}`), trustOf(key), ErrMalformed, "author"},
		{"generation 0", payload(strings.Replace(head, `"generation":1`, `"generation":0`, 1) + `}`), trustOf(key), ErrMalformed, "generation"},
		{"generation beyond what JSON carries", payload(strings.Replace(head, `"generation":1`, `"generation":9007199254740992`, 1) + `}`), trustOf(key), ErrMalformed, "generation"},
		{"negative generation", payload(strings.Replace(head, `"generation":1`, `"generation":-1`, 1) + `}`), trustOf(key), ErrMalformed, "generation"},
		{"name with a slash", payload(strings.Replace(head, `"web"`, `"../web"`, 1) + `}`), trustOf(key), ErrMalformed, "name"},
		{"kind with a dot", payload(strings.Replace(head, `"daemon"`, `"a.b"`, 1) + `}`), trustOf(key), ErrMalformed, "kind"},
		{"schema 0", payload(strings.Replace(head, `"schema":1`, `"schema":0`, 1) + `}`), trustOf(key), ErrMalformed, "schema"},
		{"blob under another name than its hash", payload(strings.Replace(head, `"daemon"`, `"blob"`, 1) + `,"body":"eA=="}`), trustOf(key), ErrMalformed, "hash"},
		{"kind of a later agentd", payload(strings.Replace(head, `"daemon"`, `"quota"`, 1) + `}`), trustOf(key), nil, ""},
		{"body beyond the limit", payload(head + `,"body":"` + base64.StdEncoding.EncodeToString(make([]byte, MaxBody+1)) + `"}`), trustOf(key), ErrTooLarge, ""},
		{"body at the limit", payload(head + `,"body":"` + base64.StdEncoding.EncodeToString(make([]byte, MaxBody)) + `"}`), trustOf(key), nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Verify(tt.env, ringA(), tt.trust)
			if !errors.Is(err, tt.is) {
				t.Fatalf("error %v, want %v", err, tt.is)
			}
			if err != nil && !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %q does not say %q", err, tt.words)
			}
		})
	}
}

// A member must not be able to keep a good record out by sending it with a bad
// signature first: such a refusal is told apart from one of the payload.
func TestRefusedErrorTellsWhatToRemember(t *testing.T) {
	key, stranger := testKey(1), testKey(9)
	h := Header{Ring: ringA(), Key: daemonKey(), Generation: 1, Created: epoch()}
	other := h
	other.Ring = RingID{9}
	tests := []struct {
		name            string
		env             []byte
		trusted, forged bool
	}{
		{"unknown signer", mustSign(t, h, nil, stranger), false, false},
		{"another ring, signed well", mustSign(t, other, nil, key), true, false},
	}
	for _, tt := range tests {
		_, err := Verify(tt.env, ringA(), trustOf(key))
		var e *RefusedError
		if !errors.As(err, &e) || e.Trusted != tt.trusted || e.Forged != tt.forged || e.Digest.IsZero() {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
}

func TestNewerSchemaIsKeptUntouched(t *testing.T) {
	key := testKey(1)
	const payload = `{"schema":9,"ring":"a1b20000000000000000000000000000","kind":"daemon","name":"web","generation":3,` +
		`"author":["a","b"],"created":12,"quorum":{"of":3},"body":{"not":"base64"}}`
	r := mustVerify(t, signRaw(payload, key), trustOf(key))
	if r.Schema != 9 || r.Generation != 3 || r.Key != daemonKey() {
		t.Errorf("header %+v", r.Header)
	}
	var e struct{ Payload []byte }
	if err := json.Unmarshal(r.Envelope, &e); err != nil || string(e.Payload) != payload {
		t.Errorf("the payload changed: %s (%v)", e.Payload, err)
	}
	// It wins, and the last one that is understood is still there.
	old := follow(t, Entry{}, daemonKey(), "alice", daemonBody(t, "{}", 1))
	entry := EntryOf(old, r)
	if entry.Winner().Digest != r.Digest {
		t.Error("a newer schema does not win")
	}
	if got, ok := entry.Understood(func(Record) bool { return true }); !ok || got.Digest != old.Digest {
		t.Errorf("Understood() = %v, %v", got.Version(), ok)
	}
}

func TestLimitsCoverTheLargestRecord(t *testing.T) {
	var keys []PrivateKey
	for i := range byte(MaxSignatures) {
		keys = append(keys, testKey(i))
	}
	h := Header{Ring: ringA(), Generation: MaxGeneration, Author: strings.Repeat("<", maxAuthor), Created: epoch()}
	for i := range byte(MaxAncestors) {
		h.Ancestors = append(h.Ancestors, Digest{1: i, 2: 1})
	}
	h.Parent = h.Ancestors[0]
	for _, kind := range []Kind{KindDaemon, KindBlob, "quota"} {
		body := bytes.Repeat([]byte{0xfb}, bodyLimit(kind))
		h.Key = Key{kind, BlobName(body)}
		env := mustSign(t, h, body, keys...)
		if len(env) > EnvelopeLimit(kind) || len(env) > MaxEnvelope {
			t.Errorf("%s: the largest envelope has %d bytes, the limits are %d and %d", kind, len(env), EnvelopeLimit(kind), MaxEnvelope)
		}
		mustVerify(t, env, trustOf(keys...))
		if _, err := Sign(h, append(body, 0), keys...); !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: one byte more was signed: %v", kind, err)
		}
	}
}
