package record

import (
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"
)

func ringA() RingID { return RingID{0xa1, 0xb2} }

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// testKey returns the same key for the same number, so that failures repeat.
func testKey(n byte) PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return PrivateKey{Comment: fmt.Sprintf("operator-%d", n), key: ed25519.NewKeyFromSeed(seed)}
}

func trustOf(keys ...PrivateKey) *Trust {
	pubs := make([]PublicKey, len(keys))
	for i, k := range keys {
		pubs[i] = k.Public()
	}
	return NewTrust(pubs...)
}

// signRaw signs bytes that Sign would not produce.
func signRaw(payload string, keys ...PrivateKey) []byte {
	e := envelope{payload: []byte(payload)}
	for _, k := range keys {
		e.signatures = append(e.signatures, signature{k.Public().ID(), k.sign(pae(e.payload))})
	}
	return e.marshal()
}

func mustSign(t testing.TB, h Header, body []byte, keys ...PrivateKey) []byte {
	t.Helper()
	env, err := Sign(h, body, keys...)
	if err != nil {
		t.Fatalf("Sign(%+v): %v", h, err)
	}
	return env
}

func mustVerify(t testing.TB, env []byte, trust *Trust) Record {
	t.Helper()
	r, err := Verify(env, ringA(), trust)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return r
}

// follow signs and verifies a record that follows cur.
func follow(t testing.TB, cur Entry, key Key, author, body string) Record {
	t.Helper()
	k := testKey(1)
	return mustVerify(t, mustSign(t, Next(cur, ringA(), key, author, epoch()), []byte(body), k), trustOf(k))
}

func daemonBody(t testing.TB, spec string, revision int) string {
	t.Helper()
	b, err := EncodeDaemon(DaemonBody{Spec: []byte(spec), Revision: revision, Rollout: Rollout{K: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
