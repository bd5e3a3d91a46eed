package record

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Schema is the version of the payload that this package writes and fully
// understands. A payload of a later schema keeps the keys schema, ring, kind,
// name, generation, parent, ancestors and delete as they are here, so that it
// can be ordered, stored and forwarded; everything else may change.
const Schema = 1

const (
	// MaxGeneration is the largest integer that every JSON reader keeps exact
	// (2^53 - 1, RFC 8259 section 6).
	MaxGeneration = 1<<53 - 1

	maxAuthor = 128 // bytes
	maxSchema = 1 << 20
)

type payloadV1 struct {
	Schema     int      `json:"schema"`
	Ring       string   `json:"ring"`
	Kind       string   `json:"kind"`
	Name       string   `json:"name"`
	Generation uint64   `json:"generation"`
	Parent     string   `json:"parent,omitempty"`
	Ancestors  []string `json:"ancestors,omitempty"`
	Author     string   `json:"author,omitempty"`
	Created    string   `json:"created"`
	Delete     bool     `json:"delete,omitempty"`
	Body       []byte   `json:"body,omitempty"`
}

func marshalPayload(h Header, body []byte) ([]byte, error) {
	h.Created = h.Created.UTC().Truncate(time.Second)
	if err := checkRecord(h, body); err != nil {
		return nil, err
	}
	p := payloadV1{
		Schema: h.Schema, Ring: h.Ring.String(), Kind: string(h.Key.Kind), Name: h.Key.Name,
		Generation: h.Generation, Author: h.Author, Created: h.Created.Format(time.RFC3339),
		Delete: h.Delete, Body: body,
	}
	if !h.Parent.IsZero() {
		p.Parent = h.Parent.String()
	}
	for _, a := range h.Ancestors {
		p.Ancestors = append(p.Ancestors, a.String())
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("marshal payload: %w", err)
	}
	return b, nil
}

// parsePayload reads bytes whose signature was verified. For the current schema
// it is strict: every key known, spelled exactly and given once, so that no two
// readers can take the same signed bytes for different things.
func parsePayload(b []byte) (Record, error) {
	var r Record
	fields, err := decodeObject(b)
	if err != nil {
		return r, fmt.Errorf("%w: the payload is no JSON object: %w", ErrMalformed, err)
	}
	if err := numberField(fields, "schema", maxSchema, &r.Schema); err != nil {
		return r, err
	}
	if r.Schema < 1 {
		return r, fmt.Errorf("%w: schema %d", ErrMalformed, r.Schema)
	}
	if err := parseCore(fields, &r); err != nil {
		return r, err
	}
	if r.Schema > Schema {
		// What is not understood is not judged, apart from its size.
		r.Author, _ = textField(fields, "author", maxAuthor)
		if !printable(r.Author) {
			r.Author = ""
		}
		created, _ := textField(fields, "created", 64)
		r.Created, _ = time.Parse(time.RFC3339, created)
		r.Body, _ = bytesField(fields, "body", bodyLimit(r.Key.Kind))
		return r, r.Key.Valid()
	}
	if len(b) > payloadLimit(r.Key.Kind) {
		return r, fmt.Errorf("%w: %s: a payload of %d bytes, %d are allowed", ErrTooLarge, r.Key, len(b), payloadLimit(r.Key.Kind))
	}
	if err := parseRest(fields, &r); err != nil {
		return r, err
	}
	return r, checkRecord(r.Header, r.Body)
}

// parseCore reads the keys that every schema has.
func parseCore(fields map[string]json.RawMessage, r *Record) error {
	text, err := textField(fields, "ring", 2*len(r.Ring))
	if err != nil {
		return err
	}
	if err := unhex(r.Ring[:], text, "ring"); err != nil {
		return err
	}
	if text, err = textField(fields, "kind", maxKind); err != nil {
		return err
	}
	r.Key.Kind = Kind(text)
	if r.Key.Name, err = textField(fields, "name", MaxName); err != nil {
		return err
	}
	if err := numberField(fields, "generation", MaxGeneration, &r.Generation); err != nil {
		return err
	}
	if r.Generation == 0 {
		return fmt.Errorf("%w: generation 0", ErrMalformed)
	}
	if _, ok := fields["parent"]; ok {
		if text, err = textField(fields, "parent", 2*len(r.Parent)); err != nil {
			return err
		}
		if err := unhex(r.Parent[:], text, "parent"); err != nil {
			return err
		}
	}
	if raw, ok := fields["delete"]; ok {
		if isNull(raw) || json.Unmarshal(raw, &r.Delete) != nil {
			return fmt.Errorf("%w: %q is not true or false", ErrMalformed, "delete")
		}
	}
	return parseAncestors(fields["ancestors"], r)
}

func parseAncestors(raw json.RawMessage, r *Record) error {
	if raw == nil {
		return nil
	}
	if len(raw) > maxHeader {
		return fmt.Errorf("%w: %d bytes of ancestors", ErrTooLarge, len(raw))
	}
	var list []*string
	if err := json.Unmarshal(raw, &list); err != nil || isNull(raw) {
		return fmt.Errorf("%w: %q is no list of digests", ErrMalformed, "ancestors")
	}
	if len(list) > MaxAncestors {
		return fmt.Errorf("%w: %d ancestors, %d are allowed", ErrTooLarge, len(list), MaxAncestors)
	}
	for _, s := range list {
		var d Digest
		if s == nil {
			return fmt.Errorf("%w: %q is no list of digests", ErrMalformed, "ancestors")
		}
		if err := unhex(d[:], *s, "ancestors"); err != nil {
			return err
		}
		r.Ancestors = append(r.Ancestors, d)
	}
	return nil
}

func parseRest(fields map[string]json.RawMessage, r *Record) (err error) {
	for k := range fields {
		switch k {
		case "schema", "ring", "kind", "name", "generation", "parent", "ancestors", "author", "created", "delete", "body":
		default:
			return fmt.Errorf("%w: schema %d has no key %q", ErrMalformed, r.Schema, k)
		}
	}
	if _, ok := fields["author"]; ok {
		if r.Author, err = textField(fields, "author", maxAuthor); err != nil {
			return err
		}
	}
	if _, ok := fields["body"]; ok {
		if r.Body, err = bytesField(fields, "body", bodyLimit(r.Key.Kind)); err != nil {
			return err
		}
	}
	created, err := textField(fields, "created", 64)
	if err != nil {
		return err
	}
	if r.Created, err = time.Parse(time.RFC3339, created); err != nil {
		return fmt.Errorf("%w: created: %q is not an RFC 3339 time", ErrMalformed, created)
	}
	r.Created = r.Created.UTC()
	return nil
}

// checkRecord holds the rules of schema 1 that depend on nothing but the record
// itself. Whatever depends on what a node already has belongs to Admit.
func checkRecord(h Header, body []byte) error {
	if err := h.Key.Valid(); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrMalformed, h.Key, fmt.Sprintf(format, args...))
	}
	switch {
	case len(body) > bodyLimit(h.Key.Kind):
		return fmt.Errorf("%w: %s: a body of %d bytes, %d are allowed", ErrTooLarge, h.Key, len(body), bodyLimit(h.Key.Kind))
	case h.Schema < 1 || h.Schema > maxSchema:
		return bad("schema %d", h.Schema)
	case h.Generation == 0 || h.Generation > MaxGeneration:
		return bad("generation %d", h.Generation)
	case len(h.Ancestors) > MaxAncestors:
		return bad("%d ancestors, %d are allowed", len(h.Ancestors), MaxAncestors)
	case h.Parent.IsZero() != (len(h.Ancestors) == 0), len(h.Ancestors) > 0 && h.Ancestors[0] != h.Parent:
		return bad("the first ancestor is not the parent")
	case len(h.Author) > maxAuthor || !printable(h.Author):
		return bad("the author must be at most %d bytes of printable text", maxAuthor)
	case h.Created.Year() < 0 || h.Created.Year() > 9999:
		return bad("created in the year %d", h.Created.Year())
	case h.Delete && len(body) > 0:
		return bad("a delete carries no body")
	case h.Key.Kind == KindBlob && !h.Delete && h.Key.Name != BlobName(body):
		return bad("the name is not the hash of the body")
	}
	for i, a := range h.Ancestors {
		for _, b := range h.Ancestors[:i] {
			if a == b {
				return bad("ancestor %s is named twice", a.Short())
			}
		}
	}
	return nil
}

// decodeObject splits a JSON object into its keys; a key given twice, or
// anything after the object, is an error.
func decodeObject(b []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("no object")
	}
	fields := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		k, ok := t.(string)
		if !ok {
			return nil, errors.New("a key that is no string")
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		if _, twice := fields[k]; twice {
			return nil, fmt.Errorf("key %q is given twice", k)
		}
		fields[k] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	return fields, nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// textField reads a string of at most limit bytes. Each byte takes at most six
// when escaped, which bounds what is decoded.
func textField(fields map[string]json.RawMessage, key string, limit int) (string, error) {
	raw, ok := fields[key]
	if !ok {
		return "", fmt.Errorf("%w: no %q", ErrMalformed, key)
	}
	if len(raw) > 6*limit+2 {
		return "", fmt.Errorf("%w: %q has more than %d bytes", ErrTooLarge, key, limit)
	}
	var s string
	if isNull(raw) || json.Unmarshal(raw, &s) != nil {
		return "", fmt.Errorf("%w: %q is no string", ErrMalformed, key)
	}
	if len(s) > limit {
		return "", fmt.Errorf("%w: %q has %d bytes, %d are allowed", ErrTooLarge, key, len(s), limit)
	}
	return s, nil
}

// bytesField reads base64 of at most limit bytes; nothing is allocated for more.
func bytesField(fields map[string]json.RawMessage, key string, limit int) ([]byte, error) {
	raw, ok := fields[key]
	if !ok {
		return nil, fmt.Errorf("%w: no %q", ErrMalformed, key)
	}
	if len(raw) > base64.StdEncoding.EncodedLen(limit)+2 {
		return nil, fmt.Errorf("%w: %q has more than %d bytes", ErrTooLarge, key, limit)
	}
	if len(raw) < 2 || raw[0] != '"' || bytes.IndexByte(raw, '\\') >= 0 {
		return nil, fmt.Errorf("%w: %q is no base64", ErrMalformed, key)
	}
	b, err := base64.StdEncoding.Strict().AppendDecode(nil, raw[1:len(raw)-1])
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no base64", ErrMalformed, key)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%w: %q has %d bytes, %d are allowed", ErrTooLarge, key, len(b), limit)
	}
	return b, nil
}

func numberField[T int | uint64](fields map[string]json.RawMessage, key string, limit T, into *T) error {
	raw, ok := fields[key]
	if !ok {
		return fmt.Errorf("%w: no %q", ErrMalformed, key)
	}
	if isNull(raw) || json.Unmarshal(raw, into) != nil || *into < 0 || *into > limit {
		return fmt.Errorf("%w: %q is not a number from 0 to %d", ErrMalformed, key, limit)
	}
	return nil
}

func unhex(into []byte, s, key string) error {
	if len(s) != 2*len(into) {
		return fmt.Errorf("%w: %q has %d hex digits, not %d", ErrMalformed, key, len(s), 2*len(into))
	}
	if _, err := hex.Decode(into, []byte(s)); err != nil {
		return fmt.Errorf("%w: %q is not hex", ErrMalformed, key)
	}
	return nil
}
