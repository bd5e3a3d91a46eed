package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/agentd/agentd/spec/record"
)

const (
	recordTag  = "agentd-record-1"
	ratchetTag = "agentd-ratchet-1"

	recSuffix = ".rec"
	tmpSuffix = ".tmp"

	// maxHead bounds a file's first line: tag, 64 digits, length.
	maxHead = 128
)

var (
	errTooLong = errors.New("it is longer than any record")
	errDamaged = errors.New("its checksum does not match its content")
	errCut     = errors.New("it is cut short")
)

// encodeFile puts a line with a checksum and a length before the content.
func encodeFile(tag string, content []byte) []byte {
	return append(fileHead(tag, content), content...)
}

func fileHead(tag string, content []byte) []byte {
	return fmt.Appendf(nil, "%s %x %d\n", tag, sha256.Sum256(content), len(content))
}

// decodeFile is its inverse. The first line has exactly one right form, so that
// a changed bit is found wherever it is. The result aliases b.
func decodeFile(tag string, b []byte) ([]byte, error) {
	i := bytes.IndexByte(b[:min(len(b), maxHead)], '\n')
	if i < 0 {
		return nil, errCut
	}
	content := b[i+1:]
	if !bytes.Equal(b[:i+1], fileHead(tag, content)) {
		return nil, errDamaged
	}
	return content, nil
}

// fileID is what a record's file name tells: KIND.NAME.GEN.DIGEST.rec. It is
// for people, and for knowing what is missing when the content is damaged; what
// counts is the content.
type fileID struct {
	key        record.Key
	generation uint64
	digest     string // leading hex digits
}

func recordName(r record.Record, digits int) string {
	return fmt.Sprintf("%s.%s.%d.%s%s", r.Key.Kind, r.Key.Name, r.Generation, r.Digest.String()[:digits], recSuffix)
}

func parseRecordName(name string) (fileID, bool) {
	rest, ok := strings.CutSuffix(name, recSuffix)
	if !ok {
		return fileID{}, false
	}
	i := strings.LastIndexByte(rest, '.')
	if i < 0 {
		return fileID{}, false
	}
	id := fileID{digest: rest[i+1:]}
	rest = rest[:i]
	if i = strings.LastIndexByte(rest, '.'); i < 0 {
		return fileID{}, false
	}
	gen := rest[i+1:]
	g, err := strconv.ParseUint(gen, 10, 53)
	if err != nil || g == 0 || strconv.FormatUint(g, 10) != gen {
		return fileID{}, false
	}
	id.generation = g
	if id.key, ok = parseFileKey(rest[:i]); !ok {
		return fileID{}, false
	}
	if n := len(id.digest); n != shortDigits && n != fullDigits || strings.Trim(id.digest, "0123456789abcdef") != "" {
		return fileID{}, false
	}
	return id, true
}

// fileKey is a key as a file name; the kind has no dots.
func fileKey(k record.Key) string { return string(k.Kind) + "." + k.Name }

func parseFileKey(s string) (record.Key, bool) {
	kind, name, ok := strings.Cut(s, ".")
	k := record.Key{Kind: record.Kind(kind), Name: name}
	return k, ok && k.Valid() == nil
}

// covers reports whether v is at least as new as what the name tells.
func (id fileID) covers(v record.Version) bool {
	if v.Generation != id.generation {
		return v.Generation > id.generation
	}
	return v.Digest.String()[:len(id.digest)] >= id.digest
}

func encodeRatchet(v record.Version) []byte {
	return encodeFile(ratchetTag, fmt.Appendf(nil, "%d %s\n", v.Generation, v.Digest))
}

func decodeRatchet(b []byte) (record.Version, error) {
	content, err := decodeFile(ratchetTag, b)
	if err != nil {
		return record.Version{}, err
	}
	text, ok := strings.CutSuffix(string(content), "\n")
	gen, digest, ok2 := strings.Cut(text, " ")
	if !ok || !ok2 {
		return record.Version{}, errDamaged
	}
	var v record.Version
	if v.Generation, err = strconv.ParseUint(gen, 10, 53); err != nil {
		return record.Version{}, errDamaged
	}
	if v.Digest, err = record.ParseDigest(digest); err != nil {
		return record.Version{}, errDamaged
	}
	return v, nil
}
