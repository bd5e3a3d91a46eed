package record

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

const (
	// PayloadType is what a signature covers besides the payload, so that a
	// signature made for something else never passes for a record's.
	PayloadType = "application/vnd.agentd.record.v1+json"

	// MaxSignatures is how many signatures an envelope may carry, so that one
	// envelope costs at most so many verifications.
	MaxSignatures = 16

	// maxHeader bounds a payload without its body: the longest header is
	// about 1.7 KiB (8 ancestors of 64 digits, an author of 128 bytes, six
	// times that when escaped); the rest is room for later keys.
	maxHeader   = 4 << 10
	maxKeyID    = 64 // bytes; ours have 16
	maxSigBytes = 200
)

// MaxEnvelope is the largest envelope of any kind, in bytes. Whoever reads one
// from a socket or a disk stops there.
const MaxEnvelope = 200 + MaxSignatures*maxSigBytes + (maxHeader+(MaxBlob+2)/3*4+2)/3*4

// EnvelopeLimit returns the largest envelope of a kind, in bytes; it is at most
// MaxEnvelope.
func EnvelopeLimit(k Kind) int {
	return 200 + MaxSignatures*maxSigBytes + base64.StdEncoding.EncodedLen(payloadLimit(k))
}

func payloadLimit(k Kind) int { return maxHeader + base64.StdEncoding.EncodedLen(bodyLimit(k)) }

// bodyLimit gives kinds that are not known here the larger limit: a newer
// agentd may have uses for it.
func bodyLimit(k Kind) int {
	switch k {
	case KindDaemon, KindControl, KindNode, KindTrust:
		return MaxBody
	default:
		return MaxBlob
	}
}

// signature is one signature of an envelope.
type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// envelope is a DSSE envelope (github.com/secure-systems-lab/dsse, protocol v1).
type envelope struct {
	payload    []byte
	signatures []signature
}

// pae is DSSE's pre-authentication encoding: the bytes that are signed.
func pae(payload []byte) []byte {
	b := make([]byte, 0, len("DSSEv1")+len(PayloadType)+len(payload)+16)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(PayloadType)), 10)
	b = append(b, ' ')
	b = append(b, PayloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// marshal writes the envelope in the one form in which it is stored and
// forwarded: signatures in the order of their key ids.
func (e envelope) marshal() []byte {
	out := struct {
		PayloadType string      `json:"payloadType"`
		Payload     []byte      `json:"payload"`
		Signatures  []signature `json:"signatures"`
	}{PayloadType, e.payload, e.signatures}
	b, err := json.Marshal(out)
	if err != nil {
		panic("record: marshal envelope: " + err.Error()) // strings and bytes always marshal
	}
	return b
}

// parseEnvelope reads the outer shape only; the payload stays opaque. Keys that
// it does not know are skipped, as DSSE asks, and are not kept.
func parseEnvelope(b []byte) (envelope, error) {
	var e envelope
	if len(b) > MaxEnvelope {
		return e, fmt.Errorf("%w: an envelope of %d bytes, %d are allowed", ErrTooLarge, len(b), MaxEnvelope)
	}
	fields, err := decodeObject(b)
	if err != nil {
		return e, fmt.Errorf("%w: the envelope is no JSON object: %w", ErrMalformed, err)
	}
	typ, err := textField(fields, "payloadType", maxKeyComment)
	if err != nil {
		return e, err
	}
	if typ != PayloadType {
		return e, fmt.Errorf("%w: payload type %q is not a record's", ErrMalformed, typ)
	}
	if e.payload, err = bytesField(fields, "payload", payloadLimit(KindBlob)); err != nil {
		return e, err
	}
	if len(e.payload) == 0 {
		return e, fmt.Errorf("%w: the envelope has no payload", ErrMalformed)
	}
	e.signatures, err = parseSignatures(fields["signatures"])
	return e, err
}

func parseSignatures(raw json.RawMessage) ([]signature, error) {
	if len(raw) > 2*MaxSignatures*maxSigBytes {
		return nil, fmt.Errorf("%w: %d bytes of signatures, %d are allowed", ErrTooLarge, len(raw), 2*MaxSignatures*maxSigBytes)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return nil, fmt.Errorf("%w: the envelope has no signatures", ErrMalformed)
	}
	if len(list) > MaxSignatures {
		return nil, fmt.Errorf("%w: %d signatures, %d are allowed", ErrTooLarge, len(list), MaxSignatures)
	}
	sigs := make([]signature, 0, len(list))
	for _, item := range list {
		fields, err := decodeObject(item)
		if err != nil {
			return nil, fmt.Errorf("%w: signature: %w", ErrMalformed, err)
		}
		var s signature
		if s.KeyID, err = textField(fields, "keyid", maxKeyID); err != nil {
			return nil, err
		}
		if s.Sig, err = bytesField(fields, "sig", ed25519.SignatureSize); err != nil {
			return nil, err
		}
		sigs = append(sigs, s)
	}
	return sigs, nil
}

// canonical sorts signatures by key id and keeps one of each: the greatest, so
// that the choice does not depend on the order of arrival (a key may sign the
// same bytes in many ways). Of more than MaxSignatures the lowest ids stay.
func canonical(sigs []signature) []signature {
	sigs = slices.Clone(sigs)
	slices.SortFunc(sigs, func(a, b signature) int {
		if a.KeyID != b.KeyID {
			return bytes.Compare([]byte(a.KeyID), []byte(b.KeyID))
		}
		return bytes.Compare(b.Sig, a.Sig)
	})
	sigs = slices.CompactFunc(sigs, func(a, b signature) bool { return a.KeyID == b.KeyID })
	return sigs[:min(len(sigs), MaxSignatures)]
}

func keyIDs(sigs []signature) []string {
	ids := make([]string, len(sigs))
	for i, s := range sigs {
		ids[i] = s.KeyID
	}
	return ids
}

// Sign makes a record's payload out of h and body, once, and signs it with every
// key. A zero Schema stands for the current one.
func Sign(h Header, body []byte, keys ...PrivateKey) ([]byte, error) {
	if h.Schema == 0 {
		h.Schema = Schema
	}
	payload, err := marshalPayload(h, body)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", h.Key, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("sign %s: no key to sign with", h.Key)
	}
	e := envelope{payload: payload}
	message := pae(payload)
	for _, k := range keys {
		if k.IsZero() {
			return nil, fmt.Errorf("sign %s: the private key is empty", h.Key)
		}
		e.signatures = append(e.signatures, signature{k.Public().ID(), k.sign(message)})
	}
	e.signatures = canonical(e.signatures)
	return e.marshal(), nil
}

// AddSignature signs the payload of an envelope with one more key. The
// signatures that are there are kept as they are, unverified.
func AddSignature(env []byte, key PrivateKey) ([]byte, error) {
	if key.IsZero() {
		return nil, errors.New("add signature: the private key is empty")
	}
	e, err := parseEnvelope(env)
	if err != nil {
		return nil, fmt.Errorf("add signature: %w", err)
	}
	id := key.Public().ID()
	e.signatures = slices.DeleteFunc(e.signatures, func(s signature) bool { return s.KeyID == id })
	e.signatures = append(e.signatures, signature{id, key.sign(pae(e.payload))})
	if len(canonical(e.signatures)) < len(e.signatures) {
		return nil, fmt.Errorf("add signature: %w: more than %d signatures", ErrTooLarge, MaxSignatures)
	}
	e.signatures = canonical(e.signatures)
	return e.marshal(), nil
}

// Verify checks an envelope's signatures over the bytes as they came, and only
// then parses them. The Record keeps the signatures that were verified, and no
// other.
//
// Errors match ErrTooLarge, ErrMalformed, ErrUnsigned or ErrRing; those about
// an envelope whose payload could be told are *RefusedError.
func Verify(env []byte, ring RingID, trust *Trust) (Record, error) {
	r, _, err := VerifyClaim(env, ring, trust)
	return r, err
}

// Claim is what an envelope says of its signers, verified or not.
type Claim struct {
	Signers [32]byte // SignersHash of all key ids in it
	Forged  bool     // a signature under a trusted key's id does not match
}

// VerifyClaim is Verify, and tells what else the envelope claimed.
func VerifyClaim(env []byte, ring RingID, trust *Trust) (Record, Claim, error) {
	e, err := parseEnvelope(env)
	if err != nil {
		return Record{}, Claim{}, err
	}
	refuse := &RefusedError{Digest: sha256.Sum256(e.payload), KeyIDs: keyIDs(canonical(e.signatures))}
	message := pae(e.payload)
	var good []signature
	var forged []string
	for _, s := range e.signatures {
		k, ok := trust.Lookup(s.KeyID)
		switch {
		case !ok:
		case k.verify(message, s.Sig):
			good = append(good, s)
		default:
			forged = append(forged, s.KeyID)
		}
	}
	refuse.Forged = len(forged) > 0
	claim := Claim{SignersHash(refuse.KeyIDs), refuse.Forged}
	if len(good) == 0 {
		refuse.Err = unsigned(trust, refuse.KeyIDs, forged)
		return Record{}, claim, refuse
	}
	refuse.Trusted = true
	e.signatures = canonical(good)
	r, err := parsePayload(e.payload)
	if err == nil && r.Ring != ring {
		err = fmt.Errorf("%w: %s was signed for ring %s, this is ring %s", ErrRing, r.Key, r.Ring, ring)
	}
	if err != nil {
		refuse.Err = err
		return Record{}, claim, refuse
	}
	r.Digest, r.Signers, r.Envelope = refuse.Digest, keyIDs(e.signatures), e.marshal()
	return r, claim, nil
}

// Inspect parses an envelope without checking its signatures, for whoever got
// it from an agentd that has. The Record names no signers.
func Inspect(env []byte) (Record, error) {
	e, err := parseEnvelope(env)
	if err != nil {
		return Record{}, err
	}
	r, err := parsePayload(e.payload)
	if err != nil {
		return Record{}, err
	}
	e.signatures = canonical(e.signatures)
	r.Digest, r.Envelope = sha256.Sum256(e.payload), e.marshal()
	return r, nil
}
