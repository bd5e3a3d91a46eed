package record

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// known reports whether an error is one of those that callers branch on.
func known(err error) bool {
	return errors.Is(err, ErrMalformed) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnsigned) ||
		errors.Is(err, ErrRing) || errors.Is(err, ErrNewer)
}

func FuzzVerify(f *testing.F) {
	key := testKey(1)
	h := Header{Ring: ringA(), Key: daemonKey(), Generation: 1, Created: epoch()}
	f.Add(mustSign(f, h, []byte("x"), key, testKey(2)))
	f.Add([]byte(`{"payloadType":"` + PayloadType + `","payload":"e30=","signatures":[{"keyid":"","sig":""}]}`))
	trust := trustOf(key)
	f.Fuzz(func(t *testing.T, env []byte) {
		r, err := Verify(env, ringA(), trust)
		if err != nil {
			if !known(err) {
				t.Fatalf("unexpected error: %v", err)
			}
			return
		}
		again, err := Verify(r.Envelope, ringA(), trust)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("what is stored does not verify to itself: %v", err)
		}
	})
}

// FuzzPayload takes the bytes as signed: what an operator's broken tool signs
// must not do harm either.
func FuzzPayload(f *testing.F) {
	f.Add([]byte(`{"schema":1,"ring":"a1b20000000000000000000000000000","kind":"daemon","name":"web","generation":1,"created":"2026-01-02T03:04:05Z","body":"eA=="}`))
	f.Add([]byte(`{"schema":2,"ring":"a1b20000000000000000000000000000","kind":"x","name":"web","generation":1,"body":1}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := parsePayload(payload)
		if err != nil {
			if !known(err) {
				t.Fatalf("unexpected error: %v", err)
			}
			return
		}
		if err := r.Key.Valid(); err != nil {
			t.Fatal(err)
		}
		if r.Generation == 0 || r.Generation > MaxGeneration || len(r.Ancestors) > MaxAncestors || len(r.Body) > bodyLimit(r.Key.Kind) {
			t.Fatalf("beyond the limits: %+v", r.Header)
		}
		if r.Schema == Schema {
			// Whatever is accepted can be written and read back the same.
			b, err := marshalPayload(r.Header, r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := parsePayload(b); err != nil || again.Key != r.Key || again.Version() != r.Version() || !bytes.Equal(again.Body, r.Body) {
				t.Fatalf("%+v, %v", again, err)
			}
		}
		e := EntryOf(r)
		_ = e.Conflict()
		_ = checkBody(r)
	})
}

func FuzzDecodeDaemon(f *testing.F) {
	f.Add([]byte(daemonBody(f, "{}", 3)))
	f.Add([]byte(`{"schema":1,"revision":1,"rollout":{"k":1,"lanes":[["00000000000000000000000000000000"]]}}` + "\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeDaemon(b)
		if err != nil {
			if !known(err) {
				t.Fatalf("unexpected error: %v", err)
			}
			return
		}
		raw, err := EncodeDaemon(d)
		if errors.Is(err, ErrTooLarge) {
			return // the same in more bytes
		}
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeDaemon(raw); err != nil || again.Revision != d.Revision || !bytes.Equal(again.Spec, d.Spec) {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

func FuzzDecodeLanes(f *testing.F) {
	f.Add([]byte(`[["00000000000000000000000000000000"],["00000000000000000000000000000001"]]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		lanes, err := DecodeLanes(b)
		if err != nil {
			return
		}
		if _, err := EncodeLanes(lanes); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeForget(f *testing.F) {
	f.Add(EncodeForget(Forget{Node: "web-1", ID: NodeID{1}.String()}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeForget(b)
		if err != nil {
			return
		}
		if err := ForgetKey(d.Node).Valid(); err != nil {
			t.Fatal(err)
		}
		if again, err := DecodeForget(EncodeForget(d)); err != nil || again != d {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(testKey(1).Marshal())
	f.Add(testKey(1).Public().Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParsePrivateKey(b); err == nil {
			if again, err := ParsePrivateKey(k.Marshal()); err != nil || again.Public() != k.Public() {
				t.Fatal(err)
			}
		}
		if k, err := ParsePublicKey(b); err == nil {
			if again, err := ParsePublicKey(k.Marshal()); err != nil || again != k {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add("daemon/web")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s); err == nil && k.String() != s {
			t.Fatalf("%q became %q", s, k)
		}
	})
}
